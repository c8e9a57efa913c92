"""Read a data set into examples with the recipe's names: `read(Source(path=...))`, or `stream` for a large one."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from datasets_vision.cases import joined
from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Example, Label, path_of
from datasets_vision.formats import FORMATS, detect
from datasets_vision.formats.contract import FOLDER, SetAside, Source, or_set_aside, plain, shortened
from datasets_vision.formats.drafts import Drafts
from datasets_vision.index import DiskIndex
from datasets_vision.walk import natural_key, skipped_folders

__all__ = ["Reading", "SetAside", "Source", "kept", "read", "stream"]

T = TypeVar("T")

Item = Example | Drafts | SetAside
"""What a format reads from a file."""

_MANY_WORDS = 60  # more distinct words than this are free text, not a list of names to suggest
_LONG_WORD = 200  # characters of a word that are kept; names are shorter


@dataclass(frozen=True, slots=True)
class Reading:
    """The examples of a source, and the items that were set aside."""

    examples: tuple[Example, ...]
    set_aside: tuple[SetAside, ...]


def read(source: Source, known: Sequence[Item] | None = None) -> Reading:
    """Read every usable example. Ids are unique; the group defaults to the id if the source gives none.

    Unusable items are set aside with the reason. `known`: what `kept` has read, if it has. Raises DataError if the
    whole source is unusable: the path does not exist, the folder is empty, the format is unknown, or no item can be
    used.
    """
    items = list(stream(source, known))
    examples = tuple(item for item in items if isinstance(item, Example))
    return Reading(examples, tuple(item for item in items if isinstance(item, SetAside)))


def kept(source: Source) -> list[Item]:
    """What the files contain, read once, for `stream` with any names, texts, columns and groups.

    Raises DataError as `read` does, except that the items may be unusable.
    """
    files = (item.kept() if isinstance(item, Drafts) else item for item in _files(source))
    return list(_readable(source, files))


def stream(source: Source, known: Sequence[Item] | None = None) -> Iterator[Example | SetAside]:
    """Yield the items of `read` one at a time, in constant memory. `known`: what `kept` has read, if it has.

    The error for a source without usable items is raised after the last item. With `limit`, the source is read
    twice, because the spacing depends on the number of examples. With `case_by`, all examples are held in memory.
    """
    yield from _stream(source, known) if source.limit is None else _spaced(source, source.limit, known)
    yield from _readable(source, _skipped(source))


def _spaced(source: Source, limit: int, known: Sequence[Item] | None) -> Iterator[Example | SetAside]:
    count = sum(isinstance(item, Example) for item in _stream(source, known))
    step = max(count, limit)  # with fewer examples than `limit`, places past `count` are never reached
    places = (number * step // limit for number in range(limit))
    place, chosen = 0, next(places)
    for item in _stream(source, known):
        if isinstance(item, SetAside):
            yield item
            continue
        if place == chosen:
            yield item
            chosen = next(places, -1)
        place += 1


def _stream(source: Source, known: Sequence[Item] | None) -> Iterator[Example | SetAside]:
    unused = _Unused(source)
    usable, set_aside, first = 0, 0, None
    photos: list[Example] = []
    with DiskIndex() as ids:
        for item in _readable(source, _items(source, known)):
            if isinstance(item, Example):
                item = _renamed_example(source, item, unused)
            if isinstance(item, Example) and not ids.add(item.id, item.source):
                item = SetAside(item.source, f"id {item.id!r} is already used by {ids.get(item.id)}")
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
        raise _nothing_usable(source, set_aside, first)
    yield from unused.reported()


def _readable(source: Source, items: Iterable[T]) -> Iterator[T]:
    """Turn an OSError from any format into a DataError for the whole source."""
    try:
        yield from items
    except OSError as error:
        place = error.filename if isinstance(error.filename, str) else source.path
        raise DataError(
            place, f"cannot be read ({error.strerror or error})", "check the file and its permissions"
        ) from error


def _items(source: Source, known: Sequence[Item] | None) -> Iterator[Example | SetAside]:
    for item in _files(source) if known is None else known:
        if isinstance(item, Drafts):
            yield from or_set_aside(item.path, item.examples(source))
        else:
            yield item


def _files(source: Source) -> Iterator[Item]:
    path = source.path
    if source.format is None or source.format not in FORMATS or not FORMATS[source.format].named:
        _check_path(path)
    name = source.format or detect(path, photo_column=source.image is not None)
    if name not in FORMATS:
        raise DataError(path, f"unknown format {name!r}", nearest(name, FORMATS))
    if FORMATS[name].folder and not path.is_dir():
        raise DataError(path, f"not a folder, which the format {name} needs", "give the folder")
    for option in sorted(frozenset().union(*(form.options for form in FORMATS.values())) - FORMATS[name].options):
        if getattr(source, option) != Source.model_fields[option].default:
            known = ", ".join(sorted(other for other, form in FORMATS.items() if option in form.options))
            raise DataError(path, f"the format {name} does not use {option}", f"leave it out (it is for {known})")
    yield from FORMATS[name].read(source)


def _skipped(source: Source) -> Iterator[SetAside]:
    """Set aside each skipped folder once, even if the image folder lies below the source's path."""
    roots = [folder for folder in (source.image_folder, source.path) if folder]
    skipped = {
        Path(os.path.realpath(folder.parent), folder.name): (folder, reason)
        for root in roots
        for folder, reason in skipped_folders(root)
    }
    for folder, reason in sorted(skipped.values(), key=lambda entry: natural_key(entry[0])):
        yield SetAside(str(folder), reason, "copy the folder, or give it as a source")


