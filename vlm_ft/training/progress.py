"""The progress display of a run, and the plot of its losses."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from transformers import TrainerCallback

from datasets_vision.placing import whole_file
from vlm_ft.errors import RecipeError
from vlm_ft.runs import store, stored
from vlm_ft.training.methods import Method

QUIET_LINES = 10  # lines in all if the output is not a terminal
LOSSES = {"loss": "loss", "eval_loss": "tune loss"}
"""Name of a loss in the trainer's logs -> its name for the user."""


class ShowProgress(TrainerCallback):  # type: ignore[misc]
    """A bar, as a context manager, with the losses and the time left; plain lines if there is no terminal."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.losses: dict[str, float] = {}
        self.bar = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=console,
            disable=not console.is_terminal,
        )

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start at the current step, which is not 0 in a resumed run."""
        self.started, self.first = time.monotonic(), state.global_step
        self.task = self.bar.add_task("", total=state.max_steps, completed=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Advance the bar, or print a line now and then."""
        self.bar.update(self.task, completed=state.global_step, description=self._losses_text())
        every = max(1, state.max_steps // QUIET_LINES)
        if not self.console.is_terminal and state.global_step % every == 0:
            pace = (time.monotonic() - self.started) / max(1, state.global_step - self.first)
            left = pace * (state.max_steps - state.global_step)
            self.console.print(f"step {state.global_step}/{state.max_steps}  {self._losses_text()}  {left:.0f} s left")

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Keep the newest losses."""
        self.losses |= {word: logs[key] for key, word in LOSSES.items() if logs and key in logs}

    def _losses_text(self) -> str:
        return "  ".join(f"{word} {value:.3f}" for word, value in self.losses.items())


class KeepLosses(TrainerCallback):  # type: ignore[misc]
    """Appends losses to a file as they are logged, so that a run can be watched; only the first process writes."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin with the losses of the checkpoint that the run resumes from."""
        if state.is_world_process_zero:
            with whole_file(self.file) as part:
                part.write_text("".join(map(_line, state.log_history)), encoding="utf-8")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append what was logged."""
        if state.is_world_process_zero:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(_line(state.log_history[-1]))


def _line(entry: Mapping[str, float]) -> str:
    kept = {key: entry[key] for key in ("step", *LOSSES) if key in entry}
    return json.dumps(kept) + "\n" if len(kept) > 1 else ""


class StopAtFaults(TrainerCallback):  # type: ignore[misc]
    """Ends a run before its next checkpoint if its loss is not finite or its first gradient is zero."""

    def __init__(self, method: Method) -> None:
        self.may_be_zero = method.samples  # if all answers to a prompt are equally good

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any
    ) -> None:
        """Raise `RecipeError` for a loss that is not finite, or a first gradient of zero."""
        logs = logs or {}
        for key, word in LOSSES.items():
            if not math.isfinite(logs.get(key, 0.0)):
                problem = f"the {word} is {logs[key]} at step {state.global_step}"
                remedy = f"lower the learning rate (now {args.learning_rate:g}) and start again"
                raise RecipeError("training.learning_rate", problem, remedy)
        first = state.global_step == args.logging_steps
        if first and logs.get("grad_norm") == 0 and not self.may_be_zero:
            problem = f"the gradient is zero at step {state.global_step}, so nothing would be learned"
            raise RecipeError("adapter", problem, "train another part, and report this")


class KeepTime(TrainerCallback):  # type: ignore[misc]
    """Counts the seconds of training, including those before a resumed checkpoint, in a file beside the checkpoints."""

    FILE = "seconds.json"

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Read the count stored with the checkpoint from which the run resumes."""
        self.before = self._counts(args).get(str(state.global_step), 0.0)
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds of training so far."""
        return self.before + time.monotonic() - self.started

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Store the count for this checkpoint; only the first process writes."""
        if not state.is_world_process_zero:
            return
        counts = self._counts(args) | {str(state.global_step): self.seconds}
        store(Path(args.output_dir) / self.FILE, counts)

    def _counts(self, args: Any) -> dict[str, float]:
        file = Path(args.output_dir) / self.FILE
        return stored(file, dict[str, float]) if file.exists() else {}


def draw_losses(history: Sequence[Mapping[str, float]], path: Path) -> None:
    """Plot the losses on `train` and `tune` over the steps, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4))
    axes = figure.add_axes((0.1, 0.12, 0.88, 0.85))  # a layout engine would draw everything twice
    for key, label in (("loss", "train"), ("eval_loss", "tune")):
        points = [(entry["step"], entry[key]) for entry in history if key in entry]
        if points:
            axes.plot(*zip(*points, strict=True), label=label, marker="." if key == "eval_loss" else "")
    axes.set(xlabel="step", ylabel="loss")
    losses = [entry[key] for entry in history for key in ("loss", "eval_loss") if key in entry]
    if min(losses, default=0) > 0 and max(losses) > 10 * min(losses):
        axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
