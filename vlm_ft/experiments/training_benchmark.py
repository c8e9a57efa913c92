"""Time training steps against TRL's trainer, on the same model, rows, seed and settings.

Each contestant runs in a process of its own, which also measures its peak memory; they take turns. TRL runs with its
defaults, and in its best configuration here: without recomputing activations (checkpointing), texts batched by length.
All learn whole answers, so that the losses agree; the time of this project's own default, the loss on decisions, is
listed as well. An epoch has few batches, so sorting by length saves less here than in a real run.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from rich.console import Console

from vlm_ft.bases.published import WIDE, benchmark_base
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.recipe import RECIPES, Recipe, load_recipe

ROUNDS = 2
BATCHES = 3  # of an epoch; a turn has two epochs, the first of which is a warm-up
STANDSTILL = 1e-12  # a learning rate at which all contestants see the same weights, and so the same losses
OURS, DECISIONS, DEFAULT, BEST = "vlm_ft", "vlm_ft on decisions", "TRL's defaults", "TRL at its best"


@dataclass(frozen=True)
class Workload:
    """What is trained, and how many times as fast as TRL, with its defaults and at its best, a step should be."""

    name: str
    recipe: str
    settings: tuple[str, ...]
    goals: Mapping[str, float]


WORKLOADS = (
    Workload("27 intents", "customer_intents_csv", ("training.batch_size=16",), {DEFAULT: 10.0, BEST: 8.0}),
    Workload("photos", "steel_surface_voc", ("training.batch_size=8", "augment=none"), {DEFAULT: 3.0, BEST: 2.0}),
)


WIDE_WORKLOADS = (replace(WORKLOADS[0], goals={DEFAULT: 8.0, BEST: 4.0}),)


@dataclass(frozen=True)
class Turn:
    """The seconds of a contestant's second epoch, the mean loss of its first, and its peak memory in bytes."""

    seconds: float
    loss: float
    peak: int


def benchmark_training(base: str, out: Path, command: str, console: Console) -> None:
    """Time every workload, and write the ratios of the median steps to `out`."""
    sheet = Sheet(command, console)
    with benchmark_base(base) as place:
        for workload in WORKLOADS if base != WIDE else WIDE_WORKLOADS:
            _measure(workload, base, place, sheet)
    sheet.write(out)


def _measure(workload: Workload, base: str, place: str, sheet: Sheet) -> None:
    """Let the contestants take turns. `place`: where the base is."""
    turns: dict[str, list[Turn]] = {name: [] for name in CONTESTANTS}
    for _ in range(ROUNDS):
        for name in CONTESTANTS:
            turns[name].append(_turn(name, place, workload))
    steps = {name: statistics.mean(turn.seconds for turn in found) / BATCHES for name, found in turns.items()}
    peaks = {name: max(turn.peak for turn in found) for name, found in turns.items()}
    title = f"{base}: {workload.name}"
    for rival, goal in workload.goals.items():
        sheet.add(f"{title}, a step, times as fast as {rival}", steps[rival] / steps[OURS], goal, "higher", "x")
    sheet.add(f"{title}, seconds a step", steps[OURS], None, "lower", "s")
    sheet.add(f"{title}, seconds a step on decisions", steps[DECISIONS], None, "lower", "s")
    sheet.add(f"{title}, memory against TRL's defaults", peaks[OURS] / peaks[DEFAULT], 0.5, "lower", "x")
    losses = {name: found[0].loss for name, found in turns.items() if name != DECISIONS}
    spread = max(losses.values()) - min(losses.values())
    sheet.add(f"{title}, spread of the losses", spread, None, "lower", "nats")


def _turn(name: str, base: str, workload: Workload) -> Turn:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(there, name, base, workload))
    process.start()
    there.close()
    turn: Turn = here.recv()
    process.join()
    return turn


