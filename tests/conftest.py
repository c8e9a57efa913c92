"""Shared by all tests: a closed network, one thread, tiny bases, a drawn set, and runs trained on it."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {
    "HF_HUB_OFFLINE": "1",
    "GRADIO_ANALYTICS_ENABLED": "False",
    "OMP_NUM_THREADS": "1",  # tiny models spend longer waiting for a busy second core than computing; torch reads it
    "TOKENIZERS_PARALLELISM": "false",
}

import pytest
from rich.console import Console

from datasets_vision.synthetic import write_set
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Items
from vlm_ft.answers.task import Task
from vlm_ft.bases import compact
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.tiny import save_tiny
from vlm_ft.inference.engine import Engine
from vlm_ft.recipe import Recipe

OWN_TASK = """
from typing import Literal
from vlm_ft.answers.kinds import Answer
from vlm_ft.answers.task import Task

class Verdict(Answer):
    verdict: Literal["good", "bad"]

def read(label):
    return {} if label.objects is None else {"verdict": "bad" if label.objects else "good"}

TASK = Task(
    name="my_task",
    title="My task",
    answer=Verdict,
    instruction="Judge the part.",
    read=read,
    sample=Verdict(verdict="bad"),
)
"""


class NetworkClosedError(RuntimeError):
    """A test tried to reach an address outside this machine; not an `OSError`, so that nothing retries it silently."""


def _is_local(address: Any) -> bool:
    if not isinstance(address, tuple):
        return True  # a Unix socket's path
    if address[0] in ("localhost", ""):
        return True
    try:
        return ipaddress.ip_address(address[0].split("%")[0]).is_loopback
    except ValueError:
        return False


def _guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
    def connect_locally(self: socket.socket, address: Any) -> Any:
        if not _is_local(address):
            raise NetworkClosedError(f"tests run without a network; something connects to {address}")
        return connect(self, address)

    return connect_locally


socket.socket.connect = _guarded(socket.socket.connect)  # type: ignore[method-assign]
socket.socket.connect_ex = _guarded(socket.socket.connect_ex)  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by its name, written at the first call."""
    folders: dict[str, Path] = {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = save_tiny(name, tmp_path_factory.mktemp(name))
        return folders[name]

    return folder


def whole_form(task: Task) -> Form:
    """The task's form with all fields; an open choice has the sample's names and "another"."""
    values = task.sample.model_dump(mode="json")
    options: dict[str, list[str]] = {}
    for field in task.fields:
        listed = isinstance(field.kind, Items)
        for part in field.kind.fields if listed else (field,):
            if part.kind == Choice(options=()):
                used = {row[part.name] for row in (values[field.name] if listed else [values])}
                options[f"{field.name}.{part.name}" if listed else part.name] = sorted(used | {"another"})
    return Form.of(task, options)


@pytest.fixture(name="whole_form", scope="session")
def _whole_form() -> Callable[[Task], Form]:
    return whole_form


@pytest.fixture(scope="session")
def drawings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty small drawn surfaces with boxes, four of each of four kinds of defects and four good ones."""
    return write_set("product_defects", tmp_path_factory.mktemp("drawn") / "set", 20, 7, size=64)


@pytest.fixture(scope="session")
def clauses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of twelve short passages, each of one of two kinds of clause."""
    folder = tmp_path_factory.mktemp("clauses")
    kinds = ("audit", "notice")
    rows = [f"Passage {index} grants {kinds[index % 2]}.\t{kinds[index % 2]}" for index in range(12)]
    (folder / "rows.tsv").write_text("\n".join(["text\tclause_type", *rows]) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def own_task(tmp_path: Path) -> Path:
    """A task file of a user's own, named my_task."""
    file = tmp_path / "my_task.py"
    file.write_text(OWN_TASK, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def recipe_of(tiny_folder: Callable[[str], Path], drawings: Path) -> Callable[..., Recipe]:
    """A recipe for a few steps of a tiny base on the drawings: ``recipe_of("qwen3_vl", training={"max_steps": 4})``.

    A mapping overrides keys of the default mapping; anything else replaces the default.
    """
    small = {
        "name": "trial",
        "task": "product_defects",
        "data": [{"path": str(drawings)}],
        "fields": ["passed", "kind"],
        "splits": {"train": 0.5, "tune": 0.25, "calibrate": 0.0, "test": 0.25},
        "adapter": {"rank": 4, "alpha": 8},
        "training": {
            "max_steps": 2,
            "batch_size": 4,
            "evaluations": 2,
            "learning_rate": 5e-3,
            "precision": "fp32",
            "report_to": [],
        },
    }

    def recipe(base: str, **settings: Any) -> Recipe:
        content: dict[str, Any] = {**small, "base": str(tiny_folder(base))}
        for key, value in settings.items():
            content[key] = {**content.get(key, {}), **value} if isinstance(value, dict) else value
        return Recipe.model_validate(content)

    return recipe


@pytest.fixture(scope="module")
def bare(tiny_folder: Callable[[str], Path]) -> Callable[[str], Engine]:
    """The engine of a tiny base without adapters, opened at the first call."""
    engines: dict[str, Engine] = {}

    def of(name: str) -> Engine:
        if name not in engines:
            engines[name] = Engine(load_base(str(tiny_folder(name))))
        return engines[name]

    return of


@pytest.fixture(scope="session")
def fetched() -> Base:
    """The base `compact` if it was downloaded before; tests download nothing."""
    if not (compact.home() / "bases" / compact.COMPACT / "config.json").is_file():
        pytest.skip(f"the base {compact.COMPACT} is not on this machine: run {compact.GET}")
    return load_base(compact.COMPACT)


@pytest.fixture(scope="session")
def quiet() -> Console:
    """A console whose output nobody reads."""
    return Console(file=Path(os.devnull).open("w"), highlight=False)


@pytest.fixture(scope="session")
def run_of(
    recipe_of: Callable[..., Recipe], quiet: Console, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Path]:
    """The folder of a finished run of `recipe_of`'s recipe; the same settings are trained once per session."""
    runs: dict[str, Path] = {}

    def run(base: str, **settings: Any) -> Path:
        from vlm_ft.training.run import train

        recipe = recipe_of(base, **settings)
        key = recipe.model_dump_json()
        if key not in runs:
            runs[key] = tmp_path_factory.mktemp("runs") / recipe.name
            train(recipe, runs[key], console=quiet)
        return runs[key]

    return run
