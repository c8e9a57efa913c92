"""A data set's files to examples in the recipe's words: `read(Source(path=...))`, or `stream` for a long one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets_vision.cases import joined
from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Example, Label, LabelledObject, path_of
from datasets_vision.formats import FORMATS, detect
from datasets_vision.formats.contract import FOLDER, SetAside, Source, plain, shortened
from datasets_vision.index import DiskIndex
from datasets_vision.walk import linked_folders, natural_key

__all__ = ["Reading", "SetAside", "Source", "read", "stream"]

_MANY_WORDS = 60  # more distinct words than that are free text, no list to choose from
_LONG_WORD = 200  # characters; no name is longer


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source gave, and what could not be used."""

    examples: tuple[Example, ...]
    set_aside: tuple[SetAside, ...]


def read(source: Source) -> Reading:
    """Every usable example, with unique ids and a group each (its own id where the source gives none).

    What cannot be used is set aside with its reason. Raises DataError for a fault of the whole source:
    no such path, an empty folder, an unknown format, or nothing usable in it.
    """
    examples: list[Example] = []
    set_aside: list[SetAside] = []
    for item in stream(source):
        if isinstance(item, Example):
            examples.append(item)
        else:
            set_aside.append(item)
    return Reading(tuple(examples), tuple(set_aside))


def stream(source: Source) -> Iterator[Example | SetAside]:
    """What `read` gives, one item at a time, in constant memory; the last error comes after the last item.

    With a `limit` the source is read twice: how far apart its examples stand depends on how many there are.
    Cases of several photos are held in memory whole.
    """
    yield from _stream(source) if source.limit is None else _spaced(source, source.limit)
    yield from _readable(source, _links(source))


