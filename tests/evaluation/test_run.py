"""A finished run is evaluated completely."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rich.console import Console

from datasets_vision.example import text_of
from tests.cards import answered
from tests.evaluation.made import Scripted, clause_cases, form_of
from tests.untrained import write_run
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.cli import app
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.evaluation import run as evaluation_run
from vlm_ft.evaluation.evaluate import Evaluation, evaluate
from vlm_ft.evaluation.results import read_results
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request
from vlm_ft.recipe import Recipe


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


def test_a_run_is_evaluated_completely(run_of: Callable[..., Path], quiet: Console, tmp_path: Path) -> None:
    run = Path(shutil.copytree(run_of("qwen3_vl"), tmp_path / "run"))
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


def test_recorded_figures_include_confidence(run_of: Callable[..., Path], tmp_path: Path) -> None:
    run, file = Path(shutil.copytree(run_of("qwen3_vl"), tmp_path / "run")), tmp_path / "results.json"
    app(["evaluate", str(run), "--no-base", "--no-rivals", "--results", str(file)], standalone_mode=False)
    found = {(entry.field, entry.metric): entry for entry in read_results(file)}
    assert {("kind", "ece"), ("answer", "answered"), ("answer", "coverage_at_risk")} <= found.keys()
    assert found["kind", "ece"].goal is not None  # the band of exact probabilities
    assert found["answer", "answered"].n == found["kind", "macro_f1"].n


def test_foreign_photos_are_looked_for_before_anything_is_loaded(
    run_of: Callable[..., Path], quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "open", None)
    with pytest.raises(DataError, match="contains no images"):
        evaluate_run(run_of("qwen3_vl"), foreign=[tmp_path], console=quiet)


def test_foreign_texts_are_measured_in_the_same_figure(
    recipe_of: Callable[..., Recipe], clauses: Path, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, table = tmp_path / "run", tmp_path / "recipes.csv"
    table.write_text("dish,note\n" + "".join(f"soup {number},boil it\n" for number in range(4)) + ",\n")
    recipe = recipe_of("qwen3", task="legal_documents", data=[{"path": str(clauses)}], fields=["clause_type"])
    write_run(recipe, run)
    seen: list[str] = []

    def strange(predictor: object, requests: Sequence[Request], *rest: object) -> list[Prediction]:
        seen.extend(text_of(request.turns) for request in requests)
        return [Prediction(strange=2.0) for _ in requests]

    monkeypatch.setattr(evaluation_run, "predict_in_chunks", strange)
    options = {"rivals": False, "base": False, "console": quiet}
    found = evaluate_run(run, foreign=[table], text="{dish}: {note}", **options)
    assert seen[0] == "soup 0: boil it"
    (measured,) = (entry for entry in found.sureness.alarms if entry.of == "recipes.csv")
    assert measured.flagged.value == 1.0
    assert measured.count == len(seen)
    monkeypatch.undo()
    found = evaluate_run(run, foreign=[table], text="{dish}", **options)
    assert any("does not measure familiarity; run vlm-ft calibrate" in note for note in found.notes)
    with pytest.raises(DataError):
        evaluate_run(run, foreign=[table], text="{colour}", **options)


def test_data_that_have_changed_are_reported(
    recipe_of: Callable[..., Recipe], clauses: Path, quiet: Console, tmp_path: Path
) -> None:
    data, run = Path(shutil.copytree(clauses, tmp_path / "set")), tmp_path / "run"
    write_run(recipe_of("qwen3", task="legal_documents", data=[{"path": str(data)}], fields=None), run)
    with (data / "rows.tsv").open("a") as table:
        table.write("One more.\tliability\n")
    with pytest.raises(AdapterError, match="its data now give form"):
        evaluate_run(run, console=quiet)
