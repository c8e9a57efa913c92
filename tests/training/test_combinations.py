"""Whatever the parts of a base are tuned with, a run is checked, resumed and served."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file

from tests.inference.likeness import alike
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.bases.families import FAMILIES
from vlm_ft.bases.parts import PARTS, Tuning, part_of, plain_name
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train

Runs = Callable[..., Path]
Words = tuple[Tuning, ...]
BASE_NAME = "fast_vlm"


WORDS: Words = ("frozen", "lora", "full")
PAIRS = [(WORDS[one], WORDS[two], WORDS[(one + two) % 3]) for one in range(3) for two in range(3)]
"""An orthogonal array: any two parts have each pair of words once. The first trains nothing."""
DORA: list[Words] = [("dora", "frozen", "dora"), ("frozen", "dora", "full"), ("full", "full", "dora")]
COMBINATIONS = [*PAIRS[1:], *DORA]
ADAPTERS = [words for words in COMBINATIONS if words != ("full", "frozen", "full")]  # that one saves the whole model


def tuned(words: Words) -> dict[str, Any]:
    """The settings of a recipe that trains a combination for one large step."""
    training = {"max_steps": 1, "learning_rate": 2e-2}
    adapter = dict(zip(PARTS, words, strict=True))
    return {"name": "-".join(words), "adapter": adapter, "training": training, "splits": {"tune": 0.0}}


def saved(run: Path) -> Path:
    (file,) = (run / ADAPTER).glob("*.safetensors")
    return file


@pytest.mark.parametrize("words", COMBINATIONS, ids="-".join)
def test_a_combination_is_trained_checked_and_resumed(
    words: Words, run_of: Runs, recipe_of: Callable[..., Recipe], quiet: Console, tmp_path: Path
) -> None:
    run = run_of(BASE_NAME, **tuned(words))
    card = read_card(run / ADAPTER)
    assert tuple(card.tuned[part] for part in PARTS) == words
    assert card.training["probe_change"] > card.training["reload_difference"]
    if words in ADAPTERS:
        parts = {part_of(plain_name(name), FAMILIES[BASE_NAME]) for name in load_file(saved(run))}
        assert parts == {part for part, word in card.tuned.items() if word != "frozen"}
    again = Path(shutil.copytree(run, tmp_path / "run"))
    train(recipe_of(BASE_NAME, **tuned(words)), again, resume=True, console=quiet)
    assert saved(again).read_bytes() == saved(run).read_bytes()


def test_all_combinations_are_served_together(run_of: Runs, drawings: Path) -> None:
    """Each adapter answers as in an engine of its own, and not as the base does."""
    photo = min((drawings / "JPEGImages").glob("*.png"))
    folders = {"-".join(words): run_of(BASE_NAME, **tuned(words)) / ADAPTER for words in ADAPTERS}
    engine = Engine.open(list(folders.values()))
    form = engine.cards["-".join(ADAPTERS[0])].form
    *together, bare = engine.predict([Request((photo,), adapter=name, form=form) for name in (*folders, BASE)])
    alone = [Engine.open([folder]).predict([Request((photo,), adapter=name)])[0] for name, folder in folders.items()]
    assert alike(together, alone)
    assert not any(alike([answer], [bare]) for answer in together)