def _spaced(source: Source, limit: int) -> Iterator[Example | SetAside]:
    count = sum(isinstance(item, Example) for item in _stream(source))
    step = max(count, limit)  # as many places as that; those past `count` are never reached
    places = (number * step // limit for number in range(limit))
    place, wanted = 0, next(places)
    for item in _stream(source):
        if isinstance(item, SetAside):
            yield item
            continue
        if place == wanted:
            yield item
            wanted = next(places, -1)
        place += 1


def _stream(source: Source) -> Iterator[Example | SetAside]:
    unused = _Unused(source)
    usable, set_aside, first = 0, 0, None
    photos: list[Example] = []
    with DiskIndex() as ids:
        for item in _readable(source, _items(source)):
            if isinstance(item, Example):
                item = _in_our_words(source, item, unused)
            if isinstance(item, Example) and not ids.add(item.id, item.source):
                item = SetAside(item.source, f"id {item.id!r} is taken by {ids.get(item.id)}")
            if isinstance(item, Example):
                usable += 1
            else:
                set_aside, first = set_aside + 1, first or item
            if source.case_by is None or isinstance(item, SetAside):
                yield item
            else:
                photos.append(item)
    if source.case_by is not None:
        yield from joined(photos, source.case_by, source.worst_first)
    if not usable:
        raise _nothing_usable(source.path, set_aside, first)
    yield from unused.reported()


def _readable(source: Source, items: Iterable[Example | SetAside]) -> Iterator[Example | SetAside]:
    """A file or folder that the system refuses is a fault of the whole source, wherever a format meets it."""
    try:
        yield from items
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else source.path
        raise DataError(
            place, f"cannot be read ({error.strerror or error})", "check the file and its permissions"
        ) from error


def _items(source: Source) -> Iterator[Example | SetAside]:
    path = source.path
    if source.format is None or source.format not in FORMATS or not FORMATS[source.format].named:
        _check_path(path)
    name = source.format or detect(path, photo_column=source.image is not None)
    if name not in FORMATS:
        raise DataError(path, f"unknown format {name!r}", nearest(name, FORMATS))
    for option in sorted(frozenset().union(*(form.options for form in FORMATS.values())) - FORMATS[name].options):
        if getattr(source, option) != Source.model_fields[option].default:
            known = ", ".join(sorted(other for other, form in FORMATS.items() if option in form.options))
            raise DataError(path, f"the format {name} makes no use of {option}", f"leave it out (it is for {known})")
    yield from FORMATS[name].read(source)


def _links(source: Source) -> Iterator[SetAside]:
    """Each link to a folder once, though the images' folder may lie below the source's path."""
    folders = [folder for folder in (source.path, source.image_folder) if folder]
    links = {Path(os.path.realpath(link.parent), link.name): link for f in folders[::-1] for link in linked_folders(f)}
    for link in sorted(links.values(), key=natural_key):
        yield SetAside(
            str(link), "a link to a folder, which is not followed", "copy the folder, or give it as a source"
        )


def _check_path(path: Path) -> None:
    if not path.exists():
        raise DataError(path, "no such file or folder", "check the source's path")
    if path.is_dir() and next(path.iterdir(), None) is None:
        raise DataError(path, "an empty folder", "put the data set there")


def _nothing_usable(path: Path, set_aside: int, first: SetAside | None) -> DataError:
    if first is None:
        return DataError(path, "nothing to read", "give a source with at least one labelled item")
    alone = f"(nothing else in {path} is usable, {set_aside} set aside)"
    return DataError(first.place, first.problem, f"{first.remedy} {alone}".strip())


class _Unused:
    """What a source renames, replaces or ranks that its items never say, and the first few words that they do say."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = set(source.rename)
        self._worst = set(source.worst_first)
        self._fields = {*source.values, *source.shorten} - set(source.columns)
        self._values = {(field, word) for field, words in source.values.items() for word in words}
        self._said: set[str] = set()  # in the source's words, which `rename` is to have
        self._ours: set[str] = set()  # in our words, which `worst_first` ranks
        self._columns: set[str] = set()

    def note(self, label: Label) -> None:
        """What an item says in its own words."""
        for word in _words(label) if self._names else ():
            _see(word, self._said)
            self._names -= {word, *_beginnings(self._names, word)}
        if self._fields:
            self._fields -= label.columns.keys()
            if len(self._columns) <= _MANY_WORDS:
                self._columns |= label.columns.keys() - {FOLDER}
        for field in self._source.values if self._values else ():
            cell = label.columns.get(self._source.columns.get(field, field))
            self._values.discard((field, "" if cell is None else plain(cell)))

    def note_ours(self, label: Label) -> None:
        """What the same item says in ours."""
        for word in _words(label) if self._worst else ():
            _see(word, self._ours)
            self._worst.discard(word)

    def reported(self) -> Iterator[SetAside]:
        """What the recipe names and the items lack: reported, not refused, since a recipe may serve several subsets."""
        place = str(self._source.path)
        looked_for = (("rename", self._names, self._said), ("worst_first", self._worst, self._ours))
        for option, words, seen in looked_for:
            for word in sorted(words):
                remedy = nearest(word, seen) if 0 < len(seen) <= _MANY_WORDS else "check its spelling"
                yield SetAside(place, f"{option}: nothing is named {word!r}", remedy)
        for field in sorted(self._fields):
            option = "values" if field in self._source.values else "shorten"
            remedy = nearest(field, self._columns) if self._columns else "there are none; leave it out"
            yield SetAside(place, f"{option}: no item has a column {field!r}", remedy)
        for field, word in sorted(self._values):
            if field not in self._fields:
                yield SetAside(place, f"values: {field} is never {word!r}", "check its spelling, or leave it out")


def _see(word: str, seen: set[str]) -> None:
    if len(seen) <= _MANY_WORDS:
        seen.add(word[:_LONG_WORD])


def _words(label: Label) -> Iterator[str]:
    """The names that `rename` may change."""
    if label.image_class is not None:
        yield label.image_class
    yield from (obj.name for obj in label.objects or ())
    yield from (value for value in label.columns.values() if isinstance(value, str))


def _in_our_words(source: Source, example: Example, unused: _Unused) -> Example | SetAside:
    try:
        example = replace(example, label=replace(example.label, image_class=_image_class(source, example)))
        unused.note(example.label)
        kind = example.label.image_class
        ours = None if kind is None else _renamed(source, kind)
        label = Label(ours, _objects(source, example.label), _columns(source, example.label))
        unused.note_ours(label)
        return replace(example, label=label, group=_group(source, example))
    except DataError as error:
        return SetAside.of(example.source, error)


def _image_class(source: Source, example: Example) -> str | None:
    """The class in the source's words."""
    if source.image_class is None:
        return example.label.image_class
    if not example.images:
        raise DataError(f"image_class {source.image_class!r}", "no image to find it in", "leave image_class out")
    stem = path_of(example.images[0]).stem
    found = re.search(source.image_class, stem)
    if found is None or not found[1]:
        raise DataError("", f"image_class {source.image_class!r} finds nothing in {stem!r}")
    return str(found[1])


def _objects(source: Source, label: Label) -> tuple[LabelledObject, ...] | None:
    if label.objects is None:
        return None
    return tuple(replace(obj, name=_renamed(source, obj.name)) for obj in label.objects)


def _columns(source: Source, label: Label) -> dict[str, Any]:
    """By answer field; a field whose cell is empty is left out: the source says nothing of it."""
    wanted = source.columns or {name: name for name in label.columns if name != FOLDER}
    cells = {field: label.columns.get(column) for field, column in wanted.items()}
    return {
        field: _value(source, field, "" if cell is None else cell)
        for field, cell in cells.items()
        if cell not in ("", None) or "" in source.values.get(field, {})
    }


def _value(source: Source, field: str, value: Any) -> Any:
    if field in source.values:
        known, word = source.values[field], plain(value)
        if word not in known:
            raise DataError("values", f"{field} has no {word!r}", nearest(word, known))
        value = known[word]
    elif isinstance(value, str):
        value = _renamed(source, value)
    if field in source.shorten and isinstance(value, str):
        return shortened(value, source.shorten[field])
    return value


def _renamed(source: Source, word: str) -> str:
    """By the whole word, else by the longest beginning that `rename` has."""
    if word in source.rename:
        return source.rename[word]
    beginnings = _beginnings(source.rename, word)
    return source.rename[max(beginnings, key=len)] if beginnings else word


def _beginnings(names: Iterable[str], word: str) -> list[str]:
    return [name for name in names if name.endswith("*") and word.startswith(name[:-1])]


def _group(source: Source, example: Example) -> str:
    if source.group_by is not None:
        columns = example.label.columns
        if source.group_by not in columns:
            raise DataError("group_by", f"no column {source.group_by!r}", nearest(source.group_by, columns))
        return plain(columns[source.group_by]) or example.id
    if source.group is None:
        return example.group or example.id
    found = re.search(source.group, example.id)
    if found is None:
        raise DataError("", f"group {source.group!r} finds nothing in the id {example.id!r}")
    parts = [part or "" for part in found.groups()]
    if source.group_block is not None:
        if not parts[-1].isdecimal():
            raise DataError(f"group {source.group!r}", f"its last group is {parts[-1]!r}, which is not a number")
        parts[-1] = str(int(parts[-1]) // source.group_block)
    return "|".join(parts)
