"""Locate a base: a local folder, the default base, or a name on the Hub."""

from __future__ import annotations

from pathlib import Path

from vlm_ft.bases.compact import COMPACT, compact_folder
from vlm_ft.errors import ModelError


def locate(name: str) -> str:
    """The folder of a local base, the folder of ``compact`` (downloaded on first use), or the name itself.

    Raises `ModelError` if a local path is missing, or if ``compact`` cannot be downloaded.
    """
    if name == COMPACT:
        return str(compact_folder())
    path = Path(name).expanduser()
    if path.is_dir():
        return str(path)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"base {name}", "no such folder", f"give a model folder, a Hub name (owner/model) or {COMPACT!r}"
        )
    return name
