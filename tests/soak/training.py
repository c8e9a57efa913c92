"""Training through many kills: ``python -m tests.soak.training --out soak.json``.

A run on a random tiny model, with dropout, augmentation, worker processes, the shared prefix and the vision bank, is
killed and resumed until it is done: at random moments, and every fourth time while it saves a checkpoint. Its adapter
and losses must equal those of an uninterrupted run, bit for bit.
"""

from __future__ import annotations

import argparse
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from tests.soak.made import SEED, killed, measured, write_recipe
from vlm_ft.conversation import SHARED
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.recipe import load_recipe
from vlm_ft.runs import STATE, Run, stored
from vlm_ft.training.plan import Plan
from vlm_ft.training.prepare import prepare

KILLS = 20
STEPS = 60
IN_SAVES = 4  # of so many kills, one is inside a save


def main() -> None:
    """Run the soak, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("soak.json"))
    parser.add_argument("--kills", type=int, default=KILLS)
    options = parser.parse_args()
    with measured(options.out) as (work, sheet):
        kills(work, options.kills, sheet)


def kills(work: Path, count: int, sheet: Sheet) -> None:
    """Train once uninterrupted, then with kills, starting over whenever a run is done, until `count` were made."""
    recipe = made_recipe(work)
    started = time.monotonic()
    whole = Run(work / "whole")
    train(recipe, whole.folder, resume=False).wait()
    seconds = time.monotonic() - started
    require_all_on(recipe, whole)
    moments, done, in_saves, finished = random.Random(SEED), 0, 0, 0
    adapters, losses = 0, 0  # that differ
    while done < count:
        run, begun = Run(work / f"killed-{finished}"), False
        while run.state != "finished":
            started = time.monotonic()
            process, moment = train(recipe, run.folder, resume=begun), moments.uniform(0.3, 1.0) * seconds
            if done < count and done % IN_SAVES == IN_SAVES - 1:
                was_killed = killed_in_save(process, run, 0.8 * moment)
                in_saves += was_killed and bool(run.passed_over)
            else:
                was_killed = killed(process, moment if done < count else None)
            if not was_killed and process.returncode:
                raise RuntimeError(f"training failed with exit code {process.returncode}")
            if not was_killed and not begun:  # the machine has become faster
                seconds = time.monotonic() - started
            done += was_killed
            begun = run.state != "empty"
        finished += 1
        adapters += tensors(run) != tensors(whole)
        losses += run.read_losses() != whole.read_losses()
    sheet.add("SIGKILLs while training", done, count, "higher", "kills")
    sheet.add("of these, inside a save", in_saves, count // IN_SAVES, "higher", "kills")
    sheet.add("runs finished after them", finished, None, "higher", "runs")
    sheet.add("of these, with another adapter than without a kill", adapters, 0, "lower", "runs")
    sheet.add("of these, with other losses than without a kill", losses, 0, "lower", "runs")


def tensors(run: Run) -> bytes:
    """The adapter's file of tensors."""
    return (run.adapter / "adapter_model.safetensors").read_bytes()


def require_all_on(recipe: Path, whole: Run) -> None:
    """Raise `RuntimeError` unless the run had a vision bank, and its rows share a prefix."""
    prepared = prepare(load_recipe(recipe))
    shared = prepared.train([0, 1]).get(SHARED, 0)
    views = stored(whole.plan, Plan).views
    if not (shared and views):
        raise RuntimeError(f"{shared} shared tokens and {views} views in the bank; both should be in use")


def killed_in_save(process: subprocess.Popen[bytes], run: Run, seconds: float) -> bool:
    """Send SIGKILL inside the first save after this time; False if the process ends earlier."""
    since = time.time() + seconds
    while process.poll() is None:
        if saving(run, since):
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.001)
    return False


def saving(run: Run, since: float) -> bool:
    """Whether a checkpoint has a file from after this moment, and lacks the one that is written last."""
    with suppress(FileNotFoundError):  # an old checkpoint is being removed
        for folder in run.checkpoints.glob("checkpoint-*"):
            if not (folder / STATE).exists() and any(file.stat().st_mtime > since for file in folder.iterdir()):
                return True
    return False


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
        adapter={"dropout": 0.1},
        bank={"use": "always", "views": 2},
        splits={"train": 0.7, "tune": 0.1, "calibrate": 0.0, "test": 0.2},
        training={"max_steps": STEPS, "batch_size": 4, "evaluations": 12, "workers": 1, "precision": "fp32"},
    )


if __name__ == "__main__":
    main()
