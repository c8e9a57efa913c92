"""Read JSON and JSON-lines files as entries with their places; overlong lines are skipped, never held in memory."""

from __future__ import annotations

import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

from datasets_vision.errors import DataError, cause
from datasets_vision.formats.contract import SetAside
from datasets_vision.formats.text_files import decoded, read_text, without_mark
from datasets_vision.walk import files_of

MAX_LINE = 16 << 20
"""Bytes; a longer line of a JSON-lines file is set aside without being held in memory."""

MAX_FILE = 1 << 30
"""Bytes of a JSON file, which is parsed in memory and takes about ten times as much; JSON lines have no limit."""

TURNS = ("messages", "conversations", "conversation")
"""Keys of lists that are one conversation, never a list of records."""

SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})

SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
"""An escape that may be a lone surrogate, which cannot be encoded as UTF-8: see `is_text`."""

HALF = ("contains half of a surrogate pair (such as \\ud83d)", "write the whole character")
EMPTY = ("empty file (0 bytes)", "export it again")
NESTED = ("values are nested too deeply", "flatten them")
"""Problem and remedy of a file, or of a value in it, that cannot be read."""

_HEAD = 1 << 20  # bytes read to recognise a file
_PIECE = 1 << 16  # bytes per read while skipping a line
_MAX_SAMPLED = 8  # files read per folder to recognise its format
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a file: its place, and its name in the file (a key, or a line or position from 1)."""

    place: str
    name: str
    value: Any


def json_files(path: Path) -> Iterator[Path]:
    """The file itself, or every JSON and JSON-lines file below, in natural order; hidden files are skipped."""
    return files_of(path, *SUFFIXES)


def first_objects(path: Path) -> Iterator[dict[str, Any]]:
    """The first record of each of the first files at `path`, if it is a JSON object; it identifies the format."""
    for file in islice(json_files(path), _MAX_SAMPLED):
        state = file.stat()
        found = _first_object(file, state.st_mtime_ns, state.st_size)
        if found is not None:
            yield found


def entries(path: Path) -> Iterator[Entry | SetAside]:
    """The lines of a JSON-lines file; for a JSON file, the members of its list or of its dict keyed by id.

    A dict with one value that is a list of objects (`{"version": 1, "data": [...]}`) is read as that list; a dict
    whose values are not all objects is one entry. Line ends may be LF or CRLF; a byte order mark is skipped. Broken
    JSON is set aside with its file and line; entries before it are used.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(path, "empty file", "write its records")
        yield from _lines(path) if _is_lines(path) else _members_of(path, _text(path))
    except OSError as error:
        yield SetAside(str(path), f"cannot be read ({error.strerror})", "check its permissions")
    except DataError as error:
        yield SetAside.of(path, error)


def read_json(path: Path) -> Any:
    """Parse a JSON file (UTF-8, BOM allowed) of at most MAX_FILE bytes.

    Raises DataError with the line of a syntax error, and for a key that appears twice in one object.
    """
    text = read_text(path, MAX_FILE)
    if not text:
        raise DataError(path, *EMPTY)
    try:
        value = DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}", f"not JSON ({error.msg})", "export it again") from error
    except RecursionError as error:
        raise DataError(path, *NESTED) from error
    except DataError as error:
        raise error.at(path) from None
    except ValueError as error:  # an integer of thousands of digits
        raise DataError(path, f"not JSON ({cause(error)})", "export it again") from error
    if SURROGATE.search(text) and not is_text(value):
        raise DataError(path, *HALF)
    return value


@lru_cache(maxsize=64)
def _first_object(path: Path, modified: int, size: int) -> dict[str, Any] | None:
    found = _first(_lines(path) if _is_lines(path) else _members_of(path, _head(path)))
    if found is None and path.suffix.lower() == ".json":
        found = _first(entries(path))
    return found if isinstance(found, dict) else None


def _first(items: Iterator[Entry | SetAside]) -> Any:
    return next((item.value for item in items if isinstance(item, Entry)), None)


def _head(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_HEAD).decode("utf-8-sig", errors="replace")


def _is_lines(path: Path) -> bool:
    """Whether a file is JSON lines, by its suffix, or because its first line is an object with another one below."""
    if path.suffix.lower() != ".json":
        return True
    first, _, rest = _head(path).lstrip().partition("\n")
    if not first.startswith("{") or not rest.lstrip().startswith("{"):
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(path: Path) -> Iterator[Entry | SetAside]:
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            place = f"{path}:{number}"
            if len(line) > MAX_LINE:
                _skip_line(file, line)
                yield SetAside(place, f"the line is longer than {MAX_LINE} bytes", "split it")
                continue
            try:
                text = decoded(path, line if number > 1 else without_mark(path, line)).strip()
                if text:
                    yield _entry(place, str(number), DECODER.decode(text), SURROGATE.search(text) is not None)
            except json.JSONDecodeError as error:
                yield SetAside(place, f"not JSON: {error.msg} at character {error.pos + 1}", "correct the line")
            except (DataError, ValueError, RecursionError) as error:
                yield _unreadable(place, error)


def _skip_line(file: IO[bytes], line: bytes) -> None:
    """Skip to the end of a line whose beginning has been read, in small pieces."""
    if line.endswith(b"\n"):
        return
    while piece := file.read(_PIECE):
        end = piece.find(b"\n")
        if end >= 0:
            file.seek(end + 1 - len(piece), os.SEEK_CUR)
            return


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > MAX_FILE:
        raise DataError(path, f"{size >> 20} MiB of JSON", "write it as JSON lines, which are read one by one")
    return read_text(path, MAX_FILE)


