"""A photo that hangs or crashes its decoder fails its own request, and no other."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.images import open_image
from vlm_ft.errors import DataError
from vlm_ft.inference.photo_decoder import DIGEST, PhotoDecoder


def hostile(path: Path) -> Image.Image:
    """Hangs or dies if the file's name says so."""
    if path.name == "hangs.png":
        time.sleep(600)
    if path.name == "dies.png":
        os.abort()
    return open_image(path)


@pytest.fixture
def decoder() -> Iterator[PhotoDecoder]:
    found = PhotoDecoder(seconds=5, open_photo=hostile)
    yield found
    found.close()


def test_bad_photos_leave_the_others_alone(decoder: PhotoDecoder, tmp_path: Path) -> None:
    for name in ("good.png", "hangs.png", "dies.png"):
        Image.new("RGB", (30, 20), (1, 2, 3)).save(tmp_path / name)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    good = tmp_path / "good.png"
    for name, says in (
        ("dies.png", "its decoder crashed"),
        ("hangs.png", "takes more than 5 s to decode"),
        ("broken.png", "not a readable image"),
    ):
        with pytest.raises(DataError, match=says):
            decoder.decoded([good, tmp_path / name])
        (image,) = decoder.decoded([good])
        assert image.size == (30, 20)
    assert image.tobytes() == open_image(good).tobytes()
    assert image.info[DIGEST] == hashlib.sha256(good.read_bytes()).hexdigest()
