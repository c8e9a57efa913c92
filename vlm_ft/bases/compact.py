"""The embedded default base: two published sets of weights, joined as one small vision-language model."""

from __future__ import annotations

from pathlib import Path

COMPACT = "compact"


def compact_folder() -> Path:
    """The folder of the assembled base."""
    raise NotImplementedError
