"""`Unit`: what one row of the table is about, photos or a text; listed before scoring, opened when its turn comes."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from datasets_vision.example import Turn, digest_of, text_of
from datasets_vision.images import is_image, open_image
from datasets_vision.source import SetAside, Source, stream
from datasets_vision.walk import Skipped, suffix_of, walk
from vlm_ft.errors import DataError, one_line
from vlm_ft.scoring.ledger import SEPARATOR, Entry

SETTLED = 2 * 10**9
"""Nanoseconds. A file that changed more recently may change again within one tick of its file system's clock."""


Decode = Callable[[Sequence[Path]], tuple[Image, ...]]
"""Opens photos as upright RGB images; raises `DataError` for one that cannot be decoded."""


@dataclass(frozen=True, slots=True)
class Unit:
    """The photos or the text of one row, or the reason why its text cannot be used."""

    path: str
    images: tuple[Path, ...] = ()
    turns: tuple[Turn, ...] = ()
    error: str = ""

    def digest(self) -> str:
        """The SHA-256 of its contents. Raises `OSError` if they cannot be read."""
        if self.images:
            return digest(self.images)
        return digest_of(text_of(self.turns))


@dataclass(frozen=True, slots=True)
class Opened:
    """A unit that has been read and decoded, or the reason why it could not be; `digest` is "" if it is unknown."""

    path: str
    digest: str
    images: tuple[Image, ...] = ()
    turns: tuple[Turn, ...] = ()
    error: str = ""

    @property
    def pixels(self) -> int:
        return sum(image.width * image.height for image in self.images)


class Photos:
    """The images below a folder, each a unit; with `by_case`, those of one subfolder are a unit together.

    `notes` says what else the folder contains, once it has been walked. `outputs` are not mentioned.
    """

    def __init__(self, folder: Path, by_case: bool, outputs: Collection[Path]) -> None:
        self.folder = folder
        self._by_case, self._outputs = by_case, {path.resolve() for path in outputs}
        self._others: Counter[str] = Counter()
        self._skipped: Skipped = []

    def entries(self) -> Iterator[Entry]:
        """Walk the folder. Raises `DataError` if it contains no images."""
        images = 0
        for path in walk(self.folder, skipped=self._skipped):
            if not is_image(path):
                if path.resolve() not in self._outputs:
                    self._others[suffix_of(path.name) or "no suffix"] += 1
                continue
            images += 1
            inside = path.relative_to(self.folder)
            is_case = self._by_case and len(inside.parts) > 1
            yield Entry(_printable(inside.parent if is_case else inside), _stamp(path), os.fsencode(inside))
        if not images:
            remedy = "give a folder with JPEG, PNG, WebP, BMP, TIFF or GIF files"
            raise DataError(self.folder, "contains no images", remedy)

    def unit(self, entry: Entry) -> Unit:
        """The unit of an entry."""
        inside = entry.content.split(SEPARATOR)
        return Unit(entry.path, tuple(self.folder / os.fsdecode(each) for each in inside))

    @property
    def notes(self) -> list[str]:
        kinds = ", ".join(f"{suffix} {count}" for suffix, count in self._others.most_common())
        notes = [f"other files are not scored: {kinds}"] if kinds else []
        return notes + [f"{folder}: {reason}; score that folder itself" for folder, reason in self._skipped]


class Texts:
    """The rows of the tables in a folder, or of one table; `template` gives the text of each."""

    notes: Sequence[str] = ()

    def __init__(self, place: Path, template: str) -> None:
        self._source = Source(path=place, text=template)

    def entries(self) -> Iterator[Entry]:
        """Read the tables."""
        for item in stream(self._source):
            unit = (
                Unit(item.place, error=item.reason) if isinstance(item, SetAside) else Unit(item.id, turns=item.turns)
            )
            turns = [(turn.role, turn.text) for turn in unit.turns]
            yield Entry(unit.path, unit.digest(), json.dumps([turns, unit.error]).encode())

    def unit(self, entry: Entry) -> Unit:
        """The unit of an entry."""
        turns, error = json.loads(entry.content)
        return Unit(entry.path, turns=tuple(Turn(role, text) for role, text in turns), error=error)


def check_folder(folder: Path) -> None:
    """Raise `DataError` if the folder does not exist."""
    if folder.is_file():
        raise DataError(folder, "not a folder", "give the folder of photos; for a table of texts, add --text")
    if not folder.is_dir():
        raise DataError(folder, "no such folder of images", "check the path")


def decoded_here(photos: Sequence[Path]) -> tuple[Image, ...]:
    """Decode photos in this process."""
    return tuple(map(open_image, photos))


def open_unit(unit: Unit, known: str | None = None, decode: Decode = decoded_here) -> Opened:
    """Read and decode a unit. `known` is its digest if that has been computed already."""
    try:
        found = known or unit.digest()
    except OSError as error:
        return Opened(unit.path, "", error=f"cannot be read: {error.strerror or error}")
    if unit.error:
        return Opened(unit.path, found, error=unit.error)
    try:
        return Opened(unit.path, found, decode(unit.images), unit.turns)
    except DataError as error:
        only_photo = [error.place] == [str(photo) for photo in unit.images]  # the row names it
        return Opened(unit.path, found, error=one_line(error.reason) if only_photo else str(error))


def digest(paths: Sequence[Path]) -> str:
    """The SHA-256 of one file, or of the digests of several."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()


def _stamp(path: Path) -> str | None:
    """A stamp that changes whenever the file does; None if it cannot be relied on."""
    try:
        state = path.stat()
    except OSError:
        return None
    if time.time_ns() - state.st_ctime_ns < SETTLED:
        return None
    return f"{state.st_size}:{state.st_mtime_ns}:{state.st_ctime_ns}"


def _printable(path: Path) -> str:
    """The path as text; bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace")
