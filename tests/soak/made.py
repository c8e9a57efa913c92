"""Shared by the soak tests: a recipe for a random tiny base, and a function that kills a process."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import yaml

from datasets_vision.synthetic.writing import write_set
from vlm_ft.bases.tiny import save_tiny

SEED = 0


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


def killed(process: subprocess.Popen[bytes], seconds: float | None) -> bool:
    """Let a process run for this long, then send it SIGKILL; False if it ends before. None: wait until it ends."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False
