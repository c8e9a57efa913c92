"""What the preflight of new data found is shown before training can start, and nothing in it becomes markup."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import pytest
from vlm_ft.demo.train_tab import EMPTY, _shown

from tests.demo.conftest import HOSTILE
from tests.demo.test_views import Markup
from vlm_ft.data.preflight import CHECK_PAGE, ROWS, Preflight
from vlm_ft.errors import DataError
from vlm_ft.runs import RECIPE, Run


def shown(folder: Path, kind: str = "preflight", state: str = "done", log: str = "") -> tuple[Any, ...]:
    """The updates for a job: summary, curve, picture, recipe, and how to train."""

    def result(job: str) -> Path:
        if state != "done":
            raise DataError("", "no result yet")
        return folder

    job = SimpleNamespace(id="1", kind=kind, state=state, out=folder.name)
    jobs = SimpleNamespace(get=lambda _: job, log=lambda _: log, result=result, folder=folder.parent.parent)
    with gr.Blocks():
        return _shown(SimpleNamespace(jobs=jobs), gr.Image(), "1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Preflight(
        title="Castings: train 10", read=(HOSTILE, "train 10"), errors=0, warnings=2, cost="40 steps: about 3.0 min"
    ).write(tmp_path)
    (tmp_path / ROWS).write_text(f"row 1: {HOSTILE}")
    (tmp_path / RECIPE).write_text("name: castings\n")
    (tmp_path / CHECK_PAGE).write_text("<html><body><p title='\"'>2 warnings</p></body></html>")
    return tmp_path


def test_everything_is_shown_before_training(folder: Path) -> None:
    html, curve, picture, settings, start = shown(folder)
    markup = Markup(html)
    assert "40 steps: about 3.0 min" in markup.text
    assert "0 errors, 2 warnings" in markup.text
    assert HOSTILE in markup.text
    assert html.count("<iframe sandbox ") == 1
    assert "<p title" not in html
    assert settings["value"] == "name: castings\n"
    assert (start["visible"], picture["visible"], curve["visible"]) == (True, False, False)


def test_errors_keep_training_from_starting(folder: Path) -> None:
    Preflight(title="Castings: train 10", read=(), errors=3, warnings=0, cost="").write(folder)
    html, *_, start = shown(folder)
    assert "3 errors" in html
    assert "Cost of training" not in html
    assert start["visible"] is False


def test_a_job_that_fails_says_why(folder: Path) -> None:
    html, *hidden = shown(folder, state="failed", log=f"reading\nerror: {HOSTILE}: holds nothing\n")
    assert Markup(html).text.strip() == f"error: {HOSTILE}: holds nothing"
    assert [part["visible"] for part in hidden] == [False] * 4
    assert shown(folder, state="running")[0] == EMPTY


@pytest.mark.parametrize(
    ("state", "says"), [("running", "Training. The curve"), ("done", "on the Adapters tab"), ("failed", "full")]
)
def test_the_losses_of_a_training_are_shown_from_its_first_steps_on(tmp_path: Path, state: str, says: str) -> None:
    run = tmp_path / "1" / "run"
    run.mkdir(parents=True)
    html, curve, *_ = shown(run, "train", state, "error: the disk is full\n")
    assert says in html
    assert curve["visible"] is False
    Run(run).losses.write_text('{"step": 1, "loss": 2.5}\n{"step": 1, "eval_loss": 3.0}\n{"step": 2, "lo')
    html, curve, *hidden = shown(run, "train", state, "error: the disk is full\n")
    assert says in html
    assert curve["value"].to_dict("list") == {"step": [1, 1], "loss": [2.5, 3.0], "examples": ["train", "tune"]}
    assert [part["visible"] for part in hidden] == [False] * 3
