"""Small sets as people write them, the results of reading them, and the real sets if they are present."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets_vision.example import Example
from datasets_vision.source import Reading, Source, read

DATA = Path(os.environ.get("VLM_FT_DATA") or Path(__file__).parents[2] / "../shared/data")
SQUARE = [[10, 5], [30, 5], [30, 25], [10, 25]]
"""A polygon in a 100x50 photo; its box in 0..1000 is `SQUARE_BOX`."""

SQUARE_BOX = (100, 100, 300, 500)


def photo(path: Path, size: tuple[int, int] = (100, 50)) -> Path:
    """A small photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    """Write a JSON file in UTF-8."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def reading(path: Path, content: str | bytes | None = None, **options: Any) -> Reading:
    """The result of reading a source at `path`, after the content, if given, was written there."""
    if content is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read(Source(path=path, **options))


def lines(path: Path, *records: Any, **options: Any) -> Reading:
    """The result of reading these records as JSON lines."""
    return reading(path, "\n".join(json.dumps(record) for record in records), **options)


def only(found: Reading) -> Any:
    """The only example, if nothing was set aside."""
    assert found.set_aside == ()
    (example,) = found.examples
    return example


def only_set_aside(found: Reading, place: str) -> str:
    """The reason why the only thing that was set aside, at this place, was."""
    (item,) = found.set_aside
    assert item.place == place
    return item.reason


def reasons(found: Reading) -> str:
    """Everything that was set aside, one line each."""
    lines = [f"{item.place}: {item.reason}" for item in found.set_aside]
    return "\n".join(lines)


def objects(example: Example) -> list[tuple[str, Any]]:
    """Names and boxes."""
    return [(obj.name, obj.box) for obj in example.label.objects or ()]


def real_set(name: str, **options: Any) -> Reading:
    """A real set, read unchanged; skips the test if the data are absent."""
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here; point VLM_FT_DATA at the folder that contains it")
    return read(Source(path=DATA / name, **options))
