"""DeepPCB: a defect-free template for each tested board, and boxes in a text file.

    PCBData/group00041/00041/00041000_temp.jpg, 00041000_test.jpg
    PCBData/group00041/00041_not/00041000.txt       x1 y1 x2 y2 type
    PCBData/trainval.txt, PCBData/test.txt          group00041/00041/00041000.jpg group00041/00041_not/00041000.txt

The corners are read as edges in pixels, with the second corner exclusive.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from datasets_vision.errors import BoxError, DataError, nearest
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.roles import SPLIT_NAMES
from datasets_vision.formats.shapes import Annotation, Size, read_objects
from datasets_vision.formats.text_files import read_text
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES, walk

TYPES = {"1": "open", "2": "short", "3": "mousebite", "4": "spur", "5": "copper", "6": "pin-hole"}
"""The defect types by the format's numbers."""

MAX_TEXT = 1_000_000
"""Bytes; a larger file of boxes is set aside."""

_TEMPLATE, _TEST, _BOXES = "_temp", "_test", "_not"


class _Listed(NamedTuple):
    role: str  # the name of the list
    place: str


def matches(path: Path) -> bool:
    """A tested photo with its template, and a folder of text files whose name ends with _not."""
    tested = filter(_is_tested, walk(path))
    return any(_text_of(file) is not None and _twin(file, _TEST, _TEMPLATE).is_file() for file in tested)


def read(source: Source) -> Iterator[Example | SetAside]:
    """One example per pair, with images (template, test) and boxes on the second. `group` is the board's folder.

    The role is the name of the list (trainval.txt, ...) that names the pair. An empty text file means that there are
    no defects. A pair without a text file, a photo without its counterpart, and a listed pair that is missing are set
    aside.
    """
    source.require_columns(source.path, source.columns.values(), ())
    lists: dict[str, _Listed] = {}
    yield from _read_lists(source.path, lists)
    for path in walk(source.path, IMAGE_SUFFIXES):
        if _is_tested(path):
            yield from or_set_aside(path, _example(source.path, path, lists))
        elif not path.stem.endswith(_TEMPLATE):
            yield SetAside(str(path), f"its name ends with neither {_TEMPLATE} nor {_TEST}")
        elif not (tested := _twin(path, _TEMPLATE, _TEST)).is_file():
            yield SetAside(str(path), f"a template without its photo {tested.name}")
    for stem, listed in lists.items():
        yield SetAside(listed.place, f"{stem!r} is listed in {listed.role!r} but missing")


def _is_tested(path: Path) -> bool:
    return path.stem.endswith(_TEST) and path.suffix.lower() in IMAGE_SUFFIXES


def _twin(photo: Path, own: str, other: str) -> Path:
    """The other photo of a pair, whose name ends with `other` instead of `own`."""
    return photo.with_name(photo.stem.removesuffix(own) + other + photo.suffix)


def _text_of(tested: Path) -> Path | None:
    """The file of boxes, in the sibling folder named after the photo's folder with _not added."""
    folder = tested.parent.with_name(tested.parent.name + _BOXES)
    text = folder / f"{tested.stem.removesuffix(_TEST)}.txt"
    return text if text.is_file() else None


def _read_lists(root: Path, lists: dict[str, _Listed]) -> Iterator[SetAside]:
    """Fill `lists` by each pair's stem, relative to the root."""
    for path in walk(root, {".txt"}):
        if path.stem.lower() not in SPLIT_NAMES:
            continue
        for number, line in enumerate(read_text(path, MAX_TEXT).splitlines(), 1):
            words = line.split()
            if not words:
                continue
            place = f"{path}:{number}"
            stem = (path.parent.relative_to(root) / words[0].lstrip("/")).with_suffix("").as_posix()
            first = lists.setdefault(stem, _Listed(path.stem, place))
            if first.place != place:
                yield SetAside(place, f"{stem!r} is already listed in {first.role!r} ({first.place})")


def _example(root: Path, tested: Path, lists: dict[str, _Listed]) -> Iterator[Example | SetAside]:
    relative = tested.relative_to(root)
    stem = relative.with_name(tested.stem.removesuffix(_TEST)).as_posix()
    listed = lists.pop(stem, None)
    text, template = _text_of(tested), _twin(tested, _TEST, _TEMPLATE)
    size = image_size(tested)
    width, height = image_size(template)
    if (width, height) != size:
        raise DataError(template, f"is {width}x{height}, but its photo is {size[0]}x{size[1]}", "align the pair")
    if text is None:
        raise DataError(tested, "no file of boxes", f"put {Path(stem).name}.txt into {tested.parent.name}{_BOXES}")
    lines = read_text(text, MAX_TEXT).splitlines()
    rows = ((f"{text}:{number}", line) for number, line in enumerate(lines, 1) if line.strip())
    objects, faults = read_objects(rows, lambda line: _object(line, size))
    yield from faults
    yield Example(
        id=stem,
        images=(template, tested),
        label=Label(objects=objects),
        group=relative.parent.parts[-2] if len(relative.parts) > 2 else relative.parent.name,
        source=str(text),
        role=listed.role if listed else None,
    )


def _object(line: str, size: Size) -> LabelledObject:
    """An object from five words, separated by blanks or commas."""
    words = line.replace(",", " ").split()
    if len(words) != 5:
        raise BoxError("", f"{line[:80]!r} is not a box", "write x1 y1 x2 y2 type")
    if words[4] not in TYPES:
        raise DataError("", f"unknown type {words[4][:80]!r}", nearest(words[4], TYPES))
    return Annotation(TYPES[words[4]], size, {}).box(words[:4], overrun=0)
