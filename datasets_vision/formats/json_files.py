"""Read JSON and JSON-lines files as entries with their places; overlong lines are skipped, never held in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.formats.contract import SetAside
from datasets_vision.formats.json_cursor import Cursor, Member, decode
from datasets_vision.formats.text_files import decoded, head_of, read_text, without_mark
from datasets_vision.walk import files_of

MAX_LINE = 16 << 20
"""Bytes; a longer line of a JSON-lines file is set aside without being held in memory."""

MAX_FILE = 1 << 30
"""Bytes of a JSON file, which is parsed in memory and takes about ten times as much; JSON lines have no limit."""

TURNS = ("messages", "conversations", "conversation")
"""Keys of lists that are one conversation, never a list of records."""

SUFFIXES = frozenset({".json", ".jsonl", ".ndjson"})

_HEAD = 1 << 20  # bytes read to recognise a file
_PIECE = 1 << 16  # bytes per read while skipping a line
_MAX_SAMPLED = 8  # files read per folder to recognise its format


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
    whose values are not all objects is one entry. Lines may end with LF or CRLF; a byte order mark is skipped. An entry
    that cannot be used is set aside with its file and line; broken JSON sets the rest of its file or line aside.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(path, "empty file", "write its records")
        yield from (
            _lines(path) if _is_lines(path) else _members_of(path, read_text(path, MAX_FILE, "write it as JSON lines"))
        )
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
        raise DataError(path, "empty file (0 bytes)", "export it again")
    try:
        return decode(text)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}", f"not JSON ({error.msg})", "export it again") from error
    except DataError as error:
        raise error.at(path) from None


@lru_cache(maxsize=64)
def _first_object(path: Path, modified: int, size: int) -> dict[str, Any] | None:
    found = _first(_lines(path) if _is_lines(path) else _members_of(path, head_of(path, _HEAD)))
    if found is None and path.suffix.lower() == ".json":
        found = _first(entries(path))
    return found if isinstance(found, dict) else None


def _first(items: Iterator[Entry | SetAside]) -> Any:
    return next((item.value for item in items if isinstance(item, Entry)), None)


def _is_lines(path: Path) -> bool:
    """Whether a file is JSON lines, by its suffix, or because its first line is an object with another one below."""
    if path.suffix.lower() != ".json":
        return True
    first, _, rest = head_of(path, _HEAD).lstrip().partition("\n")
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
                while line and not line.endswith(b"\n"):  # skip its rest in small pieces
                    line = file.readline(_PIECE)
                yield SetAside(place, f"the line is longer than {MAX_LINE} bytes", "split it")
                continue
            try:
                text = decoded(path, line if number > 1 else without_mark(path, line)).strip()
                if text:
                    yield Entry(place, str(number), decode(text))
            except json.JSONDecodeError as error:
                yield SetAside(place, f"not JSON: {error.msg} at character {error.pos + 1}", "correct the line")
            except DataError as error:
                yield SetAside.of(place, error)


def _members_of(path: Path, text: str) -> Iterator[Entry | SetAside]:
    """The entries of one JSON text."""
    match Cursor(text).peek():
        case "{":
            yield from _of_dict(path, text)
        case "[":
            yield from _of_list(path, text)
        case "":
            yield SetAside(str(path), "empty file", "write its records")
        case _:
            yield SetAside(f"{path}:1", "neither a JSON list nor a JSON object", "write a list of records")


def _of_list(path: Path, text: str, start: int = 0) -> Iterator[Entry | SetAside]:
    try:
        for place, member in _members(path, text, start):
            yield _entry(place, str(member.index + 1), member)
    except (json.JSONDecodeError, DataError) as error:
        yield _broken(path, error)


def _of_dict(path: Path, text: str) -> Iterator[Entry | SetAside]:
    found: list[tuple[str, Member]] = []
    broken: SetAside | None = None
    try:
        for item in _members(path, text):
            found.append(item)
    except (json.JSONDecodeError, DataError) as error:
        broken = _broken(path, error)
    members = [member for _, member in found]
    lists = [member for member in members if _is_records(member)]
    if len(lists) == 1:
        yield from _of_list(path, text, lists[0].start)
    elif members and all(isinstance(member.value, dict) for member in members):
        yield from (_entry(place, str(member.key), member) for place, member in found)
    elif broken is None:
        fault = next((member.fault for member in members if member.fault), None)
        record = {str(member.key): member.value for member in members}
        yield SetAside.of(f"{path}:1", fault) if fault else Entry(f"{path}:1", "1", record)
    if broken is not None:
        yield broken


def _entry(place: str, name: str, member: Member) -> Entry | SetAside:
    return SetAside.of(place, member.fault) if member.fault else Entry(place, name, member.value)


def _is_records(member: Member) -> bool:
    value = member.value
    objects = isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)
    return objects and member.key not in TURNS


def _members(path: Path, text: str, start: int = 0) -> Iterator[tuple[str, Member]]:
    """The members of the list or dict at `start`, which is the whole text if it is at 0, each after its place."""
    cursor, line, counted = Cursor(text, start), 1, 0
    for member in cursor.members():
        line, counted = line + text.count("\n", counted, member.start), member.start
        yield f"{path}:{line}", member
    if start == 0:
        cursor.end()


def _broken(path: Path, error: json.JSONDecodeError | DataError) -> SetAside:
    """Why the rest of a text cannot be read."""
    if isinstance(error, DataError):
        return SetAside.of(path, error)
    problem = f"not JSON from here on: {error.msg} at column {error.colno}"
    return SetAside(f"{path}:{error.lineno}", problem, "correct it")