def _entry(place: str, name: str, value: Any, doubtful: bool) -> Entry | SetAside:
    """`doubtful`: whether SURROGATE occurs in its text."""
    return SetAside(place, *HALF) if doubtful and not is_text([name, value]) else Entry(place, name, value)


def is_text(value: Any) -> bool:
    """Whether a JSON value is free of lone surrogates."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _unreadable(place: str, error: Exception) -> SetAside:
    if isinstance(error, RecursionError):
        return SetAside(place, *NESTED)
    return SetAside.of(place, error if isinstance(error, DataError) else DataError(place, str(error)))


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise DataError("", f"key {twice[:80]!r} appears twice in one object", "keep one")
    return found


def _number(word: str) -> float | None:
    """A number; None for NaN, which Python writes for a missing value. Raises DataError for infinity."""
    if word == "NaN":
        return None
    number = float(word)
    if math.isinf(number):
        raise DataError("", f"number {word[:80]} is infinite", "write a finite one")
    return number


DECODER = json.JSONDecoder(object_pairs_hook=_pairs, parse_float=_number, parse_constant=_number)


@dataclass(frozen=True, slots=True)
class _Member:
    place: str
    key: str | None  # None in a list
    start: int  # of the value, in characters
    value: Any


def _members_of(path: Path, text: str) -> Iterator[Entry | SetAside]:
    """The entries of one JSON text."""
    start = after_space(text, 0)
    if text[start : start + 1] == "{":
        yield from _of_dict(path, text, start)
    elif text[start : start + 1] == "[":
        yield from _of_list(path, text, start, whole=True)
    elif start == len(text):
        yield SetAside(str(path), "empty file", "write its records")
    else:
        yield SetAside(f"{path}:1", "neither a JSON list nor a JSON object", "write a list of records")


def _of_list(path: Path, text: str, start: int, *, whole: bool) -> Iterator[Entry | SetAside]:
    place, doubtful = f"{path}:1", SURROGATE.search(text) is not None
    try:
        for number, member in enumerate(_members(path, text, start, whole=whole), 1):
            place = member.place
            yield _entry(place, str(number), member.value, doubtful)
    except (DataError, ValueError, RecursionError) as error:
        yield _broken(path, place, error)


def _of_dict(path: Path, text: str, start: int) -> Iterator[Entry | SetAside]:
    members: list[_Member] = []
    broken: SetAside | None = None
    try:
        for member in _members(path, text, start, whole=True):
            members.append(member)
    except (DataError, ValueError, RecursionError) as error:
        broken = _broken(path, members[-1].place if members else f"{path}:1", error)
    doubtful = SURROGATE.search(text) is not None
    lists = [member for member in members if _is_records(member)]
    if len(lists) == 1:
        yield from _of_list(path, text, lists[0].start, whole=False)
    elif members and all(isinstance(member.value, dict) for member in members):
        for member in members:
            yield _entry(member.place, str(member.key), member.value, doubtful)
    elif broken is None:
        yield _entry(f"{path}:1", "1", {str(member.key): member.value for member in members}, doubtful)
    if broken is not None:
        yield broken


def _is_records(member: _Member) -> bool:
    value = member.value
    objects = isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    return objects and member.key not in TURNS


def _members(path: Path, text: str, start: int, *, whole: bool) -> Iterator[_Member]:
    """The members of the list or dict that opens at `start`; raises JSONDecodeError for broken JSON.

    `whole`: whether it must end the text.
    """
    keyed = text[start] == "{"
    close = "}" if keyed else "]"
    at, line, counted = after_space(text, start + 1), 1, 0
    if text[at : at + 1] == close:
        return
    while True:
        key = None
        if keyed:
            key, at = DECODER.raw_decode(text, at)
            if not isinstance(key, str):
                raise json.JSONDecodeError("a key is not a string", text, at)
            at = after(text, at, ":")
        value, end = DECODER.raw_decode(text, at)
        line, counted = line + text.count("\n", counted, at), at
        yield _Member(f"{path}:{line}", key, at, value)
        at = after_space(text, end)
        if text[at : at + 1] == close:
            break
        at = after(text, at, ",")
    if whole and (at := after_space(text, at + 1)) < len(text):
        raise json.JSONDecodeError("more text after the last record", text, at)


def after_space(text: str, at: int) -> int:
    """The position of the first character from `at` on that is not JSON's white space."""
    found = _SPACE.match(text, at)
    return found.end() if found else at


def after(text: str, at: int, mark: str) -> int:
    """The position after `mark`, which must come next; raises JSONDecodeError if it does not."""
    at = after_space(text, at)
    if text[at : at + 1] != mark:
        raise json.JSONDecodeError(f"{mark!r} is missing", text, at)
    return after_space(text, at + 1)


def _broken(path: Path, last: str, error: Exception) -> SetAside:
    """Why a text cannot be read on; `last` is the place of the last member read."""
    if isinstance(error, json.JSONDecodeError):
        place = f"{path}:{error.lineno}"
        return SetAside(place, f"not JSON from here on: {error.msg} at column {error.colno}", "correct it")
    return _unreadable(last, error)
