"""CSV and TSV tables with a header, alone or in a tree of folders; each row is one text."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_vision.example import Example, Label, Turn
from datasets_vision.formats.contract import FOLDER, SPLIT_NAMES, SetAside, Source
from datasets_vision.images import natural_key
from vlm_ft.errors import DataError

if TYPE_CHECKING:
    from _csv import Reader

MAX_LINE = 1_000_000
"""Characters; a longer line is set aside."""

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row by its column names, and the line (from 1) on which it begins."""

    line: int
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class _Text:
    lines: list[str]
    long: frozenset[int]  # numbers of lines that are too long; they stand in `lines` as blank ones
    delimiter: str
    quoted: bool = True

    def reader(self, *, strict: bool = False) -> Reader:
        csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
        if self.quoted:
            return csv.reader(self.lines, delimiter=self.delimiter, strict=strict)
        return csv.reader(self.lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)


def matches(path: Path) -> bool:
    """A table, or a folder with one somewhere below."""
    return next(_tables(path), None) is not None


def read(source: Source) -> Iterator[Example | SetAside]:
    """Rows as texts; the role is the last word of a file's stem where that names a split.

    `Label.columns` has the row's columns by their own names, and FOLDER. A table that cannot be read, or
    lacks a column that the source asks for, is set aside as a whole.
    """
    root = source.path.parent if source.path.is_file() else source.path
    for path in _tables(source.path):
        try:
            header, rows = read_table(path)
            source.require_columns(path, source.shown() | set(source.columns.values()), {*header, FOLDER})
        except DataError as error:
            yield SetAside.of(path, error)
            continue
        for row in rows:
            yield _example(source, root, path, row) if isinstance(row, Row) else row


def read_table(path: Path) -> tuple[tuple[str, ...], Iterator[Row | SetAside]]:
    """The header and the rows of a UTF-8 table (BOM and any line end allowed); blank lines are no rows.

    A CSV is read quoted. A TSV is read quoted where that loses no row, else as it stands: the quotes in its
    text are text. Raises DataError for a file that is not UTF-8, is empty, or repeats a column's name.
    """
    text = _open(path)
    header = tuple(next(text.reader(), []))
    if not header:
        raise DataError(f"{path}: no header in the first line; write the columns' names there")
    if not all(name.isprintable() for name in header):
        raise DataError(f"{path}: the header is no line of text; is a quote left open in it?")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise DataError(f"{path}: two columns named {twice!r}; rename one")
    return header, _rows(path, text, header)


def _tables(path: Path) -> Iterator[Path]:
    files = [path] if path.is_file() else sorted(path.rglob("*"), key=natural_key)
    return (file for file in files if file.suffix.lower() in _DELIMITERS and file.is_file())


def _example(source: Source, root: Path, path: Path, row: Row) -> Example | SetAside:
    place = f"{path}:{row.line}"
    cells = {**row.cells, FOLDER: path.resolve().parent.name}
    text = source.render(cells)
    if not text:
        return SetAside(place, f"no text in {source.text!r}")
    hidden = set() if source.columns else source.shown()
    stem = path.relative_to(root).with_suffix("").as_posix()
    return Example(
        id=f"{stem}:{row.line}",
        turns=(Turn("user", text),),
        label=Label(columns={name: cell for name, cell in cells.items() if name not in hidden}),
        source=place,
        role=_role(path.stem),
    )


def _role(stem: str) -> str | None:
    word = re.split(r"[_\-. ]", stem)[-1]
    return word if word.lower() in SPLIT_NAMES else None


def _open(path: Path) -> _Text:
    data = path.read_bytes()
    try:
        content = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        byte = f"0x{data[error.start]:02x}"
        raise DataError(f"{path}: not UTF-8: byte {byte} at offset {error.start}; save it as UTF-8") from error
    if not content.strip():
        raise DataError(f"{path}: empty table; write a header and rows")
    lines = list(io.StringIO(content, newline=""))
    long = frozenset(number for number, line in enumerate(lines, 1) if len(line) > MAX_LINE)
    kept = ["\n" if number in long else line for number, line in enumerate(lines, 1)]
    delimiter = _DELIMITERS.get(path.suffix.lower(), ",")
    quoted, plain = _Text(kept, long, delimiter), _Text(kept, long, delimiter, quoted=False)
    return plain if delimiter == "\t" and _fitting(quoted) < _fitting(plain) else quoted


def _fitting(text: _Text) -> int:
    """How many rows are as wide as the header; -1 where the quoting is broken."""
    rows = text.reader(strict=True)
    try:
        width = len(next(rows, []))
        return sum(len(row) == width for row in rows)
    except csv.Error:
        return -1


def _rows(path: Path, text: _Text, header: tuple[str, ...]) -> Iterator[Row | SetAside]:
    reader = text.reader()
    next(reader)
    while True:
        line = reader.line_num + 1
        place = f"{path}:{line}"
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield SetAside(place, f"not a row ({error}); is a quote left open?")
            continue
        if text.long.intersection(range(line, reader.line_num + 1)):
            yield SetAside(place, f"a line of more than {MAX_LINE} characters")
        elif len(cells) == len(header):
            yield Row(line, dict(zip(header, cells, strict=True)))
        elif cells:
            yield SetAside(place, _width_fault(len(cells), len(header), line, reader.line_num))


def _width_fault(cells: int, columns: int, first: int, last: int) -> str:
    fault = f"{cells} cells where the header has {columns}"
    return f"{fault}; the row runs to line {last}: is a quote left open?" if last > first else fault
