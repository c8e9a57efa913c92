"""A cross-validation resumes where it stopped, and rejects settings that it would override."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from unittest.mock import Mock

import pytest
import yaml
from rich.console import Console

from tests.experiments.conftest import StoppedError, groups_tested
from tests.untrained import write_run
from vlm_ft.adapters import read_card
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.evaluation.calibrate import calibrate_run
from vlm_ft.evaluation.results import Result, read_results
from vlm_ft.experiments import crossval as folds
from vlm_ft.experiments import trial
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run

Recipes = Callable[..., Recipe]


def test_a_stopped_cross_validation_resumes_and_the_first_fold_may_stand_alone(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, trained: list[str]
) -> None:
    file, out = tmp_path / "trial.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(recipe_of("qwen3_vl").model_dump(mode="json")), encoding="utf-8")

    def cross(**options: bool) -> list[Result]:
        return folds.crossval(file, out, folds=2, variants=[], settings=["fields=[kind]"], console=quiet, **options)

    with pytest.raises(StoppedError):
        cross()
    rows = cross()
    assert trained == ["recipe-fold0", "recipe-fold1"]
    assert cross() == rows
    assert len(trained) == 2
    assert read_results(out / folds.RESULTS) == rows
    row, *sureness = rows
    assert (row.field, row.metric, row.n) == ("kind", "macro_f1", 20)
    assert [(entry.field, entry.metric) for entry in sureness[:3]] == [
        ("kind", "ece"),
        ("kind", "brier"),
        ("kind", "log_loss"),
    ]
    assert all(set(entry.rivals) == {"adapter, before fitting", "probe"} for entry in sureness[:3])
    assert sureness[0].goal is not None  # the band of exact probabilities
    assert row.low <= row.value <= row.high
    assert set(row.rivals) == {"majority", "probe"}
    tested = [groups_tested(out / name) for name in trained]
    assert tested[0].isdisjoint(tested[1])
    assert len(tested[0] | tested[1]) == 20
    final = tmp_path / "final"
    write_run(recipe_of("qwen3_vl", fields=["kind"]), final)
    calibrate_run(final, folds=out, console=quiet)
    shutil.rmtree(out / "recipe-fold1")
    with pytest.raises(DataError, match="lacks fold 1 of 2"):
        calibrate_run(final, folds=out, console=quiet)
    confidence = read_card(final / "adapter").confidence
    assert confidence is not None
    assert confidence.bound.count == 20  # every example, though none was set aside
    (alone,) = cross(first=True)  # from the remaining fold
    assert not (out / "recipe-fold1").exists()
    assert (alone.field, alone.metric) == ("kind", "macro_f1")
    assert alone.n < 20  # of 20 examples in both folds
    assert alone.low < alone.high


@pytest.mark.parametrize(
    ("variants", "settings", "says"),
    [
        (["adapter.rank=4", "adapter.rank=4"], [], "given twice"),
        ([], ["splits.folds=5"], "is set by --folds"),
        (["splits.fold=1"], [], "is set by --folds"),
    ],
)
def test_a_cross_validation_refuses_settings_that_it_would_override(
    variants: list[str], settings: list[str], says: str, quiet: Console, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=says):
        folds.crossval(tmp_path, tmp_path, folds=2, variants=variants, settings=settings, console=quiet)


def test_a_damaged_evaluation_is_refused(run_of: Callable[..., Path], quiet: Console, tmp_path: Path) -> None:
    run = Run(shutil.copytree(run_of("qwen3_vl"), tmp_path / "run"))
    run.evaluation.mkdir(exist_ok=True)
    (run.evaluation / "evaluation.json").write_text('{"adapter"')
    with pytest.raises(DataError, match=r"evaluation\.json: cannot be read .*delete it"):
        trial.trial(run, run.recipe, quiet)


def test_a_calibration_that_was_interrupted_is_repeated(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("qwen3_vl", splits={"train": 0.4, "calibrate": 0.4, "tune": 0.0, "test": 0.2})
    run = Run(tmp_path / "run")
    write_run(recipe, run.folder)
    with monkeypatch.context() as patch:
        patch.setattr(trial, "calibrate_trained", Mock(side_effect=StoppedError))
        with pytest.raises(StoppedError):
            trial.trial(run, recipe, quiet)
    assert trial.trial(run, recipe, quiet).card.confidence is not None


def test_a_variant_with_brackets_is_shown_as_it_was_given() -> None:
    figures = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "minutes": 1.0, "rivals": {}, "command": ""}
    result = Result(set="a", recipe="steel fields=[kind]", field="kind", metric="macro_f1", **figures)
    out = StringIO()
    Console(file=out, width=120).print(folds._table([result]))
    assert "steel fields=[kind]" in out.getvalue()
