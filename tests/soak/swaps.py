"""Requests while the adapters that answer them are replaced: every answer is that of a version current at the time."""

from __future__ import annotations

import base64
import io
import math
import random
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.service.work_client import noise
from tests.soak.made import SEED
from vlm_ft.adapters import TENSORS, adapter_folder
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.registry import Registry

CLIENTS = 8
BETWEEN = 8  # requests from one swap to the next, so that a slow machine swaps as often per request as a fast one
EQUAL = 1e-3  # probabilities that differ by less are the same; those of two versions differ by more than twice this

Answers = Mapping[tuple[str, int], Sequence[float]]
"""(adapter, version) -> the probabilities of its answer about the photo."""


@dataclass(frozen=True)
class Asked:
    """An answer with the version that it names, and when it was asked for and received, by this process's clock."""

    adapter: str
    version: int
    sent: float
    received: float
    probabilities: Sequence[float]


@dataclass(frozen=True)
class Swap:
    """A version that became current between two moments."""

    adapter: str
    version: int
    began: float
    ended: float


def made_registry(folder: Path, run: Path, adapters: int) -> Registry:
    """A registry of adapters with two versions each, whose weights are those of the run plus different noise."""
    registry, copy = Registry(folder), folder.with_name("copy")
    for number in range(2 * adapters):
        shutil.copytree(run, copy)
        noise, weights = torch.Generator().manual_seed(number), adapter_folder(copy) / TENSORS
        altered = {
            name: one + 0.1 * torch.randn(one.shape, generator=noise) for name, one in load_file(weights).items()
        }
        save_file(altered, weights)
        registry.add(f"part-{number // 2}", copy)
        shutil.rmtree(copy)
    return registry


def swaps(address: str, registry: Registry, sheet: Sheet, requests: int) -> None:
    """Ask a server of this registry while promoting one version after the other."""
    photo = noise(SEED)
    expected = _expected(registry, photo)
    names, choice = registry.names(), random.Random(SEED)
    made, pending = [Swap(name, 1, 0, 0) for name in names], list[Future[None]]()
    with (
        ThreadPoolExecutor(CLIENTS) as clients,
        ThreadPoolExecutor(1) as swapper,
        httpx.Client(base_url=address, timeout=60) as client,
    ):

        def answer(number: int) -> Asked:
            if number % BETWEEN == 0:
                pending.append(swapper.submit(_swap, registry, choice.choice(names), made))
            return _asked(client, *plan[number], photo)

        plan = [(choice.choice(names), choice.random() < 0.5) for _ in range(requests)]
        answers = list(clients.map(answer, range(requests)))
        for swap in pending:
            swap.result()
    possible = [_possible(answer, made) for answer in answers]
    wrong = sum(
        named not in versions or not np.allclose(answer.probabilities, expected[named], atol=EQUAL)
        for answer, versions in zip(answers, possible, strict=True)
        for named in [(answer.adapter, answer.version)]
    )
    during = f"during {requests:,} requests to {len(names)} adapters"
    sheet.add(f"swaps {during}", len(made) - len(names), 2 * len(names), "higher", "swaps")
    certain = sum(len(versions) == 1 for versions in possible)
    sheet.add("answers for which only one version was possible", certain, requests / 4, "higher", "answers")
    sheet.add("answers of a wrong or stale adapter", wrong, 0, "lower", "answers")


def _expected(registry: Registry, photo: bytes) -> Answers:
    """The answer of each version, from a separate engine."""
    versions = [version for name in registry.names() for version in registry.versions(name)]
    engine = Engine.open([version.folder for version in versions])
    image = Image.open(io.BytesIO(photo))
    answers = {
        (version.name, version.number): _probabilities(engine.predict([Request((image,), adapter=name)])[0].fields)
        for version, name in zip(versions, engine.cards, strict=True)
    }
    different = [[not np.allclose(one, two, atol=2 * EQUAL) for two in answers.values()] for one in answers.values()]
    assert np.array_equal(different, ~np.eye(len(answers), dtype=bool)), "two versions answer alike"
    return answers


def _probabilities(fields: Mapping[str, Any]) -> list[float]:
    distributions = [getattr(field, "distribution", None) or field["distribution"] for field in fields.values()]
    return [share for distribution in distributions for share in distribution.values()]


def _swap(registry: Registry, name: str, made: list[Swap]) -> None:
    version, began = 3 - registry.current(name).number, time.monotonic()
    registry.promote(name, version)
    made.append(Swap(name, version, began, time.monotonic()))


def _asked(client: httpx.Client, adapter: str, as_chat: bool, photo: bytes) -> Asked:
    sent = time.monotonic()
    if as_chat:
        url = f"data:image/png;base64,{base64.b64encode(photo).decode()}"
        content = [{"type": "image_url", "image_url": {"url": url}}]
        body = {"model": adapter, "messages": [{"role": "user", "content": content}]}
        found = client.post("/v1/chat/completions", json=body).raise_for_status().json()["assessment"]
    else:
        files = {"photos": ("a.png", photo)}
        found = client.post("/v1/assess", data={"adapter": adapter}, files=files).raise_for_status().json()
    return Asked(adapter, found["version"], sent, time.monotonic(), _probabilities(found["fields"]))


def _possible(answer: Asked, made: Sequence[Swap]) -> set[tuple[str, int]]:
    """The versions of the adapter that were current at some time between request and response."""
    of_adapter = [swap for swap in made if swap.adapter == answer.adapter]
    ends = [swap.ended for swap in of_adapter[1:]] + [math.inf]
    return {
        (swap.adapter, swap.version)
        for swap, end in zip(of_adapter, ends, strict=True)
        if swap.began <= answer.received and answer.sent <= end
    }
