"""Whether a data set is synthetic, which models trained on it must state."""

from __future__ import annotations

from pathlib import Path

from datasets_vision.example import SYNTHETIC_MARKER


def is_synthetic(path: Path) -> bool:
    """Whether `path`, or the folder that contains it, has the marker of the generators."""
    folder = path.resolve()
    return any((place / SYNTHETIC_MARKER).is_file() for place in (folder, folder.parent))
