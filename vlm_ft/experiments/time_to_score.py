"""Time how long training takes to reach a score, against TRL in its best configuration, from the same base.

Both learn the same examples in the same number of steps, with one schedule. Ours runs as its recipe says, which
includes fitting a new projector; TRL learns whole answers. After every few steps, both answer the same test examples by
the decoder used in serving; the clock stands still meanwhile. TRL is stopped after `LIMIT` times as long as ours.
"""

from __future__ import annotations

import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainerCallback

from vlm_ft.answers.metrics import measure
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.modes import evaluating
from vlm_ft.conversation import Row
from vlm_ft.data.subsets import spaced
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.experiments.training_contestants import TIMED, Course, apart, our_trainer
from vlm_ft.recipe import Recipe, find_recipe, load_recipe
from vlm_ft.training.prepare import Prepared, prepare
from vlm_ft.training.projector import initialise_projector

STEPS, EVERY = 120, 10  # the most steps, and those between two evaluations
TESTED, TOGETHER = 200, 16  # test examples, and how many are answered at once
LIMIT = 4.0


@dataclass(frozen=True)
class Race:
    """What is trained, until the macro-F1 of a field is `score`."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    field: str
    score: float

    def load(self, base: str, loss_on: str) -> Recipe:
        """Its recipe."""
        settings = [f"base={base}", f"training.loss_on={loss_on}", *TIMED, *self.settings]
        return load_recipe(find_recipe(self.recipe), settings)


RACES = {
    "intents-score": Race("27 intents", "customer_intents_csv", (), "intent", 0.90),
    "waste-score": Race("waste, first of 3 folds", "waste_sorting_folders", ("splits.folds=3",), "kind", 0.80),
}


@dataclass(frozen=True)
class Finish:
    """The seconds of training, the last score, and whether it is high enough."""

    seconds: float
    score: float
    reached: bool


class Watch(TrainerCallback):  # type: ignore[misc]
    """Stops training once the score is reached, or after `limit` seconds.

    `spent`: seconds of training before the first step. Those of the evaluations do not count.
    """

    def __init__(self, evaluate: Callable[[], float], wanted: float, spent: float, limit: float) -> None:
        self._evaluate, self._wanted, self._limit = evaluate, wanted, limit
        self.seconds, self.score = spent, 0.0

    @property
    def finish(self) -> Finish:
        """What was seen last."""
        return Finish(self.seconds, self.score, self.score >= self._wanted)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start the clock."""
        self._resumed = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Evaluate now and then, and after the last step."""
        if state.global_step % EVERY and state.global_step < state.max_steps:
            return
        self.seconds += time.perf_counter() - self._resumed
        self.score = self._evaluate()
        control.should_training_stop |= self.finish.reached or self.seconds > self._limit
        self._resumed = time.perf_counter()


def run_race(
    race: Race, base: str, place: str, sheet: Sheet, *, rounds: int | None = None, steps: int | None = None
) -> None:
    """Let both take turns, and record how fast ours reaches the score. `place`: where the base is.

    If TRL does not reach it, by its last step or before it is stopped, it counts as taking `LIMIT` times as long.
    """
    most, title = steps or STEPS, f"{base}: {race.name}"
    goal = f"{race.field} macro-F1 of {race.score:g}"
    ours, ratios = list[Finish](), list[float]()
    for _ in range(rounds or 1):
        ours.append(_turn(race, place, most, None))
        if ours[-1].reached:
            theirs = _turn(race, place, most, LIMIT * ours[-1].seconds)
            ratios.append(min(theirs.seconds / ours[-1].seconds, LIMIT) if theirs.reached else LIMIT)
    score = statistics.mean(finish.score for finish in ours)
    sheet.add(f"{title}, {race.field} macro-F1 within {most} steps", score, race.score, "higher", "")
    if len(ratios) == len(ours):
        seconds = statistics.mean(finish.seconds for finish in ours)
        sheet.add(f"{title}, seconds to a {goal}", seconds, None, "lower", "s")
        name = f"{title}, to a {goal}, times as fast as TRL at its best, at most {LIMIT:g}"
        sheet.add(name, statistics.mean(ratios), 3.0, "higher", "x")


def _turn(race: Race, base: str, steps: int, limit: float | None) -> Finish:
    """Take a turn in a separate process."""
    return apart(take, race, base, steps, limit)


def take(race: Race, base: str, steps: int, limit: float | None) -> Finish:
    """Train until the score is reached: ours without a limit of the seconds, TRL's within one."""
    warnings.simplefilter("ignore")  # TRL's own warnings, once per turn
    with tempfile.TemporaryDirectory() as work:
        return (_ours if limit is None else _theirs)(race, base, Path(work), steps, limit or float("inf"))


def _ours(race: Race, base: str, work: Path, steps: int, limit: float) -> Finish:
    recipe = race.load(base, "decisions")
    prepared = prepare(recipe)
    running = our_trainer(prepared, recipe, work, Course(steps, steps))
    began = time.perf_counter()
    initialise_projector(prepared.attached, prepared.base, prepared.dataset.form, prepared.train.cases)
    return _watched(running, prepared, race, time.perf_counter() - began, limit)


def _theirs(race: Race, base: str, work: Path, steps: int, limit: float) -> Finish:
    import datasets

    from vlm_ft.experiments.training_rivals import their_trainer

    datasets.disable_progress_bars()
    recipe = race.load(base, "answer")
    prepared = prepare(recipe)
    running = their_trainer(prepared, recipe, work, Course(steps, steps), best=True)
    return _watched(running, prepared, race, 0.0, limit)


def _watched(running: Any, prepared: Prepared, race: Race, spent: float, limit: float) -> Finish:
    watch = Watch(lambda: macro_f1(prepared, race.field), race.score, spent, limit)
    running.remove_callback(PrinterCallback)
    running.add_callback(watch)
    running.train()
    return watch.finish


def macro_f1(prepared: Prepared, field: str) -> float:
    """The macro-F1 of a field on test examples, as the model in training answers them now."""
    base, form, model = prepared.base, prepared.dataset.form, prepared.attached.model
    cases = spaced([case for case in prepared.dataset.cases["test"] if field in case.values], TESTED)
    decoder, predictions = FormDecoder(base), list[Prediction]()
    with evaluating(model):
        for start in range(0, len(cases), TOGETHER):
            rows = [Row.of(case.example, form) for case in cases[start : start + TOGETHER]]
            prompts = prepared.conversation.prompts(rows, base.device)
            predictions += decoder.decode(lambda _, **inputs: model(**inputs), ["trained"] * len(rows), prompts)
    figures = measure(form, [case.values for case in cases], predictions)
    return next(figure.value for figure in figures if (figure.field, figure.name) == (field, "macro_f1"))