def _check_path(path: Path) -> None:
    if not path.exists():
        raise DataError(path, "no such file or folder", "check the source's path")
    if path.is_dir() and next(path.iterdir(), None) is None:
        raise DataError(path, "the folder is empty", "put the data set in it")


def _nothing_usable(source: Source, set_aside: int, first: SetAside | None) -> DataError:
    if first is None and source.format is not None and not FORMATS[source.format].matches(source.path):
        problem = f"contains nothing in the format {source.format}"
        return DataError(source.path, problem, "correct the format, or leave it out to detect it")
    if first is None:
        return DataError(source.path, "nothing to read", "give a source with at least one labelled item")
    summary = f"(no usable items in {source.path}; {set_aside} set aside)"
    return DataError(first.place, first.problem, f"{first.remedy} {summary}".strip())


class _Unused:
    """Finds names in `rename`, `worst_first`, `values` and `shorten` that no item of the source uses.

    It also keeps the first distinct words of the items, to suggest the nearest one.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._names = set(source.rename)
        self._worst = set(source.worst_first)
        self._fields = {*source.values, *source.shorten} - set(source.columns)
        self._values = {(field, word) for field, words in source.values.items() for word in words}
        self._source_words: set[str] = set()  # as the source writes them; `rename` must match these
        self._recipe_words: set[str] = set()  # after renaming; `worst_first` must match these
        self._columns: set[str] = set()

    def note(self, label: Label) -> None:
        """Record an item's label as the source writes it."""
        for word in _words(label) if self._names else ():
            _remember(word, self._source_words)
            self._names -= {word, *_matching_prefixes(self._names, word)}
        if self._fields:
            self._fields -= label.columns.keys()
            if len(self._columns) <= _MANY_WORDS:
                self._columns |= label.columns.keys() - {FOLDER}
        for field in self._source.values if self._values else ():
            cell = label.columns.get(self._source.columns.get(field, field))
            self._values.discard((field, "" if cell is None else plain(cell)))

    def note_renamed(self, label: Label) -> None:
        """Record the same item's label after renaming."""
        for word in _words(label) if self._worst else ():
            _remember(word, self._recipe_words)
            self._worst.discard(word)

    def reported(self) -> Iterator[SetAside]:
        """Set aside the names that no item uses; they are not errors, since a recipe may serve several subsets."""
        place = str(self._source.path)
        ranked = ("worst_first", self._worst, self._recipe_words)
        for option, words, seen in (("rename", self._names, self._source_words), ranked):
            for word in sorted(words):
                remedy = nearest(word, seen) if 0 < len(seen) <= _MANY_WORDS else "check its spelling"
                yield SetAside(place, f"{option}: no label or value matches {word!r}", remedy)
        for field in sorted(self._fields):
            option = "values" if field in self._source.values else "shorten"
            remedy = nearest(field, self._columns) if self._columns else "the items have no columns, so leave it out"
            yield SetAside(place, f"{option}: no item has a column {field!r}", remedy)
        for field, word in sorted(self._values):
            if field not in self._fields:
                yield SetAside(place, f"values: no item has {word!r} in {field}", "check its spelling, or leave it out")


