"""Decode JSON strictly, and step through the members of a large text without decoding it as a whole."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from datasets_vision.errors import DataError, cause

_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_SPACE = re.compile(r"[ \t\r\n]*")
_CLOSING = {"{": "}", "[": "]"}
_LONG_ID = 20  # digits; ids are not longer


def check_text(value: Any) -> None:
    """Raise DataError if a JSON value contains a lone surrogate, which UTF-8 cannot encode."""
    try:
        for part in value if isinstance(value, list) else [value]:  # one record at a time, to save memory
            json.dumps(part, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        problem = "contains half of a surrogate pair (such as \\ud83d)"
        raise DataError("", problem, "write the whole character") from error


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise DataError("", f"key {twice[:80]!r} appears twice in one object", "keep one")
    return found


def _number(word: str) -> float | None:
    """A number; None for NaN, which Python writes for a missing value."""
    if word == "NaN":
        return None
    number = float(word)
    if math.isinf(number):
        raise DataError("", f"number {word[:80]} is infinite", "write a finite one")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_number, parse_constant=_number)
_LENIENT = json.JSONDecoder(parse_int=lambda word: int(word) if len(word) <= _LONG_ID else None)


@dataclass(frozen=True, slots=True)
class Member:
    """One value of a list or object: `start` is its offset in the text; `fault` says why it cannot be used."""

    key: str | None  # None in a list
    index: int
    start: int
    value: Any
    fault: DataError | None


def decode(text: str) -> Any:
    """The value of a whole JSON text; raises JSONDecodeError, and DataError as `Cursor.value` does."""
    cursor = Cursor(text)
    value = cursor.value()
    cursor.end()
    return value


class Cursor:
    """A position in a JSON text. Every method raises JSONDecodeError for text that is not JSON."""

    def __init__(self, text: str, at: int = 0) -> None:
        self.text = text
        self.at = at

    def peek(self) -> str:
        """Skip white space, and return the next character; "" at the end of the text."""
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at
        return self.text[self.at : self.at + 1]

    def value(self) -> Any:
        """Decode the next value and move past it.

        Raises DataError, without a place, for a repeated key, a number that is infinite or too long, a lone surrogate,
        and values that are nested too deeply.
        """
        value, end = self._decoded(DECODER)
        if _SURROGATE.search(self.text, self.at, end):
            check_text(value)
        self.at = end
        return value

    def skip(self) -> Any:
        """Move past the next value, and return it unchecked."""
        value, self.at = self._decoded(_LENIENT)
        return value

    def members(self) -> Iterator[Member]:
        """Decode the members of the list or object that comes next, one by one."""
        for index, key in enumerate(self.enter()):
            start, fault = self.at, None
            try:
                value = self.value()
                check_text(key)
            except DataError as error:
                self.at = start
                value, fault = self.skip(), error
            yield Member(key, index, start, value, fault)

    def enter(self) -> Iterator[str | None]:
        """Stop before each value of the list or object that comes next, and yield its key, or None in a list.

        The caller must move past the value, by another method or by stepping through its own members.
        """
        opening = self.peek()
        closing = _CLOSING[opening]
        self._expect(opening)
        if self.peek() != closing:
            yield self._key(opening)
            while self.peek() != closing:
                self._expect(",")
                yield self._key(opening)
        self._expect(closing)

    def end(self) -> None:
        """Check that only white space follows."""
        if self.peek():
            raise json.JSONDecodeError("more text after the end", self.text, self.at)

    def _key(self, opening: str) -> str | None:
        self.peek()
        if opening == "[":
            return None
        start, key = self.at, self.skip()
        if not isinstance(key, str):
            raise json.JSONDecodeError("a key is not a string", self.text, start)
        self._expect(":")
        self.peek()
        return key

    def _expect(self, mark: str) -> None:
        if self.peek() != mark:
            raise json.JSONDecodeError(f"{mark!r} is missing", self.text, self.at)
        self.at += 1

    def _decoded(self, decoder: json.JSONDecoder) -> tuple[Any, int]:
        """The value at the cursor, and where it ends."""
        self.peek()
        try:
            return decoder.raw_decode(self.text, self.at)
        except json.JSONDecodeError:
            raise
        except RecursionError as error:
            raise DataError("", "values are nested too deeply", "flatten them") from error
        except ValueError as error:  # an integer of thousands of digits
            raise DataError("", cause(error), "write a shorter number") from error
