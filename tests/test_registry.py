"""A registry keeps every version of an adapter, and knows which one is current."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from vlm_ft.adapters import read_card
from vlm_ft.data.splits import SPLITS
from vlm_ft.errors import AdapterError
from vlm_ft.recipe import load_recipe
from vlm_ft.registry import HISTORY, Registry
from vlm_ft.runs import RECIPE, Run


@pytest.fixture
def registry(run_of: Callable[..., Path], tmp_path: Path) -> Registry:
    registry = Registry(tmp_path / "adapters")
    for _ in range(3):
        registry.add("parts", run_of("fast_vlm"))
    return registry


def test_the_first_version_is_current_until_another_is_promoted(registry: Registry) -> None:
    assert registry.names() == ["parts"]
    assert [version.number for version in registry.versions("parts")] == [1, 2, 3]
    assert registry.current("parts").number == 1
    registry.promote("parts", 3, by="ann", reason="better")
    assert registry.current("parts").number == 3
    last = registry.history("parts")[-1]
    assert (last.version, last.by, last.reason) == (3, "ann", "better")


def test_a_version_is_complete(registry: Registry, run_of: Callable[..., Path]) -> None:
    run, folder = run_of("fast_vlm"), registry.current("parts").folder
    assert registry.current("parts").card == read_card(run / "adapter")
    assert (folder / SPLITS).read_bytes() == (run / SPLITS).read_bytes()
    assert load_recipe(folder / RECIPE) == load_recipe(run / RECIPE)


def test_a_version_keeps_the_evaluation_of_its_run(
    registry: Registry, run_of: Callable[..., Path], tmp_path: Path
) -> None:
    assert not registry.current("parts").evaluation.exists()
    run = Run(shutil.copytree(run_of("fast_vlm"), tmp_path / "evaluated"))
    run.evaluation.mkdir()
    run.evaluated.write_text("{}")
    assert registry.add("parts", run.folder).evaluation.read_text() == "{}"


def test_its_recipe_is_found_from_any_folder(
    run_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, moved = run_of("fast_vlm"), tmp_path / "run"
    shutil.copytree(run, moved)
    recipe = load_recipe(run / RECIPE)
    monkeypatch.chdir(recipe.data[0].path.parent)
    relative = recipe.model_dump(mode="json", exclude_unset=True)
    relative["data"][0]["path"] = recipe.data[0].path.name
    (moved / RECIPE).write_text(yaml.safe_dump(relative), encoding="utf-8")
    folder = Registry(tmp_path / "adapters").add("parts", moved).folder
    monkeypatch.chdir(tmp_path)
    assert load_recipe(folder / RECIPE) == recipe


def test_an_interrupted_copy_is_made_again(registry: Registry, run_of: Callable[..., Path]) -> None:
    (registry.folder / "parts" / "4.part").mkdir()
    assert registry.add("parts", run_of("fast_vlm")).number == 4
    (registry.folder / "parts" / HISTORY).unlink()
    assert registry.add("parts", run_of("fast_vlm")).number == 5
    assert registry.current("parts").number == 5


def test_the_same_adapter_is_found_again(
    registry: Registry, run_of: Callable[..., Path], untrained_run_of: Callable[..., Path]
) -> None:
    found = registry.find("parts", run_of("fast_vlm"))
    assert found is not None
    assert found.number == 3
    assert registry.find("parts", untrained_run_of("fast_vlm")) is None


def test_another_threshold_makes_another_version(
    registry: Registry, run_of: Callable[..., Path], tmp_path: Path
) -> None:
    """The tensors are those of an earlier version, but the answers are not; figures change no answer."""
    run = Run(shutil.copytree(run_of("fast_vlm"), tmp_path / "run"))
    card = read_card(run.adapter)
    card.model_copy(update={"metrics": {"accuracy": {"value": 0.5}}}).write(run.adapter)
    found = registry.find("parts", run.folder)
    assert found is not None
    assert found.number == 3
    card.model_copy(update={"form": card.form.with_thresholds({"passed": 0.9})}).write(run.adapter)
    assert registry.find("parts", run.folder) is None


def test_rolling_back_undoes_a_promotion(registry: Registry) -> None:
    with pytest.raises(AdapterError, match="no earlier version"):
        registry.roll_back("parts")
    registry.promote("parts", 2)
    registry.promote("parts", 3)
    assert registry.roll_back("parts").number == 2
    assert registry.roll_back("parts").number == 3  # the one that was current before
    assert [change.version for change in registry.history("parts")] == [1, 2, 3, 2, 3]


def test_going_back_twice_at_once_goes_back_once(registry: Registry) -> None:
    """Two people who see a bad version 2 do not serve it again between them."""
    registry.promote("parts", 2)
    assert registry.roll_back("parts", over=2).number == 1
    with pytest.raises(AdapterError, match="version 1 has since become current; look at it first"):
        registry.roll_back("parts", over=2)
    assert registry.current("parts").number == 1


def test_a_version_replaces_only_the_one_that_it_was_compared_with(registry: Registry) -> None:
    registry.promote("parts", 2)
    registry.roll_back("parts")  # while a third is compared with the second
    with pytest.raises(AdapterError, match="version 1 has since become current; compare again"):
        registry.promote("parts", 3, over=2)
    assert registry.current("parts").number == 1
    assert registry.promote("parts", 3, over=1).number == 3


def test_promoting_the_current_version_changes_nothing(registry: Registry) -> None:
    before = registry.changed("parts")
    registry.promote("parts", 1)
    assert registry.changed("parts") == before


def test_a_change_shows_even_within_a_tick_of_the_clock(registry: Registry) -> None:
    history, seen = registry.folder / "parts" / HISTORY, set()
    for number in (1, 2, 1):
        registry.promote("parts", number)
        os.utime(history, ns=(0, 0))
        seen.add(registry.changed("parts"))
    assert len(seen) == 3


@pytest.mark.parametrize("name", ["", "..", "../parts", "a/b", ".hidden", "a b", "parts\n"])
def test_names_are_words_not_paths(registry: Registry, run_of: Callable[..., Path], name: str) -> None:
    with pytest.raises(AdapterError, match="is not a plain word"):
        registry.add(name, run_of("fast_vlm"))
    with pytest.raises(AdapterError, match="is not in"):
        registry.versions(name)


def test_a_copy_beside_an_adapter_is_not_served(registry: Registry) -> None:
    for name in ("A copy of parts", ".parts"):
        shutil.copytree(registry.folder / "parts", registry.folder / name)
    assert registry.names() == ["parts"]


def test_bad_requests_are_refused_by_name(registry: Registry) -> None:
    with pytest.raises(AdapterError, match=r"'part' is not in .*; did you mean 'parts'"):
        registry.current("part")
    with pytest.raises(AdapterError, match=r"has no version 9; versions: 1, 2, 3"):
        registry.promote("parts", 9)
    (registry.folder / "parts" / HISTORY).write_text("{", encoding="utf-8")
    with pytest.raises(AdapterError, match="cannot be read"):
        registry.current("parts")
