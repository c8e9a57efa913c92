"""Whether a set is made up: what learns from it says so."""

from __future__ import annotations

from pathlib import Path

from datasets_vision.example import SYNTHETIC_MARKER


def is_synthetic(path: Path) -> bool:
    """Whether a data set, or the set that a file or folder of it lies in, bears the generators' marker."""
    folder = path.resolve()
    return any((place / SYNTHETIC_MARKER).is_file() for place in (folder, folder.parent))
