"""Small files as people write them, and the real sets if they are present."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets_vision.source import Reading, Source, read

DATA = Path(os.environ.get("VLM_FT_DATA") or Path(__file__).parents[2] / "../shared/data")


def reading(path: Path, content: str | bytes, **options: Any) -> Reading:
    """The result of reading a file with this content."""
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


def real_set(name: str, **options: Any) -> Reading:
    """A real set, read unchanged; skips the test if the data are absent."""
    if not (DATA / name).is_dir():
        pytest.skip(f"{name} is not here; point VLM_FT_DATA at the folder that holds it")
    return read(Source(path=DATA / name, **options))


def write_image(path: Path) -> None:
    """A small photo."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(path)
