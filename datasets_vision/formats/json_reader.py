"""A JSON file of any size, a member at a time: only the one that is being read is held.

It reads with the standard library's decoder, and so takes what `read_json` takes (NaN, too) and tells the line.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from datasets_vision.errors import DataError, cause
from datasets_vision.formats.json_files import DECODER, EMPTY, HALF, NESTED, SURROGATE, is_text
from datasets_vision.formats.text_files import without_mark

MAX_VALUE = 16 << 20
"""Characters of one value; a longer one can be passed over, but not read."""

_PIECE = 1 << 16  # bytes that are read at once
_AHEAD = 64  # characters after a value, that a number may not be cut in two
_SPACE = re.compile(r"[ \t\r\n]*")
_LONG_ID = 20  # digits; no id is longer
_LENIENT = json.JSONDecoder(parse_int=lambda word: int(word) if len(word) <= _LONG_ID else None)


class JsonReader:
    """A place in a JSON file (UTF-8, BOM allowed) that moves on with every value. Use it as a context.

    Each method raises DataError with the line where the file is no JSON, or a value too long or too deep to be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._text, self._at, self._line, self._bytes = "", 0, 1, 0
        self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def following(self) -> str:
        """The character that stands next, "" at the end; space is passed over."""
        while True:
            found = _SPACE.match(self._text, self._at)
            self._at = found.end() if found else self._at
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more(_PIECE)

    def value(self) -> tuple[Any, str, list[str] | None]:
        """The value that stands next, its text, and why it is unfit for use, if it is; the file can be read on."""
        self.following()
        piece = _PIECE
        while True:
            found = self._decoded()
            if found is not None and (self._ended or found[1] + _AHEAD <= len(self._text)):
                break
            self._more(piece)
            piece *= 2
        value, end, fault = found
        if end - self._at > MAX_VALUE:
            raise self._too_long()
        text, self._at = self._text[self._at : end], end
        half = SURROGATE.search(text) is not None and not is_text(value)
        return value, text, fault or (list(HALF) if half else None)

    def members(self) -> Iterator[str | int]:
        """The keys of the object, or the positions of the list, that stands next; the value of each must be taken."""
        return self._members(set())

    def pass_over(self) -> None:
        """The value that stands next is not wanted, nor held: of a list or an object, its members one by one."""
        try:
            self._pass_over()
        except RecursionError as error:
            raise self._fault(*NESTED) from error

    def finish(self) -> None:
        """Raises DataError where something follows."""
        if self.following():
            raise self._broken("Extra data", self._at)

    def _members(self, keys: set[str] | None) -> Iterator[str | int]:
        """With None for the keys that have been met, one may stand twice."""
        close = "}" if self.following() == "{" else "]"
        self._at += 1
        if self.following() == close:
            self._at += 1
            return
        for index in range(1 << 62):
            yield self._key(keys) if close == "}" else index
            mark = self.following()
            self._at += 1
            if mark == close:
                return
            if mark != ",":
                raise self._broken("Expecting ',' delimiter", self._at - 1)

    def _key(self, taken: set[str] | None) -> str:
        key, _, _ = self.value()
        if not isinstance(key, str) or self.following() != ":":
            raise self._broken("Expecting a key and ':'", self._at)
        if taken is not None:
            if key in taken:
                raise self._fault(f"key {key[:80]!r} stands twice in one object", "keep one")
            taken.add(key)
        self._at += 1
        return key

    def _more(self, size: int) -> None:
        """Forget what has been read, and read on."""
        self._line += self._text.count("\n", 0, self._at)
        data = self._file.read(size)
        self._ended = not data
        if not self._bytes:
            if not data:
                raise DataError(self._path, *EMPTY)
            data = without_mark(self._path, data)
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            byte, place = error.object[error.start], self._bytes - len(pending) + error.start
            raise DataError(
                self._path, f"not UTF-8: byte 0x{byte:02x} at offset {place}", "save it as UTF-8"
            ) from error
        self._bytes += len(data)
        self._text, self._at = self._text[self._at :] + text, 0

    def _decoded(self) -> tuple[Any, int, list[str] | None] | None:
        """The value that stands next, its end, and what is wrong with it; None where more must be read."""
        try:
            return self._decoded_or_unfit()
        except json.JSONDecodeError as error:
            cut = error.msg.startswith("Unterminated string") or error.pos + _AHEAD >= len(self._text)
            if self._ended or not cut:
                raise self._broken(error.msg, error.pos) from error
            if len(self._text) - self._at > MAX_VALUE:
                raise self._too_long() from error
            return None
        except RecursionError as error:
            raise self._fault(*NESTED) from error

    def _decoded_or_unfit(self) -> tuple[Any, int, list[str] | None]:
        try:
            return *DECODER.raw_decode(self._text, self._at), None
        except json.JSONDecodeError:
            raise
        except ValueError as error:  # an integer of thousands of digits
            return *_LENIENT.raw_decode(self._text, self._at), [cause(error), "write a shorter number"]
        except DataError as error:  # JSON, but a key stands twice, or a number is infinite
            return *_LENIENT.raw_decode(self._text, self._at), [error.problem, error.remedy]

    def _pass_over(self) -> None:
        if self.following() not in ("[", "{"):
            self.value()
            return
        for _ in self._members(None):
            self._pass_over()

    def _too_long(self) -> DataError:
        return self._fault(f"a value of more than {MAX_VALUE} characters", "give it in parts")

    def _broken(self, why: str, at: int) -> DataError:
        return self._fault(f"not JSON ({why})", "export it again", at)

    def _fault(self, problem: str, remedy: str, at: int | None = None) -> DataError:
        line = self._line + self._text.count("\n", 0, self._at if at is None else at)
        return DataError(f"{self._path}:{line}", problem, remedy)
