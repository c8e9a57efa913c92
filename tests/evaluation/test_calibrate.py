"""Serving applies what `vlm-ft calibrate` wrote to the card."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console

from tests.forms import form_of
from tests.untrained import write_run
from vlm_ft.adapters import ADAPTER, read_card
from vlm_ft.answers.confidence import Agreement
from vlm_ft.answers.kinds import Choice
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.bases import precision
from vlm_ft.errors import DataError
from vlm_ft.evaluation import calibrate
from vlm_ft.evaluation.calibrate import calibrate_run, calibrate_trained
from vlm_ft.evaluation.evaluate import Evaluation
from vlm_ft.evaluation.run import evaluate_run
from vlm_ft.inference import familiarity
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.recipe import Recipe

Recipes = Callable[..., Recipe]


def test_a_run_is_calibrated_and_asks_a_person(
    recipe_of: Recipes, drawings: Path, quiet: Console, tmp_path: Path
) -> None:
    run, splits = tmp_path / "run", {"train": 0.5, "tune": 0.1, "calibrate": 0.2, "test": 0.2}
    write_run(recipe_of("fast_vlm", splits=splits), run)
    calibrate_run(run, console=quiet)
    card = read_card(run / ADAPTER)
    assert card.confidence is not None
    assert card.confidence.bound.threshold is None  # a random model on a few drawings proves nothing
    engine = Engine.open([run / ADAPTER])
    (answer,) = engine.predict([Request(images=(next((drawings / "JPEGImages").glob("*.png")),), adapter="trial")])
    assert answer.decision == "ask a person"
    assert "not certifiable" in answer.reason
    evaluate_run(run, rivals=False, base=False, console=quiet)
    report = run / "evaluation"
    found = Evaluation.model_validate_json((report / "evaluation.json").read_text(encoding="utf-8"))
    assert {entry.field for entry in found.sureness.reliability} >= {"passed", "kind"}
    for name in ("evaluation.md", "evaluation.html"):
        text = (report / name).read_text(encoding="utf-8")
        assert "How sure it is" in text
        assert "answered without a person" in text
        assert "kind on its own" in text
    assert found.sureness.unaided is not None
    assert found.sureness.unaided.answered.value == 0
    assert found.sureness.unaided_fields["kind"].answered.value == 0


def run_to_calibrate(recipe_of: Recipes, folder: Path) -> Path:
    """An untrained run with 18 examples to calibrate on."""
    splits = {"train": 0.1, "tune": 0.05, "calibrate": 0.8, "test": 0.05}
    write_run(recipe_of("fast_vlm", splits=splits), folder)
    return folder


def test_auto_computes_in_bf16_only_if_the_answers_agree(
    recipe_of: Recipes, drawings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrate, "MIN_EXAMPLES", 5)
    monkeypatch.setattr(precision, "_cpu_gains", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    run, printed = run_to_calibrate(recipe_of, tmp_path / "run"), StringIO()
    calibrate_run(run, console=Console(file=printed, width=200))
    card = read_card(run / ADAPTER)
    assert card.bf16 is not None
    assert f"on {card.bf16.count} examples" in printed.getvalue()
    photo = Request(images=(next((drawings / "JPEGImages").glob("*.png")),), adapter="trial")
    answers = {}
    for holds in (True, False):
        agreement = Agreement(count=100, score=float(holds), shift=0.0)
        card.model_copy(update={"bf16": agreement}).write(run / ADAPTER)
        for setting in ("auto", "bf16", "fp32"):
            (answer,) = Engine.open([run / ADAPTER], precision=setting).predict([photo])
            answers[holds, setting] = answer.fields["kind"].distribution
            in_bf16 = setting == "bf16" or (setting == "auto" and holds)
            assert answer.precision == ("bf16" if in_bf16 else "fp32")
    assert answers[True, "bf16"] != answers[True, "fp32"]
    assert answers[True, "auto"] == answers[True, "bf16"]
    assert answers[False, "auto"] == answers[False, "fp32"]


def test_bf16_agrees_if_options_and_probabilities_do() -> None:
    form = form_of(kind=Choice(options=("dent", "none")))

    def answers(sure: float, flips: int) -> list[Prediction]:
        values = ["none" if place < flips else "dent" for place in range(100)]
        return [
            Prediction({"kind": FieldValue(value, {"dent": 1 - sure, "none": 1 - sure} | {value: sure})})
            for value in values
        ]

    def holds(sure: float, flips: int) -> bool:
        found = calibrate.agreement_of(form, answers(0.9, 0), answers(sure, flips))
        assert found is not None
        return found.holds

    assert holds(0.905, 1)
    assert not holds(0.9, 2)  # too many other options
    assert not holds(0.92, 0)  # the threshold was fitted to other probabilities
    assert calibrate.agreement_of(form, answers(0.9, 0)[:19], answers(0.9, 0)[:19]) is None


def test_with_few_examples_calibration_advises_the_answers_of_folds(recipe_of: Recipes, tmp_path: Path) -> None:
    advice = f"vlm-ft crossval {tmp_path / 'run' / 'recipe.yaml'} --out folds, then vlm-ft calibrate {tmp_path / 'run'}"
    printed = StringIO()
    calibrate_run(run_to_calibrate(recipe_of, tmp_path / "run"), console=Console(file=printed, width=500))
    assert advice in printed.getvalue()
    fold = tmp_path / "fold"
    write_run(recipe_of("fast_vlm", splits={"calibrate": 0.2, "folds": 2}), fold)
    calibrate_run(fold, console=Console(file=(printed := StringIO()), width=500))
    assert "crossval" not in printed.getvalue()


def test_an_interrupted_calibration_does_not_look_finished(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(familiarity, "FEWEST", 3)
    run, splits = tmp_path / "run", {"train": 0.4, "tune": 0.1, "calibrate": 0.4, "test": 0.1}
    write_run(recipe_of("fast_vlm", splits=splits), run)
    calibrate_run(run, console=quiet)
    assert read_card(run / ADAPTER).familiar is not None

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(calibrate, "fit_familiarity", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate_run(run, console=quiet)
    card = read_card(run / ADAPTER)
    assert (card.familiar, card.confidence) == (None, None)
    Engine.open([run / ADAPTER])


def test_without_examples_training_reports_it_and_the_command_refuses(
    run_of: Callable[..., Path], quiet: Console
) -> None:
    run, printed = run_of("fast_vlm", splits={"calibrate": 0.0}), StringIO()
    calibrate_trained(run, console=Console(file=printed, width=200))
    assert "not calibrated" in printed.getvalue()
    assert read_card(run / ADAPTER).confidence is None
    with pytest.raises(DataError, match=r"nothing is set aside .* splits\.calibrate"):
        calibrate_run(run, console=quiet)
