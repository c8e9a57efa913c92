"""A data set's files to examples in the recipe's words: `read(Source(path=...))`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets_vision.example import Example, Label, LabelledObject, path_of
from datasets_vision.formats import FORMATS, detect
from datasets_vision.formats.contract import FOLDER, SetAside, Source, plain, shortened
from vlm_ft.errors import DataError, nearest

__all__ = ["Reading", "SetAside", "Source", "read"]

_MANY_WORDS = 60  # more distinct words than that are free text, no list to choose from


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
    examples: dict[str, Example] = {}
    set_aside: list[SetAside] = []
    words: set[str] = set()
    for item in _items(source):
        if isinstance(item, Example):
            words.update(_words(item.label))
            item = _in_our_words(source, item)
        if isinstance(item, SetAside):
            set_aside.append(item)
        elif item.id in examples:
            set_aside.append(SetAside(item.source, f"id {item.id!r} is taken by {examples[item.id].source}"))
        else:
            examples[item.id] = item
    if not examples:
        raise DataError(_nothing_usable(source.path, set_aside))
    set_aside += _unused_renames(source, words)
    return Reading(_spaced(tuple(examples.values()), source.limit), tuple(set_aside))


def _items(source: Source) -> Iterator[Example | SetAside]:
    path = source.path
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; check the source's path")
    if path.is_dir() and next(path.iterdir(), None) is None:
        raise DataError(f"{path}: an empty folder; put the data set there")
    name = source.format or detect(path)
    if name not in FORMATS:
        raise DataError(f"{path}: unknown format {name!r}; {nearest(name, FORMATS)}")
    return FORMATS[name].read(source)


def _nothing_usable(path: Path, set_aside: list[SetAside]) -> str:
    if not set_aside:
        return f"{path}: nothing to read; give a source with at least one labelled item"
    first = set_aside[0]
    return f"{first.place}: {first.reason} (nothing else in {path} is usable, {len(set_aside)} set aside)"


def _words(label: Label) -> Iterator[str]:
    """The names that `rename` may change."""
    if label.image_class is not None:
        yield label.image_class
    yield from (thing.name for thing in label.objects or ())
    yield from (value for value in label.columns.values() if isinstance(value, str))


def _unused_renames(source: Source, words: set[str]) -> Iterator[SetAside]:
    """A slip in the recipe, told without failing: one `rename` may serve several cuts of a set."""
    for word in sorted(set(source.rename) - words):
        if word.endswith("*") and any(name.startswith(word[:-1]) for name in words):
            continue
        remedy = nearest(word, words) if 0 < len(words) <= _MANY_WORDS else "check its spelling"
        yield SetAside(str(source.path), f"rename: nothing is named {word!r}; {remedy}")


def _in_our_words(source: Source, example: Example) -> Example | SetAside:
    try:
        label = Label(_image_class(source, example), _objects(source, example.label), _columns(source, example.label))
        return replace(example, label=label, group=_group(source, example))
    except DataError as error:
        return SetAside(example.source, str(error))


def _image_class(source: Source, example: Example) -> str | None:
    name = example.label.image_class
    if source.image_class is not None and example.images:
        stem = path_of(example.images[0]).stem
        found = re.search(source.image_class, stem)
        if found is None or not found[1]:
            raise DataError(f"image_class {source.image_class!r} finds nothing in {stem!r}")
        name = str(found[1])
    return None if name is None else _renamed(source, name)


def _objects(source: Source, label: Label) -> tuple[LabelledObject, ...] | None:
    if label.objects is None:
        return None
    return tuple(replace(thing, name=_renamed(source, thing.name)) for thing in label.objects)


def _columns(source: Source, label: Label) -> dict[str, Any]:
    """By answer field; a field whose cell is empty is left out: the source says nothing of it."""
    wanted = source.columns or {name: name for name in label.columns if name != FOLDER}
    return {
        field: _value(source, field, label.columns[column])
        for field, column in wanted.items()
        if label.columns.get(column, "") != "" or "" in source.values.get(field, {})
    }


def _value(source: Source, field: str, value: Any) -> Any:
    if field in source.values:
        known, word = source.values[field], plain(value)
        if word not in known:
            raise DataError(f"values: {field} has no {word!r}; {nearest(word, known)}")
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
    beginnings = [key for key in source.rename if key.endswith("*") and word.startswith(key[:-1])]
    return source.rename[max(beginnings, key=len)] if beginnings else word


def _group(source: Source, example: Example) -> str:
    if source.group_by is not None:
        columns = example.label.columns
        if source.group_by not in columns:
            raise DataError(f"group_by: no column {source.group_by!r}; {nearest(source.group_by, columns)}")
        return plain(columns[source.group_by]) or example.id
    if source.group is None:
        return example.group or example.id
    found = re.search(source.group, example.id)
    if found is None:
        raise DataError(f"group {source.group!r} finds nothing in the id {example.id!r}")
    parts = [part or "" for part in found.groups()]
    if source.group_block is not None:
        if not parts[-1].isdecimal():
            raise DataError(f"group {source.group!r}: its last group is {parts[-1]!r}, no number")
        parts[-1] = str(int(parts[-1]) // source.group_block)
    return "|".join(parts)


def _spaced(examples: tuple[Example, ...], limit: int | None) -> tuple[Example, ...]:
    if limit is None or limit >= len(examples):
        return examples
    return tuple(examples[place * len(examples) // limit] for place in range(limit))
