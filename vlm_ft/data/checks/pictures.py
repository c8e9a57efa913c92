"""Facts about one picture: the true format of its file, its orientation, its contrast, and its appearance.

The appearance is a perceptual hash (pHash, 64 bits) in all eight orientations, and 16x16 grey levels that distinguish
real likeness from chance. Facts that need decoding are cached by content, so that a second check is quick.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import warnings
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.embedded import cache_folder
from datasets_vision.example import Picture, View, path_of
from datasets_vision.images import exif_orientation, image_size, open_image
from datasets_vision.walk import IMAGE_SUFFIXES
from vlm_ft.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    Levels = np.ndarray[Any, Any]

ORIENTATIONS = (
    "in the same orientation",
    "rotated by 90°",
    "rotated by 180°",
    "rotated by 270°",
    "mirrored",
    "mirrored and rotated by 90°",
    "flipped vertically",
    "mirrored and rotated by 270°",
)
GREY_SIDE = 16  # pixels, side of the stored grey levels
HASHED_SIDE = 32  # pixels, side of the picture that pHash sees
_VERSION = 2  # of the cached facts


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts about one picture. `format` and `orientation` are as the file states them.

    `fault` and `remedy` say why it cannot be read, and what to do about it. `spread` is the range of its grey levels,
    `hashes` are eight 64-bit perceptual hashes, `grey` holds 256 levels; these are None or empty if it was not decoded.
    """

    content: bytes
    width: int = 0
    height: int = 0
    format: str = ""
    orientation: int = 1
    fault: str | None = None
    remedy: str = ""
    spread: int | None = None
    hashes: tuple[int, ...] = ()
    grey: bytes = b""


def facts_of(picture: Picture, *, decode: bool = True, cache: FactCache | None = None) -> Facts:
    """The facts about a picture; without `decode`, only those from the file's header or from `cache`."""
    facts = _header(picture)
    if facts.fault is not None:
        return facts
    known = cache.get(facts) if cache else None
    if known is not None or not decode:
        return known or facts
    try:
        image = open_image(picture)
    except DataError as error:
        facts = replace(facts, fault=error.problem, remedy=error.remedy)
    else:
        facts = _appearance(facts, image)
    if cache:
        cache.put(facts)
    return facts


def _header(picture: Picture) -> Facts:
    path = path_of(picture)
    try:
        content = _content(path, path.stat().st_mtime_ns)
    except OSError as error:
        return Facts(str(picture).encode(errors="surrogateescape"), fault=str(error.strerror), remedy="check the path")
    part = repr((picture.frame, picture.window, picture.crop)) if isinstance(picture, View) else ""
    facts = Facts(hashlib.blake2b(content + part.encode(), digest_size=16).digest())
    try:
        width, height = image_size(picture)
    except DataError as error:
        return replace(facts, fault=error.problem, remedy=error.remedy)
    form, orientation = _file_facts(path, path.stat().st_mtime_ns)
    return replace(facts, width=width, height=height, format=form, orientation=orientation)


@lru_cache(maxsize=256)
def _content(path: Path, changed: int) -> bytes:
    """A hash of a file's bytes, cached so that the crops of one large photo read it once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


@lru_cache(maxsize=256)
def _file_facts(path: Path, changed: int) -> tuple[str, int]:
    """The format by content, and the EXIF orientation; ("", 1) for files that Pillow does not read."""
    from PIL import Image

    if path.suffix.lower() not in IMAGE_SUFFIXES:  # files that other libraries read (DICOM ...) have neither
        return "", 1
    with warnings.catch_warnings(action="ignore"), suppress(Exception), Image.open(path) as image:
        return str(image.format), exif_orientation(image)
    return "", 1


def _appearance(facts: Facts, image: Any) -> Facts:
    import imagehash
    import numpy as np
    from PIL import Image

    grey = image.convert("L")
    small = grey.resize((HASHED_SIDE, HASHED_SIDE), Image.Resampling.LANCZOS)
    levels = np.asarray(small, dtype=np.uint8)
    hashes = tuple(
        int.from_bytes(np.packbits(imagehash.phash(Image.fromarray(seen)).hash).tobytes(), "big")
        for seen in orientations(levels)
    )
    half = HASHED_SIDE // GREY_SIDE
    reduced = levels.reshape(GREY_SIDE, half, GREY_SIDE, half).mean(axis=(1, 3))
    low, high = grey.getextrema()
    return replace(facts, spread=int(high - low), hashes=hashes, grey=reduced.round().astype(np.uint8).tobytes())


def orientations(levels: Levels) -> list[Levels]:
    """A square array (side, side) in its eight orientations, in the order of ORIENTATIONS."""
    import numpy as np

    mirrored = levels[:, ::-1]
    return [np.ascontiguousarray(np.rot90(side, turns)) for side in (levels, mirrored) for turns in range(4)]


def outline(grey: bytes) -> Levels:
    """The stored grey levels, (16, 16), normalised to mean 0 and length 1, so that brightness and contrast drop out."""
    import numpy as np

    levels = np.frombuffer(grey, np.uint8).reshape(GREY_SIDE, GREY_SIDE).astype(np.float64)
    levels = levels - levels.mean()
    length = float(np.sqrt((levels**2).sum()))
    return np.asarray(levels / length if length else levels)


def likeness(one: Levels, other: Levels) -> float:
    """The correlation, -1 to 1, of two outlines, whitened or not; 0 if either is all zeros."""
    import numpy as np

    scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
    return float((one * other).sum()) / scale if scale else 0.0


class FactCache:
    """A cache of the facts about decoded pictures, by content, in the user's cache folder if it is writable."""

    def __init__(self, file: Path | None = None) -> None:
        self._database: sqlite3.Connection | None = None
        file = file or cache_folder() / f"pictures_{_VERSION}.sqlite"
        with suppress(OSError, sqlite3.Error):
            file.parent.mkdir(parents=True, exist_ok=True)
            database = sqlite3.connect(file, timeout=1, isolation_level=None)
            database.execute("PRAGMA synchronous = OFF")
            database.execute("CREATE TABLE IF NOT EXISTS facts (content BLOB PRIMARY KEY, appearance TEXT, grey BLOB)")
            self._database = database

    def get(self, facts: Facts) -> Facts | None:
        """The cached facts about a picture of the same content; None if there are none."""
        if self._database is None:
            return None
        with suppress(sqlite3.Error, ValueError, TypeError):
            row = self._database.execute(
                "SELECT appearance, grey FROM facts WHERE content = ?", (facts.content,)
            ).fetchone()
            if row is not None:
                fault, remedy, spread, hashes = json.loads(row[0])
                return replace(facts, fault=fault, remedy=remedy, spread=spread, hashes=tuple(hashes), grey=row[1])
        return None

    def put(self, facts: Facts) -> None:
        if self._database is None:
            return
        appearance = json.dumps([facts.fault, facts.remedy, facts.spread, facts.hashes])
        with suppress(sqlite3.Error):
            self._database.execute(
                "INSERT OR REPLACE INTO facts VALUES (?, ?, ?)", (facts.content, appearance, facts.grey)
            )
