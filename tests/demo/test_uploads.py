"""Photos lose their metadata before the page learns that they were uploaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from vlm_ft.demo.app import build_app, mount

from datasets_vision.images import open_image
from tests.datasets_vision.test_metadata import SECRET, photo

ROUTE = "gradio_api/upload"


@pytest.fixture
def client(known: Any) -> Iterator[httpx.Client]:
    """Asks the app, whose uploads are deleted when it ends."""
    with TestClient(mount(FastAPI(), build_app(known)), base_url="http://testserver/app/") as client:
        yield client


def test_uploads_are_without_metadata(client: httpx.Client, tmp_path: Path) -> None:
    paths = [photo(tmp_path, kind) for kind in ("jpg", "png")]
    content = [path.read_bytes() for path in paths]
    assert all(SECRET.encode() in each for each in content)
    files = [("files", (path.name, each)) for path, each in zip(paths, content, strict=True)]
    stored = client.post(ROUTE, files=files).json()
    for path, original in zip(stored, paths, strict=True):
        assert SECRET.encode() not in Path(path).read_bytes()
        assert open_image(Path(path)).tobytes() == open_image(original).tobytes()


def test_examples_are_without_metadata_too(known: Any, tmp_path: Path) -> None:
    example = photo(tmp_path, "jpg")
    blocks = build_app(known, {"plates": [example]})
    kept = {Path(file) for block in blocks.blocks.values() for file in block.keep_in_cache}  # for the gallery, too
    (asked,) = (file for file in kept if file.name == example.name)
    assert SECRET.encode() in example.read_bytes()
    assert not any(SECRET.encode() in file.read_bytes() for file in kept)
    assert open_image(asked).tobytes() == open_image(example).tobytes()


def test_a_refused_upload_is_refused_as_before(client: httpx.Client) -> None:
    assert client.post(ROUTE, content=b"no form").status_code == 400
