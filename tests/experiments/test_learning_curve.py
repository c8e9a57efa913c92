"""A learning curve of a tiny model: nested training sets, one test set, and finished runs are kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from rich.console import Console

from tests.experiments.conftest import StoppedError, groups_tested
from vlm_ft.errors import RecipeError
from vlm_ft.experiments import learning_curve as curves
from vlm_ft.recipe import Recipe

Recipes = Callable[..., Recipe]


def test_a_curve_resumes_where_it_stopped(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, trained: list[str]
) -> None:
    file, out = tmp_path / "recipe.yaml", tmp_path / "curve"
    recipe = recipe_of("qwen3_vl", fields=["kind"], training={"max_steps": 1, "evaluations": 1})
    file.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))

    def curve(*settings: str) -> curves.LearningCurve:
        return curves.learning_curve(
            file, out, console=quiet, sizes=(6, 3, 99), repeats=1, target=0.9, settings=settings
        )

    with pytest.raises(StoppedError):
        curve()
    found = curve()
    assert trained == ["3", "6", "all"]
    assert curve() == found
    assert len(trained) == 3

    assert len({frozenset(groups_tested(out / name)) for name in trained}) == 1
    accuracy = next(entry for entry in found.curves if entry.name == "kind.accuracy")
    assert [point.examples for point in accuracy.points] == [3, 6, found.counts["train"]]
    assert {point.tested for point in accuracy.points} == {found.counts["test"]}
    assert [point.examples for point in accuracy.forecast] == [2 * found.counts["train"], 4 * found.counts["train"]]
    assert accuracy.doubts
    assert found.main == ("kind.macro_f1",)
    assert curves.LearningCurve.model_validate_json((out / "learning_curve.json").read_text()) == found
    recorded = found.results("vlm-ft learning-curve")
    assert [(point.field, point.metric, point.examples) for point in recorded] == [
        ("kind", "macro_f1", examples) for examples in (3, 6, found.counts["train"])
    ]
    assert "predicted" in (out / "learning_curve.md").read_text()
    assert (out / "learning_curve.png").read_bytes().startswith(b"\x89PNG")

    with pytest.raises(RecipeError, match=r"learning_rate was 0\.005, and is 0\.5 now"):
        curve("training.learning_rate=0.5")
