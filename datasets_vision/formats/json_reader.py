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

from datasets_vision.formats.json_files import DECODER
from datasets_vision.formats.text_files import without_mark
from vlm_ft.errors import DataError

MAX_VALUE = 16 << 20
"""Characters of one value."""

_PIECE = 1 << 16  # bytes that are read at once
_AHEAD = 64  # characters after a value, that a number may not be cut in two
_SPACE = re.compile(r"[ \t\r\n]*")


class JsonReader:
    """A place in a JSON file (UTF-8, BOM allowed) that moves on with every value. Use it as a context.

    Each method raises DataError with the line where the file is no JSON.
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

    def value(self) -> tuple[Any, str]:
        """The value that stands next, and its text."""
        self.following()
        piece = _PIECE
        while True:
            try:
                value, end = DECODER.raw_decode(self._text, self._at)
                if self._ended or end + _AHEAD <= len(self._text):
                    text, self._at = self._text[self._at : end], end
                    return self._whole(value, text), text
            except json.JSONDecodeError as error:
                if self._ended or len(self._text) - self._at > MAX_VALUE:
                    raise self._broken(error.msg, error.pos) from error
            except RecursionError as error:
                raise DataError(f"{self._path}: nested too deeply, lists in lists ...; export it again") from error
            except ValueError as error:
                raise DataError(f"{self._path}: {error}") from error
            self._more(piece)
            piece *= 2

    def members(self) -> Iterator[str | int]:
        """The keys of the object, or the positions of the list, that stands next; the value of each must be taken."""
        close = "}" if self.following() == "{" else "]"
        self._at += 1
        if self.following() == close:
            self._at += 1
            return
        keys: set[str] = set()
        for index in range(1 << 62):
            yield self._key(keys) if close == "}" else index
            mark = self.following()
            self._at += 1
            if mark == close:
                return
            if mark != ",":
                raise self._broken("Expecting ',' delimiter", self._at - 1)

    def pass_over(self) -> None:
        """The value that stands next is not wanted; of a list, its members one by one."""
        for _ in self.members() if self.following() == "[" else (0,):
            self.value()

    def finish(self) -> None:
        """Raises DataError where something follows."""
        if self.following():
            raise self._broken("Extra data", self._at)

    def _key(self, taken: set[str]) -> str:
        key, _ = self.value()
        if not isinstance(key, str) or self.following() != ":":
            raise self._broken("Expecting a key and ':'", self._at)
        if key in taken:
            raise DataError(f"{self._path}: key {key[:80]!r} stands twice in one object; keep one")
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
                raise DataError(f"{self._path}: 0 bytes, no JSON; export it again")
            data = without_mark(self._path, data)
        pending = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            byte, place = error.object[error.start], self._bytes - len(pending) + error.start
            raise DataError(
                f"{self._path}: not UTF-8: byte 0x{byte:02x} at offset {place}; save it as UTF-8"
            ) from error
        self._bytes += len(data)
        self._text, self._at = self._text[self._at :] + text, 0

    def _whole(self, value: Any, text: str) -> Any:
        """The value, in which no character is half: no file and no model could take it."""
        if "\\ud" in text.lower():
            try:
                json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError:
                raise DataError(
                    f"{self._path}: half of a surrogate pair (as \\ud83d) in its text; write the whole character"
                ) from None
        return value

    def _broken(self, why: str, at: int) -> DataError:
        line = self._line + self._text.count("\n", 0, at)
        return DataError(f"{self._path}:{line}: not JSON ({why}); export it again")
