"""Training through many kills: ``python -m tests.soak.training --out soak.json``.

A run on a random tiny model, with augmentation, worker processes, the shared prefix and the vision bank, is killed at
random moments and resumed until it is done. Its adapter and losses must equal those of an uninterrupted run, bit for
bit.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.soak.made import SEED, killed, write_recipe
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.runs import Run

KILLS = 20
STEPS = 60


def main() -> None:
    """Run the soak, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--kills", type=int, default=KILLS)
    options = parser.parse_args()
    sheet = Sheet("make soak", Console())
    with tempfile.TemporaryDirectory() as work:
        kills(Path(work), options.kills, sheet)
    sheet.write(options.out)
    sys.exit(any(not figure.met for figure in sheet.figures))


def kills(work: Path, count: int, sheet: Sheet) -> None:
    """Train once uninterrupted, then with kills, starting over whenever a run is done, until `count` were made."""
    recipe = made_recipe(work)
    started = time.monotonic()
    whole = Run(work / "whole")
    train(recipe, whole.folder, resume=False).wait()
    seconds = time.monotonic() - started
    moments, done, finished = random.Random(SEED), 0, 0
    adapters, losses = 0, 0  # that differ
    while done < count:
        run, begun = Run(work / f"killed-{finished}"), False
        while run.state != "finished":
            started = time.monotonic()
            process = train(recipe, run.folder, resume=begun)
            was_killed = killed(process, moments.uniform(0.3, 1.0) * seconds if done < count else None)
            if not was_killed and process.returncode:
                raise RuntimeError(f"training failed with exit code {process.returncode}")
            if not was_killed and not begun:  # the machine has become faster
                seconds = time.monotonic() - started
            done += was_killed
            begun = run.state != "empty"
        finished += 1
        adapters += tensors(run) != tensors(whole)
        losses += logged(run) != logged(whole)
    sheet.add("SIGKILLs while training", done, count, "higher", "kills")
    sheet.add("runs finished after them", finished, None, "higher", "runs")
    sheet.add("of these, with another adapter than without a kill", adapters, 0, "lower", "runs")
    sheet.add("of these, with other losses than without a kill", losses, 0, "lower", "runs")


def tensors(run: Run) -> bytes:
    """The adapter's file of tensors."""
    return (run.adapter / "adapter_model.safetensors").read_bytes()


def logged(run: Run) -> list[Any]:
    """The losses on `train` and `tune`."""
    assert run.checkpoint is not None
    state = json.loads((run.checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return [entry[key] for entry in state["log_history"] for key in ("loss", "eval_loss") if key in entry]


def train(recipe: Path, out: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-m", "vlm_ft", "train", str(recipe), "--out", str(out)]
    command += ["--resume"] if resume else []
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def made_recipe(work: Path) -> Path:
    """A recipe on drawings for a tiny base."""
    return write_recipe(
        work,
        60,
        fields=["passed", "kind", "findings"],
        augment="surfaces",
        bank={"use": "always", "views": 2},
        splits={"train": 0.7, "tune": 0.1, "calibrate": 0.0, "test": 0.2},
        training={"max_steps": STEPS, "batch_size": 4, "evaluations": 12, "workers": 1, "precision": "fp32"},
    )


if __name__ == "__main__":
    main()
