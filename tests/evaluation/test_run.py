"""A finished run is evaluated completely."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.evaluation.made import Scripted, answered, clause_cases, form_of
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.evaluation.evaluate import Evaluation, evaluate
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request
from vlm_ft.recipe import Recipe
from vlm_ft.training.run import train

Recipes = Callable[..., Recipe]


def test_the_base_is_not_evaluated_unless_requested() -> None:
    cases = clause_cases()

    def answer_to(request: Request) -> Prediction:
        assert request.adapter != BASE
        return answered(cases[0].values)

    evaluation = evaluate(
        Scripted(form_of("legal_documents", cases), answer_to), "made", cases, train=cases, ask_base=False
    )
    assert list(evaluation.systems) == ["adapter", "majority"]
    assert all(set(row.answers) == {"adapter", "majority"} for row in evaluation.cases)


def test_a_run_is_evaluated_completely(recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(recipe_of("qwen3_vl"), run, console=quiet)
    evaluation = evaluate_run(run, rivals=False, console=quiet)
    assert list(evaluation.systems) == ["base", "adapter", "majority"]
    assert len(evaluation.cases) == evaluation.counts["test"] == read_card(run / ADAPTER).provenance.counts["test"]
    folder = run / "evaluation"
    assert Evaluation.model_validate_json((folder / "evaluation.json").read_text(encoding="utf-8")) == evaluation
    for name in ("evaluation.md", "evaluation.html"):
        assert "kind" in (folder / name).read_text(encoding="utf-8")
    metrics = read_card(run / ADAPTER).metrics
    assert metrics["kind.accuracy"]["count"] == len(evaluation.cases)
    assert (
        evaluate_run(run, rivals=False, base=False, console=quiet).systems["adapter"] == evaluation.systems["adapter"]
    )


def test_foreign_photos_are_looked_for_before_anything_is_loaded(
    run_of: Callable[..., Path], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "open", None)
    with pytest.raises(DataError, match="contains no images"):
        evaluate_run(run_of("qwen3_vl"), foreign=[tmp_path], console=quiet)


def test_data_that_have_changed_are_reported(recipe_of: Recipes, clauses: Path, quiet: Console, tmp_path: Path) -> None:
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
    with pytest.raises(AdapterError, match="its data now give form"):
        evaluate_run(run, console=quiet)
