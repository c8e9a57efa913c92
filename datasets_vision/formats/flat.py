"""Nested values as columns: `{"a": {"b": [1, 2]}}` is the column `a.b`, "1\\n2"."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from datasets_vision.formats.contract import plain

Steps = tuple[str | int, ...]
Leaf = tuple[Steps, str]
"""The names and positions (from 0) that lead to a plain value, and its text."""


def flatten(values: Iterable[Leaf]) -> tuple[dict[str, str], dict[str, str]]:
    """Columns by their names joined with dots, and separately those with positions in their names (`target.0`).

    If a name leads to several values (a list, or a list of objects), its column has all of them, one per line.
    """
    named: dict[str, list[str]] = defaultdict(list)
    placed: dict[str, str] = {}
    for path, text in values:
        named[".".join(part for part in path if isinstance(part, str))].append(text)
        if any(isinstance(part, int) for part in path):
            placed[".".join(map(str, path))] = text
    return {name: "\n".join(texts) for name, texts in named.items()}, placed


def leaves(value: Any, path: Steps = ()) -> Iterator[Leaf]:
    """The plain values in a JSON value; null and empty containers become the empty text."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, str(key)))
    elif isinstance(value, list) and value:
        for number, inner in enumerate(value):
            yield from leaves(inner, (*path, number))
    else:
        yield path, "" if value is None or value in ({}, []) else plain(value)
