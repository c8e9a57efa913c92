"""A finished run is evaluated whole; a cross-validation goes on where it stopped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from tests.evaluation.made import Told, answered, clause_cases, form_of
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError, RecipeError
from vlm_ft.evaluation import crossval as folds
from vlm_ft.evaluation.evaluate import Evaluation, evaluate
from vlm_ft.evaluation.figures import SHOWN, figures
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.inference.request import BASE, Request
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train

Recipes = Callable[..., Recipe]


def test_the_base_is_left_alone_where_nobody_asks_for_it() -> None:
    cases = clause_cases()

    def tell(request: Request) -> Prediction:
        assert request.adapter != BASE
        return answered(cases[0].values)

    evaluation = evaluate(Told(form_of("legal_documents", cases), tell), "made", cases, train=cases, ask_base=False)
    assert list(evaluation.systems) == ["adapter", "majority"]
    assert all(set(row.answers) == {"adapter", "majority"} for row in evaluation.cases)


def test_a_run_is_evaluated_whole(recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe_of("qwen3_vl"), run, console=quiet)
    evaluation = evaluate_run(run, rival=False, console=quiet)
    assert list(evaluation.systems) == ["base", "adapter", "majority"]
    assert len(evaluation.cases) == evaluation.counts["test"] == read_card(run / ADAPTER).provenance.counts["test"]
    folder = run / "evaluation"
    assert Evaluation.model_validate_json((folder / "evaluation.json").read_text(encoding="utf-8")) == evaluation
    for name in ("evaluation.md", "evaluation.html"):
        assert "kind" in (folder / name).read_text(encoding="utf-8")
    metrics = read_card(run / ADAPTER).metrics
    assert metrics["kind.accuracy"]["count"] == len(evaluation.cases)
    rows = figures([run]).splitlines()
    shown = [metric for metric in evaluation.systems["adapter"] if metric.name in SHOWN]
    assert len(rows) == 2 + len(shown)
    assert all(f"{metric.value:.3f} (" in row for metric, row in zip(shown, rows[2:], strict=True))
    assert evaluate_run(run, rival=False, base=False, console=quiet).systems["adapter"] == evaluation.systems["adapter"]


def test_data_that_changed_since_are_told(recipe_of: Recipes, clauses: Path, quiet: Console, tmp_path: Path) -> None:
    table, run = tmp_path / "set" / "rows.tsv", tmp_path / "run"
    table.parent.mkdir()
    table.write_bytes((clauses / "rows.tsv").read_bytes())
    settings: dict[str, Any] = {
        "data": [{"path": str(table.parent)}],
        "fields": None,
        "adapter": {"projector": "frozen"},
    }
    train(recipe_of("qwen3", task="legal_documents", **settings), run, console=quiet)
    table.write_text(table.read_text() + "One more.\tliability\n")
    with pytest.raises(AdapterError, match="its data now fill form"):
        evaluate_run(run, console=quiet)


class StoppedError(Exception):
    """Stands for Ctrl-C."""


def test_a_stopped_cross_validation_goes_on(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, out = tmp_path / "trial.yaml", tmp_path / "out"
    file.write_text(yaml.safe_dump(recipe_of("qwen3_vl").model_dump(mode="json")), encoding="utf-8")
    trained: list[str] = []

    def counted(recipe: Recipe, run: Path, **options: Any) -> Path:
        if len(trained) == 1 and stop:
            raise StoppedError
        trained.append(run.name)
        return train(recipe, run, **options)

    def cross() -> list[dict[str, Any]]:
        return folds.crossval(file, out, folds=2, variants=[], settings=["fields=[kind]"], console=quiet)

    monkeypatch.setattr(folds, "train", counted)
    stop = True
    with pytest.raises(StoppedError):
        cross()
    stop = False
    rows = cross()
    assert trained == ["recipe-fold0", "recipe-fold1"]
    assert cross() == rows
    assert len(trained) == 2
    assert json.loads((out / folds.RESULTS).read_text())["rows"] == rows
    assert {len(row["folds"]) for row in rows} == {2}
    assert {row["field"] for row in rows} >= {"kind"}
    tested = [_tested(out / name) for name in trained]
    assert tested[0].isdisjoint(tested[1])
    assert len(tested[0] | tested[1]) == 20


def _tested(run: Path) -> set[str]:
    lines = map(json.loads, (run / "splits.jsonl").read_text().splitlines())
    return {line["group"] for line in lines if line["role"] == "test"}


@pytest.mark.parametrize(
    ("variants", "settings", "says"),
    [
        (["adapter.rank=4", "adapter.rank=4"], [], "given twice"),
        ([], ["splits.folds=5"], "is set by --folds"),
        (["splits.fold=1"], [], "is set by --folds"),
    ],
)
def test_a_crossval_refuses_what_it_would_overrule(
    variants: list[str], settings: list[str], says: str, quiet: Console, tmp_path: Path
) -> None:
    with pytest.raises(RecipeError, match=says):
        folds.crossval(tmp_path, tmp_path, folds=2, variants=variants, settings=settings, console=quiet)


def test_a_spoilt_fold_is_told(tmp_path: Path) -> None:
    (tmp_path / "fold.json").write_text('[{"variant"')
    with pytest.raises(DataError, match=r"fold\.json: cannot be read .*delete it"):
        folds._kept(tmp_path / "fold.json")
