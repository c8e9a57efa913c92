"""Time training steps against TRL's trainers, on the same model, rows, seed and settings.

Each contestant runs in its own process, which also measures its peak memory; they take turns. TRL runs with its
defaults, and in its best configuration here: without recomputing activations (checkpointing), texts batched by length.
SFT and DPO learn whole answers, so that the losses agree; the time of this project's own default, the loss on
decisions, is listed as well. An epoch of SFT has few batches, so sorting by length saves less here than in a real run.
Every step of DPO sees the same pairs, so that its losses can be compared while they fall.

LLaMA-Factory and ms-swift train in environments of their own (see `rival_environments`), without checkpointing, and
the language model alone, since they do not know the class of `compact`. So does this project, for comparison.

Other workloads train until a score is reached; see `time_to_score`.
"""

from __future__ import annotations

import statistics
import tempfile
import warnings
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from rich.console import Console

from vlm_ft.bases.published import WIDE, benchmark_base
from vlm_ft.errors import ModelError
from vlm_ft.experiments.rival_environments import RIVALS, language_alone, train_rival
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.experiments.time_to_score import RACES, run_race
from vlm_ft.experiments.training_contestants import TIMED, Course, Times, apart, corrected, matmul_peak, ours
from vlm_ft.recipe import Methods, Recipe, find_recipe, load_recipe
from vlm_ft.training.rehearse import peak_memory

ROUNDS, STEPS = 2, 3
STANDSTILL = 1e-12  # a learning rate at which all contestants see the same weights, and so the same losses
OURS, DECISIONS, DEFAULT, BEST = "vlm_ft", "vlm_ft on decisions", "TRL's defaults", "TRL at its best"


@dataclass(frozen=True)
class Workload:
    """What is trained, and the goals: how many times as fast as each rival a step should be.

    `repeats`: whether all steps learn the same rows. `alone`: whether the base's language model is trained without the
    rest of it.
    """

    name: str
    method: Methods
    recipe: str
    settings: tuple[str, ...]
    goals: Mapping[str, float | None]
    repeats: bool = False
    learning_rate: float = STANDSTILL
    alone: bool = False

    @property
    def contestants(self) -> tuple[str, ...]:
        """The contestants that can learn it: GRPO has no loss on whole answers, since it samples only the decisions."""
        return (OURS, *self.goals) if self.method == "grpo" else (OURS, DECISIONS, *self.goals)

    def load(self, base: str, name: str) -> Recipe:
        """Its recipe for a contestant."""
        loss_on = "decisions" if name == DECISIONS or self.method == "grpo" else "answer"
        settings = (
            f"base={base}",
            f"method={self.method}",
            f"training.loss_on={loss_on}",
            f"training.learning_rate={self.learning_rate}",
            *TIMED,
        )
        return load_recipe(find_recipe(self.recipe), [*settings, *self.settings])


INTENTS = Workload("27 intents", "sft", "customer_intents_csv", ("training.batch_size=16",), {DEFAULT: 10.0, BEST: 8.0})
OTHERS = replace(INTENTS, name="27 intents, the language model alone", goals=dict.fromkeys(RIVALS, 1.0), alone=True)
FOURFOLD = {DEFAULT: 4.0, BEST: 4.0}
WORKLOADS = {
    "intents": INTENTS,
    "intents-others": OTHERS,
    "photos": Workload("photos", "sft", "steel_surface_voc", ("training.batch_size=8",), {DEFAULT: 3.0, BEST: 2.0}),
    "pairs": Workload(
        "pairs on photos",
        "dpo",
        "steel_surface_voc",
        ("training.batch_size=4", "adapter.rates.projector=1e-4"),
        FOURFOLD,
        repeats=True,
        learning_rate=1e-4,
    ),
    "answers": Workload(
        "8 answers to each photo", "grpo", "steel_surface_voc", ("training.batch_size=2", "policy.answers=8"), FOURFOLD
    ),
}
WIDE_WORKLOADS = {"intents": replace(INTENTS, goals={DEFAULT: 8.0, BEST: 4.0}), "intents-others": OTHERS}


def benchmark_training(
    base: str,
    out: Path,
    command: str,
    console: Console,
    *,
    only: str | None = None,
    rounds: int | None = None,
    steps: int | None = None,
) -> None:
    """Time everything, or `only` what has this name, and write the figures to `out` after each.

    `steps`: those that are timed or, to a score, the most. Raises `ModelError` for a name that the base does not have.
    """
    sheet, workloads, races = Sheet(command, console), WORKLOADS, RACES
    if base == WIDE:
        workloads, races = WIDE_WORKLOADS, {}
    if only not in (None, *workloads, *races):
        raise ModelError(f"base {base}", f"{only} is not timed on it", f"choose {' or '.join([*workloads, *races])}")
    with benchmark_base(base) as place:
        for name in (only,) if only else (*workloads, *races):
            if name in workloads:
                _measure(workloads[name], base, place, rounds or ROUNDS, steps or STEPS, sheet, console)
            else:
                run_race(races[name], base, place, sheet, rounds=rounds, steps=steps)
            sheet.write(out)