def _remember(word: str, seen: set[str]) -> None:
    if len(seen) <= _MANY_WORDS:
        seen.add(word[:_LONG_WORD])


def _words(label: Label) -> Iterator[str]:
    """The names that `rename` may change."""
    if label.image_class is not None:
        yield label.image_class
    yield from (obj.name for obj in label.objects or ())
    yield from (value for value in label.columns.values() if isinstance(value, str))


def _renamed_example(source: Source, example: Example, unused: _Unused) -> Example | SetAside:
    try:
        example = replace(example, label=_cleaned(replace(example.label, image_class=_image_class(source, example))))
        unused.note(example.label)
        written = example.label.image_class
        image_class = None if written is None else _renamed(source, written)
        objects = example.label.objects
        objects = objects and tuple(replace(obj, name=_renamed(source, obj.name)) for obj in objects)
        label = Label(image_class, objects, _columns(source, example.label))
        unused.note_renamed(label)
        return replace(example, label=label, group=_group(source, example))
    except DataError as error:
        return SetAside.of(example.source, error)


def _cleaned(label: Label) -> Label:
    """The label without outer blanks and with accents encoded in one way, so that equal names and texts match."""
    return Label(
        image_class=label.image_class and _clean(label.image_class),
        objects=label.objects and tuple(replace(obj, name=_clean(obj.name)) for obj in label.objects),
        columns={name: _clean(cell) if isinstance(cell, str) else cell for name, cell in label.columns.items()},
    )


def _clean(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip())


def _image_class(source: Source, example: Example) -> str | None:
    """The image class as the source writes it."""
    if source.image_class is None:
        return example.label.image_class
    if not example.images:
        raise DataError(f"image_class {source.image_class!r}", "the example has no image", "leave image_class out")
    stem = path_of(example.images[0]).stem
    found = re.search(source.image_class, stem)
    if found is None or not found[1]:
        raise DataError("", f"image_class {source.image_class!r} matches nothing in {stem!r}")
    return str(found[1])


def _columns(source: Source, label: Label) -> dict[str, Any]:
    """The values by answer field; a field with an empty cell is unlabelled and left out."""
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
            raise DataError("values", f"no entry for {word!r} under {field}", nearest(word, known))
        value = known[word]
    elif isinstance(value, str):
        value = _renamed(source, value)
    if field in source.shorten and isinstance(value, str):
        return shortened(value, source.shorten[field])
    return value


def _renamed(source: Source, word: str) -> str:
    """Rename a word by its exact entry in `rename`, else by the longest matching prefix (`prefix*`)."""
    if word in source.rename:
        return source.rename[word]
    prefixes = _matching_prefixes(source.rename, word)
    return source.rename[max(prefixes, key=len)] if prefixes else word


def _matching_prefixes(names: Iterable[str], word: str) -> list[str]:
    return [name for name in names if name.endswith("*") and word.startswith(name[:-1])]


def _group(source: Source, example: Example) -> str:
    if source.group_by is not None:
        columns = example.label.columns
        if source.group_by not in columns:
            raise DataError("group_by", f"no column {source.group_by!r}", nearest(source.group_by, columns))
        if not (group := plain(columns[source.group_by])):
            raise DataError("group_by", f"the column {source.group_by!r} is empty", "fill it in, or remove the row")
        return group
    if source.group is None:
        return example.group or example.id
    found = re.search(source.group, example.id)
    if found is None:
        raise DataError("", f"group {source.group!r} matches nothing in the id {example.id!r}")
    parts = [part or "" for part in found.groups()]
    if source.group_block is not None:
        if not parts[-1].isdecimal():
            raise DataError(f"group {source.group!r}", f"its last group is {parts[-1]!r}, which is not a number")
        parts[-1] = str(int(parts[-1]) // source.group_block)
    return "|".join(parts)
