"""The time to a score counts training only, and a rival that does not get there counts as the slowest measured."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from rich.console import Console

from vlm_ft.experiments import time_to_score, training_benchmark
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.experiments.time_to_score import LIMIT, Finish, Race, Watch, run_race, take
from vlm_ft.experiments.training_benchmark import benchmark_training
from vlm_ft.recipe import Recipe


@pytest.mark.parametrize(("score", "reached"), [(0.0, True), (1.1, False)])
def test_both_train_until_the_score_is_reached(
    score: float,
    reached: bool,
    recipe_of: Callable[..., Recipe],
    tiny_folder: Callable[[str], Path],
    tmp_path: Path,
    quiet: Console,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In this process, since a new one takes long to start."""
    file, out = tmp_path / "trial.yaml", tmp_path / "training.json"
    file.write_text(yaml.safe_dump(recipe_of("fast_vlm").model_dump(mode="json", exclude_unset=True)), encoding="utf-8")
    race = Race("drawings", str(file), ("training.batch_size=2",), "kind", score)
    monkeypatch.setattr(training_benchmark, "RACES", {"drawings-score": race})
    monkeypatch.setattr(time_to_score, "_turn", take)
    monkeypatch.setattr(time_to_score, "EVERY", 1)
    base = str(tiny_folder("fast_vlm"))
    benchmark_training(base, out, "the command", quiet, only="drawings-score", steps=2)
    found = {figure["figure"].split(": drawings, ")[1]: figure["value"] for figure in json.loads(out.read_text())}
    assert 0 <= found.pop("kind macro-F1 within 2 steps") <= 1
    if not reached:
        assert not found
        return
    assert found[f"seconds to a kind macro-F1 of {score:g}"] > 0
    assert 0 < found[f"to a kind macro-F1 of {score:g}, times as fast as TRL at its best, at most 4"] <= LIMIT


@pytest.mark.parametrize(("theirs", "times"), [(Finish(6.0, 0.9, True), 3.0), (Finish(5.0, 0.1, False), LIMIT)])
def test_a_rival_that_does_not_get_there_counts_as_the_slowest(
    theirs: Finish, times: float, quiet: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time_to_score, "_turn", lambda *turn: theirs if turn[-1] else Finish(2.0, 0.9, True))
    sheet = Sheet("the command", quiet)
    run_race(Race("drawings", "", (), "kind", 0.8), "base", "", sheet)
    assert sheet.figures[-1].value == times


def test_the_clock_stands_still_during_evaluations() -> None:
    scores = iter([0.2, 0.4, 0.9])

    def evaluate() -> float:
        time.sleep(0.2)
        return next(scores)

    control, state = SimpleNamespace(should_training_stop=False), SimpleNamespace(global_step=0, max_steps=100)
    watch = Watch(evaluate, 0.8, spent=1.0, limit=60.0)
    watch.on_train_begin(None, state, control)
    while not control.should_training_stop:
        state.global_step += 1
        watch.on_step_end(None, state, control)
    assert state.global_step == 3 * time_to_score.EVERY
    assert watch.finish == Finish(watch.seconds, 0.9, True)
    assert 1.0 < watch.seconds < 1.2


def test_a_training_is_stopped_at_its_limit() -> None:
    control = SimpleNamespace(should_training_stop=False)
    watch = Watch(lambda: 0.1, 0.8, spent=2.0, limit=1.0)
    watch.on_train_begin(None, None, control)
    watch.on_step_end(None, SimpleNamespace(global_step=time_to_score.EVERY, max_steps=100), control)
    assert control.should_training_stop
    assert not watch.finish.reached
