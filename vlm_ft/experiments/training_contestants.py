"""This project's trainer in the training benchmark, and what it shares with its rivals."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode
from transformers import PrinterCallback, TrainerCallback

from datasets_vision.formats.reviews import LINES, PHOTOS
from vlm_ft.answers.kinds import Choice
from vlm_ft.conversation import Row
from vlm_ft.data.cases import load
from vlm_ft.recipe import DataEntry, Recipe, Splits, Training
from vlm_ft.training.collate import Collator
from vlm_ft.training.plan import Plan
from vlm_ft.training.prepare import Prepared, prepare
from vlm_ft.training.references import set_references
from vlm_ft.training.rehearse import batch_loss
from vlm_ft.training.trainer import MethodTrainer, trainer

Result = TypeVar("Result")

TIMED = ("augment=none", "training.minutes=null", "training.report_to=[]", "training.workers=0")
"""The settings of every recipe that is timed."""


@dataclass(frozen=True)
class Course:
    """How long a turn is: its steps, and the different batches that they learn."""

    steps: int
    batches: int


class Times(NamedTuple):
    """The seconds of the timed steps, the mean loss of the steps before them, and the seconds before the first step.

    What is computed before the first step is kept for the whole run; `before` is the time for the timed steps' cases.
    `flops`: the floating-point operations of the timed steps; None if they were not counted. `peak`: the most memory
    that the training process held, in bytes.
    """

    steps: float
    loss: float
    before: float = 0.0
    flops: float | None = None
    peak: int = 0


def apart(turn: Callable[..., Result], *given: Any) -> Result:
    """The result of a turn taken in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(turn, *given).result()


def ours(recipe: Recipe, work: Path, course: Course) -> Times:
    """This project's trainer, as a recipe runs it."""
    prepared = prepare(recipe)
    running = our_trainer(prepared, recipe, work, course)
    train, settings, model = prepared.train, recipe.training, prepared.attached.model
    before = 0.0
    if prepared.method.compares:
        for file in ("warm-up.json", "references.json"):
            began = time.perf_counter()
            set_references(model, [train], settings.batch_size, settings.precision, work / file)
            before = (time.perf_counter() - began) * course.steps / 2 / course.batches
    times = timed(running, course)._replace(before=before)
    return times._replace(flops=_flops(model, train, settings)) if prepared.method.name == "sft" else times


def our_trainer(prepared: Prepared, recipe: Recipe, work: Path, course: Course) -> MethodTrainer:
    """This project's trainer, on the cases that all contestants learn from."""
    train, places = prepared.train, places_of(recipe, len(prepared.train.cases), course)
    train.cases, train.lengths = tuple(train.cases[at] for at in places), [train.lengths[at] for at in places]
    prepared.method.begin(prepared.base, prepared.conversation)
    settings = recipe.training
    plan = Plan(steps=course.steps, rows=settings.batch_size, every=course.steps, step=0.0, look=0.0)
    return trainer(
        prepared.method, prepared.attached, train, None, settings, prepared.rates, plan, out=work / "checkpoints"
    )


def _flops(model: Any, train: Collator, settings: Training) -> float:
    """The operations that the second epoch executes, in matrix products, convolutions and attention."""
    order = train.order(settings)
    order.set_epoch(1)
    with FlopCounterMode(display=False) as counter:
        for batch in order.batches():
            inputs = train(batch)
            batch_loss(model, train, inputs, settings.precision).backward()  # type: ignore[no-untyped-call]
    return float(counter.get_total_flops())


def matmul_peak() -> float:
    """The operations per second of a large matrix product in bf16, on the GPU if there is one."""
    device, side = ("cuda", 8192) if torch.cuda.is_available() else ("cpu", 2048)
    matrix = torch.ones(side, side, dtype=torch.bfloat16, device=device)
    timer = Timer("matrix @ matrix", globals={"matrix": matrix}, num_threads=torch.get_num_threads())
    return float(2 * side**3 / min(timer.blocked_autorange(min_run_time=1.0).times))


def places_of(recipe: Recipe, cases: int, course: Course) -> list[int]:
    """The cases that all contestants learn from, evenly spread over the set."""
    count = course.batches * recipe.training.batch_size
    return [place * cases // count for place in range(count)]


def rows_of(prepared: Prepared, recipe: Recipe, course: Course) -> list[Row]:
    """The rows that all contestants learn from."""
    return [row for place in places_of(recipe, len(prepared.train.cases), course) for row in prepared.train.rows(place)]


def tokenized(prepared: Prepared, rows: Sequence[Row]) -> list[dict[str, list[int]]]:
    """The tokens of these rows, and their labels."""
    encoded = [prepared.conversation.encode([row], supervised=True) for row in rows]
    return [{key: batch[key][0].tolist() for key in ("input_ids", "attention_mask", "labels")} for batch in encoded]


def trainer_settings(recipe: Recipe, course: Course) -> dict[str, Any]:
    """What a rival's training arguments, which are transformers', have in common with ours."""
    training = recipe.training
    return {
        "max_steps": course.steps,
        "per_device_train_batch_size": training.batch_size,
        "gradient_accumulation_steps": 1,
        "dataloader_num_workers": 0,
        "learning_rate": training.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": round(training.warmup * course.steps),
        "weight_decay": training.weight_decay,
        "seed": training.seed,
        "use_cpu": not torch.cuda.is_available(),
        "report_to": "none",
        "disable_tqdm": True,
        "logging_steps": 1,
        "save_strategy": "no",
    }


def timed(running: Any, course: Course) -> Times:
    """Train, and time the second half of the steps."""
    ends: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    running.remove_callback(PrinterCallback)
    running.add_callback(Clock())
    running.args.logging_steps = 1
    running.train()
    losses = [entry["loss"] for entry in running.state.log_history if "loss" in entry]
    half = course.steps // 2
    return Times(ends[-1] - ends[half - 1], statistics.mean(losses[:half]))


def corrected(recipe: Recipe, folder: Path, course: Course) -> Recipe:
    """The recipe on pairs, as the app stores them: a reviewer has corrected a wrong option to the photo's label."""
    dataset = load(recipe)
    asked, options = next(
        (field.name, field.kind.options) for field in dataset.form.fields if isinstance(field.kind, Choice)
    )
    cases = dataset.cases["train"]
    (folder / PHOTOS).mkdir(parents=True)
    lines = []
    for place in places_of(recipe, len(cases), course):
        (photo,), right = cases[place].example.images, cases[place].values
        name = f"{place}{Path(str(photo)).suffix}"
        shutil.copyfile(str(photo), folder / PHOTOS / name)
        wrong = options[(options.index(right[asked]) + 1) % len(options)]
        line = {"case": str(place), "photos": [name], "text": "", "verdict": "corrected", "correct": right}
        lines.append(json.dumps({**line, "answer": {**right, asked: wrong}}))
    (folder / LINES).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return recipe.model_copy(
        update={
            "data": (DataEntry(path=folder, format="reviews"),),
            "labels": {**recipe.labels, asked: options},
            "splits": Splits(train=1, tune=0, calibrate=0, test=0),
        }
    )
