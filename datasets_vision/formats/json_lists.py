"""Read the lists in a large JSON object one member at a time, in little more memory than the text takes."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError, cause
from datasets_vision.formats.json_files import DECODER, EMPTY, HALF, NESTED, SURROGATE, after, after_space, is_text

_LONG_ID = 20  # digits; ids are not longer
_LENIENT = json.JSONDecoder(parse_int=lambda word: int(word) if len(word) <= _LONG_ID else None)


@dataclass(frozen=True, slots=True)
class Member:
    """One member of a list: `start` is its offset in the text, in characters; `fault` says why it cannot be used."""

    key: str
    index: int
    start: int
    value: Any
    fault: DataError | None


def list_members(path: Path, text: str, names: frozenset[str], required: str) -> Iterator[Member]:
    """The members of the lists at the keys `names` of the JSON object in `text`; other keys are skipped.

    Raises DataError for broken JSON, a repeated key, a named key without a list, or if `required` is missing.
    """
    if not text:
        raise DataError(path, *EMPTY)
    try:
        yield from _members_of_object(path, text, names, required)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}", f"not JSON ({error.msg})", "export it again") from error
    except RecursionError as error:
        raise DataError(path, *NESTED) from error


def _members_of_object(path: Path, text: str, names: frozenset[str], required: str) -> Iterator[Member]:
    at = after_space(text, 0)
    if text[at : at + 1] != "{":
        raise DataError(path, "is not a JSON object", f"write one with lists of {', '.join(sorted(names))}")
    at, seen = after_space(text, at + 1), set()
    while text[at : at + 1] != "}":
        key, at = DECODER.raw_decode(text, at)
        at = after(text, at, ":")
        if key in seen:
            raise DataError(path, f"key {str(key)[:80]!r} appears twice in one object", "keep one")
        seen.add(key)
        if key in names:
            at = yield from _members(path, key, text, at)
        else:
            _, at = _LENIENT.raw_decode(text, at)
        at = _following(text, at, "}")
    if (end := after_space(text, at + 1)) < len(text):
        raise json.JSONDecodeError("Extra data", text, end)
    if required not in seen:
        raise DataError(path, f"has no list of {required}", f"write lists of {', '.join(sorted(names))}")


def _members(path: Path, key: str, text: str, at: int) -> Generator[Member, None, int]:
    """The members of the list that opens at `at`; returns the position after it."""
    if text[at : at + 1] != "[":
        raise DataError(path, f"{key} is not a list", "write a list of objects")
    doubtful = SURROGATE.search(text, at) is not None
    at, index = after_space(text, at + 1), 0
    while text[at : at + 1] != "]":
        value, end, fault = _value(text, at)
        if fault is None and doubtful and not is_text(value):
            fault = DataError("", *HALF)
        yield Member(key, index, at, value, fault)
        at, index = _following(text, end, "]"), index + 1
    return at + 1


def _value(text: str, at: int) -> tuple[Any, int, DataError | None]:
    try:
        return *DECODER.raw_decode(text, at), None
    except json.JSONDecodeError:
        raise
    except DataError as error:  # a repeated key, an infinite number
        fault = error
    except ValueError as error:  # an integer of thousands of digits
        fault = DataError("", cause(error), "write a shorter number")
    return *_LENIENT.raw_decode(text, at), fault


def _following(text: str, at: int, close: str) -> int:
    """The position of the next member, or of the closing mark."""
    at = after_space(text, at)
    return at if text[at : at + 1] == close else after(text, at, ",")
