"""Photos embedded in a data file, written once to a cache folder under the hash of their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from io import BytesIO
from pathlib import Path

from platformdirs import user_cache_path

from datasets_vision.errors import DataError

_SUFFIXES = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tif", "GIF": ".gif"}


def cache_folder() -> Path:
    """`$VLM_FT_CACHE`, else `vlm_ft` in the user's cache folder."""
    given = os.environ.get("VLM_FT_CACHE")
    return Path(given) if given else user_cache_path("vlm_ft")


def cached_image(data: bytes) -> Path:
    """The cached file with these image bytes; raises DataError, without a place, if they are not an image.

    Only the header is read. The file is written once, whole or not at all.
    """
    name = hashlib.sha256(data).hexdigest()
    path = cache_folder() / "images" / name[:2] / f"{name}{_suffix(data)}"
    if path.is_file() and path.stat().st_size == len(data):
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            file.write(data)
        Path(file.name).replace(path)
    except OSError as error:
        raise DataError(path.parent, f"cannot be written ({error.strerror})", "set VLM_FT_CACHE") from error
    return path


def _suffix(data: bytes) -> str:
    from PIL import Image

    try:
        with Image.open(BytesIO(data), formats=tuple(_SUFFIXES)) as image:
            return _SUFFIXES[image.format or ""]
    except (OSError, SyntaxError, ValueError, KeyError, Image.DecompressionBombError) as error:
        raise DataError("", f"{len(data)} bytes that are not an image", "embed a JPEG, PNG or WebP file") from error
