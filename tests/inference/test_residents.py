"""Loading and dropping adapters changes no answer, and an engine admits no more than its limit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.families import SEEING, tower_inputs
from tests.inference.likeness import alike, altered
from vlm_ft.adapters import ADAPTER, CONFIG, TENSORS, read_card
from vlm_ft.bases.load import load_base
from vlm_ft.errors import AdapterError, BusyError
from vlm_ft.inference.admission import Admission
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request

Runs = Callable[..., Path]


@pytest.fixture
def folders(run_of: Runs, tmp_path: Path) -> dict[str, Path]:
    first = run_of("fast_vlm") / ADAPTER
    return {"first": first, "second": altered(first, tmp_path / "second"), "third": altered(first, tmp_path / "third")}


def opened(folders: dict[str, Path], **options: Any) -> Engine:
    return Engine(load_base(read_card(folders["first"]).base.name), folders, **options)


def test_adapters_that_do_not_fit_take_turns(folders: dict[str, Path], photos: list[Path]) -> None:
    """With a budget for one, answers equal those of an engine that holds all, and dropped adapters are forgotten."""
    requests = [Request(images=(photo,), adapter=name) for photo in photos for name in ("first", "second")]
    expected = opened(folders).predict(requests)
    sizes = {name: (folder / TENSORS).stat().st_size for name, folder in folders.items()}
    engine = opened(folders, memory=max(sizes.values()))
    for request, answer in zip(requests, expected, strict=True):
        assert alike(engine.predict([request]), [answer])
        assert engine._residents.size == sizes[request.adapter]
        assert {name for name, *_ in engine._decoder._prefixes} <= {request.adapter}
    assert alike(engine.predict(requests), expected)  # a batch that needs both adapters gets both
    form = engine.cards["first"].form
    bare = Request(images=(photos[0],), adapter=BASE, form=form)
    assert alike(engine.predict([bare]), Engine(load_base(engine.base.ref.name)).predict([bare]))


def test_identical_files_are_held_once(folders: dict[str, Path], photos: list[Path]) -> None:
    engine = opened({**folders, "third": folders["second"]})
    assert engine._residents.size == sum((folders[name] / TENSORS).stat().st_size for name in ("first", "second"))
    second, third = engine.predict([Request(images=(photos[0],), adapter=name) for name in ("second", "third")])
    assert alike([second], [third])


def test_equal_tensors_with_other_settings_are_another_adapter(folders: dict[str, Path], tmp_path: Path) -> None:
    stronger = Path(shutil.copytree(folders["first"], tmp_path / "stronger"))
    config = json.loads((stronger / CONFIG).read_text())
    (stronger / CONFIG).write_text(json.dumps({**config, "lora_alpha": 2 * config["lora_alpha"]}))
    engine = opened({"first": folders["first"], "stronger": stronger})
    assert engine._residents.size == 2 * (stronger / TENSORS).stat().st_size


def test_files_that_changed_are_not_loaded_again(folders: dict[str, Path], photos: list[Path]) -> None:
    engine = opened({name: folders[name] for name in ("second", "first")}, memory=0)
    file = folders["second"] / TENSORS
    save_file({name: 3 * tensor for name, tensor in load_file(file).items()}, file)
    with pytest.raises(AdapterError, match="its files have changed; open it again"):
        engine.predict([Request(images=(photos[0],), adapter="second")])


@pytest.mark.parametrize("name", SEEING)
def test_the_tower_runs_once_on_a_photo_for_all_adapters(
    name: str, untrained_run_of: Runs, photos: list[Path], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"adapter": {"rank": 2, "language": "lora", "projector": "frozen", "vision": "frozen"}}
    first = untrained_run_of(name, **settings) / ADAPTER
    weighted = {**settings, "adapter": {**settings["adapter"], "language": "dora"}}  # answers in a batch of its own
    adapters = {"second": altered(first, tmp_path / "second"), "dora": untrained_run_of(name, **weighted) / ADAPTER}
    engine = opened({"first": first, **adapters})
    requests = [Request(images=(photo,), adapter=adapter) for photo in photos for adapter in engine.cards]
    with tower_inputs(engine.base) as seen:
        alone = [engine.predict([request])[0] for request in requests]
        every = sum(seen)
        seen.clear()
        together = engine.predict(requests)
        assert sum(seen) * len(engine.cards) == every
        seen.clear()
        picture = Image.open(photos[0])
        engine.predict([replace(request, images=(picture,)) for request in requests])
        assert sum(seen) * 2 * len(engine.cards) == every
    assert alike(together, alone)


def test_each_adapter_keeps_its_own_projector(folders: dict[str, Path], photos: list[Path]) -> None:
    engine = opened(folders)
    requests = [Request(images=(photos[0],), adapter=name) for name in folders]
    with tower_inputs(engine.base) as seen:
        together = engine.predict(requests)
    assert len(seen) == 1
    assert alike(together, [engine.predict([request])[0] for request in requests])


def test_adapters_loaded_between_answers_in_bf16_are_exact(folders: dict[str, Path], photos: list[Path]) -> None:
    requests = [Request(images=(photos[0],), adapter=name) for name in folders]
    together = [opened(folders, precision="bf16").predict([request])[0] for request in requests]
    turns = opened(folders, precision="bf16", memory=0)
    assert alike([turns.predict([request])[0] for request in requests], together)
    trained = [p for name, p in turns.base.model.named_parameters() if "lora_" in name or "modules_to_save" in name]
    assert {parameter.dtype for parameter in trained} == {torch.float32}


def test_no_more_requests_are_admitted_than_the_limit_allows() -> None:
    door = Admission(3)
    with door.admit(2), pytest.raises(BusyError, match="2 of at most 3 requests in progress"), door.admit(2):
        pass
    with door.admit(100):  # nothing else has been admitted
        pass
    with door.admit(2), door.admit(1):
        pass
    with Admission(None).admit(10**6):
        pass
