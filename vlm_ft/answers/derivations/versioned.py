"""A versioned CSV table: lines ``# key: value`` (version, notice), a header, rows."""

from __future__ import annotations

import csv
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from datasets_vision.formats.text_files import read_text
from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import DataError, nearest, problem_of

MAX_BYTES = 16 << 20
"""Size limit of a table, which is written by hand and stored whole in a card."""

Row = TypeVar("Row", bound=BaseModel)


class Heading(Strict):
    """The lines above a table's header: its version, and the notice that accompanies its results."""

    version: str
    notice: str = ""


def read_versioned(path: Path, row: type[Row], key: Callable[[Row], Hashable]) -> tuple[Heading, list[tuple[int, Row]]]:
    """The heading of a UTF-8 table (any line endings, with or without a BOM), and its rows with their line numbers.

    Blank lines are skipped. An empty cell takes its column's default. Raises `DataError` naming file and line for a row
    that does not fit, and for a second row with the same key.
    """
    lines = read_text(path, MAX_BYTES).splitlines()
    heading = _heading(path, lines)
    first = max((number for number, line in enumerate(lines, 1) if line.startswith("#")), default=0)
    reader = csv.reader(lines[first:], strict=True)
    try:
        header = _header(path, next(reader, []), row, first + 1)
        rows, seen = list[tuple[int, Row]](), dict[Hashable, int]()
        for cells in reader:
            line = first + reader.line_num
            if not cells:
                continue
            entry = _row(f"{path}:{line}", header, cells, row)
            if (twin := seen.setdefault(key(entry), line)) != line:
                raise DataError(f"{path}:{line}", f"repeats line {twin}", "keep one")
            rows.append((line, entry))
    except csv.Error as error:
        raise DataError(
            f"{path}:{first + reader.line_num}", f"not a row ({error})", "is there an unclosed quote?"
        ) from error
    if not rows:
        raise DataError(path, "no rows below the header", "write at least one")
    return heading, rows


def _heading(path: Path, lines: Sequence[str]) -> Heading:
    stated: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.startswith("#"):
            continue
        name, colon, value = line.lstrip("# ").partition(":")
        if not colon or name.strip() not in Heading.model_fields:
            known = ", ".join(Heading.model_fields)
            raise DataError(
                f"{path}:{number}",
                f"{line[:60]!r} is not '# key: value' with one of the keys {known}",
                "correct or delete it",
            )
        stated[name.strip()] = value.strip()
    if not stated.get("version"):
        raise DataError(path, "has no version", "begin it with a line '# version: 1'")
    return Heading(**stated)


def _header(path: Path, header: list[str], row: type[BaseModel], line: int) -> list[str]:
    if not header:
        raise DataError(path, "no header", f"name the columns {', '.join(row.model_fields)}")
    names = [name.strip() for name in header]
    for name in names:
        if name not in row.model_fields:
            raise DataError(f"{path}:{line}", f"unknown column {name!r}", nearest(name, row.model_fields))
        if names.count(name) > 1:
            raise DataError(f"{path}:{line}", f"two columns named {name!r}", "keep one")
    for name, info in row.model_fields.items():
        if info.is_required() and name not in names:
            raise DataError(f"{path}:{line}", f"no column {name!r}", "add it")
    return names


def _row(place: str, header: list[str], cells: list[str], row: type[Row]) -> Row:
    if len(cells) != len(header):
        raise DataError(place, f"{len(cells)} cells, but the header has {len(header)}", "correct the row")
    try:
        stated = {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}
        return row.model_validate(stated)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        column = ".".join(str(part) for part in first["loc"]) or "row"
        shown = "" if first["type"] == "missing" or not first["loc"] else f" {str(first['input'])[:40]!r}"
        problem = "empty; fill it in" if first["type"] == "missing" else problem_of(first)
        raise DataError(place, f"{column}{shown}: {problem}") from error
