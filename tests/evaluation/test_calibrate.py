"""Serving applies what `vlm-ft calibrate` wrote to the card."""

from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.untrained import write_run
from vlm_ft.adapters import ADAPTER, read_card
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
        assert "How sure it is" in (report / name).read_text(encoding="utf-8")


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
