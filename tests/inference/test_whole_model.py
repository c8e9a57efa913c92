"""A fully trained base is served from its own folder, and never mistaken for another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import AutoModelForImageTextToText

from tests.inference.likeness import alike
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.errors import AdapterError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request
from vlm_ft.recipe import Recipe
from vlm_ft.scoring.score import adapter_identity
from vlm_ft.training.run import train

Runs = Callable[..., Path]
FULL = {"language": "full", "projector": "full", "vision": "full"}


@pytest.fixture(scope="module", params=["qwen3_vl", "fast_vlm"])
def run(request: pytest.FixtureRequest, run_of: Runs) -> Path:
    return run_of(request.param, adapter=FULL, training={"max_steps": 4, "learning_rate": 2e-2})


@pytest.fixture(scope="module")
def photos(drawings: Path) -> list[Path]:
    return sorted((drawings / "JPEGImages").glob("*.png"))[:4]


def test_the_folder_is_a_model_that_transformers_loads(run: Path) -> None:
    folder, card = run / ADAPTER, read_card(run / ADAPTER)
    assert (folder / "config.json").is_file()
    assert not (folder / "adapter_config.json").exists()
    assert card.weights not in (None, card.base.fingerprint)
    assert card.training["reload_difference"] < 1e-3
    base = AutoModelForImageTextToText.from_pretrained(card.base.name).state_dict()
    tuned = AutoModelForImageTextToText.from_pretrained(folder).state_dict()
    assert base.keys() == tuned.keys()
    assert any(not torch.equal(base[name], tuned[name]) for name in base)
    assert "library_name: transformers" in (folder / "README.md").read_text()


def test_it_answers_with_its_own_weights(run: Path, photos: list[Path]) -> None:
    engine = Engine.open([run / ADAPTER])
    form = engine.cards["trial"].form
    served = engine.predict([Request(images=(photo,), adapter="trial") for photo in photos])
    assert [answer.error for answer in served] == [None] * len(photos)
    plain = Engine.open([], base=str(run / ADAPTER))
    assert alike(served, plain.predict([Request(images=(photo,), form=form) for photo in photos]))
    before = Engine.open([], base=engine.cards["trial"].base.name)
    assert served != before.predict([Request(images=(photo,), form=form) for photo in photos])


def test_it_shares_no_engine_with_adapters_of_another_base(run_of: Runs) -> None:
    adapter = run_of("qwen3_vl")
    whole = run_of("qwen3_vl", adapter=FULL, training={"max_steps": 4, "learning_rate": 2e-2})
    with pytest.raises(AdapterError, match=r"is a whole model .* open it without other adapters"):
        Engine.open([adapter / ADAPTER, whole / ADAPTER])
    with pytest.raises(AdapterError, match="its base is"):
        Engine.open([whole / ADAPTER, adapter / ADAPTER])
    with pytest.raises(AdapterError, match="is a whole model"):
        Engine.open([whole / ADAPTER], base=read_card(whole / ADAPTER).base.name)


def test_adapters_that_were_trained_on_it_share_its_engine(
    run_of: Runs, recipe_of: Callable[..., Recipe], quiet: Console, photos: list[Path], tmp_path: Path
) -> None:
    whole = run_of("qwen3_vl", adapter=FULL, training={"max_steps": 4, "learning_rate": 2e-2})
    recipe = recipe_of("qwen3_vl", name="above", adapter={"alpha": 64}, training={"learning_rate": 2e-2})
    above = train(recipe.model_copy(update={"base": str(whole / ADAPTER)}), tmp_path / "run", console=quiet)
    engine = Engine.open([above, whole / ADAPTER])
    requests = [Request(images=(photo,), adapter=name) for photo in photos for name in ("above", "trial")]
    together = engine.predict(requests)
    assert alike(together, [engine.predict([request])[0] for request in requests])
    assert alike(together[1::2], Engine.open([whole / ADAPTER]).predict(requests[1::2]))
    bare = [Request(images=(photo,), form=engine.cards["trial"].form, adapter=BASE) for photo in photos]
    assert alike(engine.predict(bare), together[1::2])


def test_replaced_weights_are_refused(run: Path, tmp_path: Path) -> None:
    card = read_card(run / ADAPTER)
    folder = Path(shutil.copytree(run / ADAPTER, tmp_path / "copy"))
    shutil.copy(Path(card.base.name) / "model.safetensors", folder / "model.safetensors")
    with pytest.raises(AdapterError, match="restore its weights"):
        Engine.open([folder])
    assert adapter_identity(card, folder) != adapter_identity(card, run / ADAPTER)
    (folder / "config.json").unlink()
    with pytest.raises(AdapterError, match=r"has no config\.json"):
        read_card(folder)