def _turns(workload: Workload, place: str, rounds: int, steps: int, console: Console) -> dict[str, list[Times]]:
    """Let the contestants take turns. `place`: where the base is. `steps`: those of a turn that are timed.

    A rival that cannot be installed, or cannot train, is left out with a message that says why.
    """
    turns = {name: list[Times]() for name in workload.contestants}
    with language_alone(place) if workload.alone else nullcontext(place) as base:
        for name in [*turns] * rounds:
            try:
                if name in turns:
                    turns[name].append(_turn(name, base, workload, steps))
            except ModelError as error:
                if name not in RIVALS:
                    raise
                del turns[name]
                console.print(f"left out: {error}", markup=False, highlight=False)
    return turns


def _measure(
    workload: Workload, base: str, place: str, rounds: int, timed: int, sheet: Sheet, console: Console
) -> None:
    """Record the figures of a workload, if it has any rival. `timed`: the timed steps of a turn."""
    turns = _turns(workload, place, rounds, timed, console)
    if turns.keys().isdisjoint(workload.goals):
        return
    title, pairs = f"{base}: {workload.name}", workload.method == "dpo"
    unit = "a pair" if pairs else "a step"
    units = timed * (workload.load(place, OURS).training.batch_size if pairs else 1)
    steps = {name: statistics.mean(turn.steps for turn in found) / units for name, found in turns.items()}
    before = statistics.mean(turn.before for turn in turns[OURS]) / units
    for rival, goal in [(name, goal) for name, goal in workload.goals.items() if name in turns]:
        name = f"{title}, {unit}, times as fast as {rival}"
        sheet.add(name, steps[rival] / (steps[OURS] + before), goal, "higher", "x")
        if pairs:
            sheet.add(f"{name}, its reference known", steps[rival] / steps[OURS], None, "higher", "x")
    sheet.add(f"{title}, seconds {unit}", steps[OURS], None, "lower", "s")
    if DECISIONS in steps:
        sheet.add(f"{title}, seconds {unit} on decisions", steps[DECISIONS], None, "lower", "s")
    if counted := [turn.flops / turn.steps for turn in turns[OURS] if turn.flops is not None]:
        share = statistics.mean(counted) / matmul_peak()
        sheet.add(f"{title}, share of the bf16 peak of matrix products", share, 0.55, "higher", "")
    peaks = {name: max(turn.peak for turn in found) for name, found in turns.items()}
    for rival in [name for name in (DEFAULT, *RIVALS) if name in peaks]:
        goal = 0.5 if rival == DEFAULT else None
        sheet.add(f"{title}, memory against {rival}", peaks[OURS] / peaks[rival], goal, "lower", "x")
    _compare({name: found[0].loss for name, found in turns.items()}, title, workload, sheet)


def _compare(losses: Mapping[str, float], title: str, workload: Workload, sheet: Sheet) -> None:
    """Record how far apart the losses of the first steps are, where they are the same function of the same tokens."""
    if workload.method == "grpo":
        return
    if workload.learning_rate > STANDSTILL:
        for name in (OURS, DEFAULT):
            sheet.add(f"{title}, mean loss of the first steps, {name}", losses[name], None, "lower", "nats")
    alike = [loss for name, loss in losses.items() if name != DECISIONS]
    sheet.add(f"{title}, spread of the losses", max(alike) - min(alike), None, "lower", "nats")


def _turn(name: str, base: str, workload: Workload, steps: int) -> Times:
    """Take a turn in a separate process."""
    return apart(take, name, base, workload, steps)


def take(name: str, base: str, workload: Workload, steps: int) -> Times:
    """Take a contestant's turn, in which this many steps are timed."""
    import datasets

    warnings.simplefilter("ignore")  # TRL's own warnings, once per turn
    datasets.disable_progress_bars()
    recipe, course = workload.load(base, name), Course(2 * steps, 1 if workload.repeats else steps)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if workload.method == "dpo":
            recipe = corrected(recipe, work / "reviews", course)
        times = CONTESTANTS[name](recipe, work / "run", course)
    return times if times.peak else times._replace(peak=peak_memory())


def _theirs(recipe: Recipe, work: Path, course: Course, *, best: bool = False) -> Times:
    from vlm_ft.experiments.training_rivals import theirs  # here, so that TRL's memory does not count as ours

    return theirs(recipe, work, course, best=best)


CONTESTANTS: Mapping[str, Callable[[Recipe, Path, Course], Times]] = {
    OURS: ours,
    DECISIONS: ours,
    DEFAULT: _theirs,
    BEST: partial(_theirs, best=True),
    **{name: partial(train_rival, name) for name in RIVALS},
}