def _run(connection: Connection, name: str, base: str, workload: Workload) -> None:
    """Take a turn in a process of its own, and send it back."""
    import datasets

    from vlm_ft.training.rehearse import peak_memory

    warnings.simplefilter("ignore")  # TRL's own warnings, once per turn
    datasets.disable_progress_bars()
    loss_on = "decisions" if name == DECISIONS else "answer"
    settings = [
        *workload.settings,
        f"base={base}",
        f"training.loss_on={loss_on}",
        "training.minutes=null",
        f"training.max_steps={2 * BATCHES}",
        f"training.learning_rate={STANDSTILL}",
        "training.report_to=[]",
        "training.workers=0",
    ]
    recipe = load_recipe(RECIPES / f"{workload.recipe}.yaml", settings)
    with tempfile.TemporaryDirectory() as work:
        seconds, loss = CONTESTANTS[name](recipe, Path(work))
    connection.send(Turn(seconds, loss, peak_memory()))


def _ours(recipe: Recipe, work: Path) -> tuple[float, float]:
    from vlm_ft.training.plan import Plan
    from vlm_ft.training.prepare import prepare
    from vlm_ft.training.trainer import trainer

    prepared = prepare(recipe)
    train, places = prepared.train, _places(recipe, len(prepared.train.cases))
    train.cases, train.lengths = tuple(train.cases[at] for at in places), [train.lengths[at] for at in places]
    running = trainer(
        prepared.method,
        prepared.attached,
        train,
        None,
        recipe.training,
        prepared.rates,
        Plan(2 * BATCHES, recipe.training.batch_size, 2 * BATCHES, 0.0, 0.0),
        out=work,
    )
    return _timed(running)


def _places(recipe: Recipe, cases: int) -> list[int]:
    """The cases that all contestants learn from, evenly spread over the set."""
    count = BATCHES * recipe.training.batch_size
    return [place * cases // count for place in range(count)]


def _theirs(recipe: Recipe, work: Path, *, best: bool = False) -> tuple[float, float]:
    """TRL's trainer on the tokens of our rows or, if they have photos, on their messages."""
    import torch
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from vlm_ft.conversation import IGNORED, opened
    from vlm_ft.training.prepare import prepare

    prepared = prepare(recipe)
    conversation = prepared.conversation
    rows = [row for place in _places(recipe, len(prepared.train.cases)) for row in prepared.train.rows(place)]
    if rows[0].images:
        columns: dict[str, Any] = {
            "prompt": [conversation.messages(row) for row in rows],
            "completion": [[{"role": "assistant", "content": [{"type": "text", "text": row.target}]}] for row in rows],
            "images": [[opened(image) for image in row.images] for row in rows],
        }
    else:
        encoded = [conversation.encode([row], supervised=True) for row in rows]
        columns = {
            "input_ids": [batch["input_ids"][0].tolist() for batch in encoded],
            "completion_mask": [(batch["labels"][0] != IGNORED).long().tolist() for batch in encoded],
        }
    training, options = recipe.training, dict[str, Any]()
    if best:
        options["activation_checkpointing"] = False
    if best and not rows[0].images:
        options["train_sampling_strategy"] = "group_by_length"
    config = SFTConfig(
        output_dir=str(work),
        max_steps=2 * BATCHES,
        per_device_train_batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        max_length=None,
        completion_only_loss=True,
        seed=training.seed,
        use_cpu=not torch.cuda.is_available(),
        report_to="none",
        disable_tqdm=True,
        logging_steps=1,
        save_strategy="no",
        **options,
    )
    reader = prepared.base.reader
    processing = reader.processor if rows[0].images else reader.tokenizer
    return _timed(
        SFTTrainer(
            prepared.attached.model, args=config, train_dataset=Dataset.from_dict(columns), processing_class=processing
        )
    )


def _timed(running: Any) -> tuple[float, float]:
    """The seconds of a trainer's second epoch, and the mean loss of its first."""
    from transformers import PrinterCallback, TrainerCallback

    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    running.remove_callback(PrinterCallback)
    running.add_callback(Clock())
    running.args.logging_steps = 1
    running.train()
    losses = [entry["loss"] for entry in running.state.log_history if "loss" in entry]
    return ends[-1] - ends[BATCHES - 1], statistics.mean(losses[:BATCHES])


CONTESTANTS: dict[str, Callable[[Recipe, Path], tuple[float, float]]] = {
    OURS: _ours,
    DECISIONS: _ours,
    DEFAULT: _theirs,
    BEST: partial(_theirs, best=True),
}
