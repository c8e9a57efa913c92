"""The whole workflow on a model of a published shape, as a first user would run it: dry run, training, scoring.

Each step runs the command itself in a separate process, so that peak memory is measured per step. The estimate of the
dry run is for a GPU; without the CUDA context it should hold here too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from datasets_vision.synthetic.writing import write_set
from vlm_ft.answers.kinds import Strict
from vlm_ft.bases.hub import HubBase
from vlm_ft.bases.published import save_published
from vlm_ft.bases.reader import open_reader
from vlm_ft.data.cases import load
from vlm_ft.errors import ModelError
from vlm_ft.evaluation.results import add_entries
from vlm_ft.experiments.sheet import machine
from vlm_ft.lengths import Ruler
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.settings import write_settings
from vlm_ft.training.memory import CUDA_CONTEXT, LongestRow, need
from vlm_ft.training.methods.sft import SFT
from vlm_ft.training.rehearse import check_lengths

EXAMPLES, SCORED = 24, 2
PIXELS = 384 * 384  # one tile of LLaVA-OneVision, 144 tokens of Qwen3-VL


class Step(Strict):
    """One command: how long it took, and the peak memory of its process."""

    name: str
    seconds: float
    peak_bytes: int


class BaseTrial(Strict):
    """One base. `estimate_bytes`: what the dry run expects for training, without the CUDA context."""

    base: str
    parameters: float
    longest_row: int
    estimate_bytes: int
    steps: tuple[Step, ...]
    command: str
    machine: str


def try_base(name: str, work: Path, out: Path, command: str, console: Console) -> None:
    """Run every step in `work`, and write what was measured to `out`, where it replaces the base's earlier entry.

    Raises `ModelError` if a step fails.
    """
    console.print(f"drawing random weights in the shape of {name}")
    base = save_published(name, work / "base")
    photos = write_set("product_defects", work / "set", EXAMPLES, 0) / "JPEGImages"
    recipe = _recipe(work)
    tokens, estimate = _expected(name, base, recipe)
    config, run = str(work / "recipe.yaml"), str(work / "run")
    shown = work / "shown"
    shown.mkdir()
    for photo in sorted(photos.iterdir())[:SCORED]:
        shutil.copy(photo, shown)
    steps = (
        _step("dry run", ["train", config, "--dry-run"], console),
        _step("one step, and the checks after it", ["train", config, "--out", run], console),
        _step("score", ["score", str(shown), "--adapter", run, "--out", str(work / "scores.csv")], console),
    )
    trial = BaseTrial(
        base=name,
        parameters=base.parameters,
        longest_row=tokens,
        estimate_bytes=round(estimate),
        steps=steps,
        command=command,
        machine=machine(),
    )
    add_entries(out, BaseTrial, [trial], "base")
    ratio = steps[1].peak_bytes / estimate
    console.print(
        f"training used {ratio:.2f} of the {estimate / 2**30:.1f} GiB that the dry run estimated: {out}", markup=False
    )


def _recipe(work: Path) -> Recipe:
    content = {
        "name": "published",
        "task": "product_defects",
        "base": str(work / "base"),
        "dtype": "bfloat16",
        "data": [{"path": str(work / "set"), "format": "voc"}],
        "fields": ["passed", "kind", "findings"],
        "pixels": {"minimum": PIXELS, "maximum": PIXELS},
        "training": {"max_steps": 1, "batch_size": 1, "checkpointing": True},
        "splits": {"train": 0.8, "test": 0.2},
    }
    write_settings(work / "recipe.yaml", content)
    return load_recipe(work / "recipe.yaml")


def _expected(name: str, base: HubBase, recipe: Recipe) -> tuple[int, float]:
    """The tokens of the longest row, and the bytes that training one such row should need."""
    dataset, reader = load(recipe), open_reader(recipe.base, limits=recipe.limits)
    form = dataset.form.with_boxes(reader.family.boxes)
    lengths = check_lengths(SFT(), form, dataset.cases["train"], Ruler(reader))
    row = LongestRow.of(lengths, recipe.pixels)
    return lengths.longest, need(name, base, recipe.adapter, row, 1).bf16 - CUDA_CONTEXT


def _step(name: str, arguments: Sequence[str], console: Console) -> Step:
    started = time.monotonic()
    command = [sys.executable, "-m", "vlm_ft", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = printed.strip().splitlines()[-1:]
        raise ModelError(name, f"exit code {process.returncode}: {' '.join(last)}", f"see vlm-ft {' '.join(arguments)}")
    step = Step(name=name, seconds=round(time.monotonic() - started, 1), peak_bytes=usage.ru_maxrss * 1024)
    console.print(f"{name}: {step.seconds:.0f} s, {step.peak_bytes / 2**30:.1f} GiB peak", highlight=False)
    return step
