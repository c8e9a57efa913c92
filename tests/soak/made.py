"""Shared by the soak tests: a recipe for a random tiny base, an adapter, photos, and a timed kill."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image
from rich.console import Console

from datasets_vision.synthetic.writing import write_set
from vlm_ft.bases.tiny import save_tiny
from vlm_ft.experiments.sheet import Sheet

SEED = 0


@contextmanager
def measured(out: Path) -> Iterator[tuple[Path, Sheet]]:
    """A folder to work in, and a sheet that is written to `out`; ends the process, with 1 if a goal was missed."""
    sheet = Sheet("make soak", Console())
    with tempfile.TemporaryDirectory() as work:
        yield Path(work), sheet
    sheet.write(out)
    sys.exit(any(not figure.met for figure in sheet.figures))


def write_recipe(work: Path, drawings: int, **settings: Any) -> Path:
    """A recipe with these settings, on this many drawings, which are written beside it."""
    write_set("product_defects", work / "set", drawings, SEED)
    recipe = {
        "name": "soak",
        "task": "product_defects",
        "base": str(save_tiny("fast_vlm", work / "base")),
        "data": [{"path": str(work / "set"), "format": "voc"}],
        **settings,
    }
    file = work / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return file


def trained(work: Path) -> Path:
    """The run folder of a tiny adapter."""
    recipe = write_recipe(work, 24, fields=["passed", "kind"], training={"max_steps": 2, "batch_size": 4})
    command = [sys.executable, "-m", "vlm_ft", "train", str(recipe), "--out", str(work / "run")]
    subprocess.run(command, check=True, capture_output=True)
    return work / "run"


def drawn(folder: Path, count: int) -> Path:
    """A folder of noise, no two images alike."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(SEED)
    for number in range(count):
        pixels = noise.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:05}.jpg")
    return folder


def killed(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Let a process run for this long, then send it SIGKILL; False if it ends earlier. None: wait until it ends."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False
