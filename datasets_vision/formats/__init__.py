"""The annotation formats that can be read, one module each."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from datasets_vision.formats import folders, tables, voc
from datasets_vision.formats.contract import Format
from vlm_ft.errors import DataError

FORMATS: dict[str, Format] = {
    "voc": Format("voc", voc.matches, voc.read),
    "folders": Format("folders", folders.matches, folders.read),
    "tables": Format("tables", tables.matches, tables.read),
}
"""By name, in the order in which they are tried: the more particular first."""


def detect(path: Path) -> str:
    """The name of the format of the files at `path`; raises DataError naming what was seen."""
    for name, form in FORMATS.items():
        if form.matches(path):
            return name
    raise DataError(f"{path}: no known format in {_seen(path)}; name one with format: {', '.join(FORMATS)}")


def _seen(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    suffixes = Counter(file.suffix.lower() or "(no suffix)" for file in files)
    return ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common(6)) or "an empty folder"
