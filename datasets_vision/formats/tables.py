"""CSV and TSV tables with a header, alone or in a tree of folders; each row is a text, a photo, or both.

A table is read as a stream: once to check its encoding, twice more to find the quoting of a TSV that has quotes, and
once for its rows. No more than one row is held in memory.
"""

from __future__ import annotations

import codecs
import csv
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.drafts import Draft, Drafts
from datasets_vision.walk import walk

MAX_LINE = 1_000_000
"""Characters; a longer line is set aside, and never held in memory."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""The delimiter that a suffix stands for; a spreadsheet may write another one of `_OTHERS`."""

_OTHERS = (";", "\t")
_CHUNK = 1 << 20  # bytes

_Dialect = dict[str, Any]
"""Arguments of `csv.reader`."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row by its column names, and the line (from 1) on which it begins."""

    line: int
    cells: dict[str, str]


@dataclass(slots=True)
class _Lines:
    """The lines of an open file, with their ends; a line that is too long is replaced by a blank one."""

    file: TextIOWrapper
    number: int = 0
    long: set[int] = field(default_factory=set)  # numbers of the lines that were too long, until `any_long` is called

    def __iter__(self) -> Iterator[str]:
        line = self._piece()
        while line:
            self.number += 1
            after = ""
            if len(line) > MAX_LINE:
                self.long.add(self.number)
                line, after = "\n", self._skip(line)
            yield line
            line = after or self._piece()

    def _piece(self) -> str:
        return self.file.readline(MAX_LINE + 1)

    def _skip(self, piece: str) -> str:
        """Skip to the end of the line that `piece` begins; returns what was read of the next line, if anything."""
        while piece and not piece.endswith(("\n", "\r")):
            piece = self._piece()
        if not piece.endswith("\r"):
            return ""
        after = self._piece()  # the cut may lie between a \r and its \n
        return "" if after == "\n" else after

    def any_long(self, first: int, last: int) -> bool:
        """Whether any line from `first` to `last`, the lines just read, was too long."""
        found = any(first <= number <= last for number in self.long)
        self.long.clear()
        return found


def matches(path: Path) -> bool:
    """A table, or a folder with one somewhere below."""
    return next(table_files(path), None) is not None


def read(source: Source) -> Iterator[Drafts | SetAside]:
    """Read rows as texts, photos, or both; the role is the split that a file's name or folders state.

    A table that cannot be read, or lacks a column that the source needs, is set aside as a whole.
    """
    for path in table_files(source.path):
        try:
            header, rows = read_table(path)
        except DataError as error:
            yield SetAside.of(path, error)
            continue
        yield Drafts(path, _drafts(path, rows), columns=header)


def _drafts(path: Path, rows: Iterator[Row | SetAside]) -> Iterator[Draft | SetAside]:
    for row in rows:
        yield Draft(str(row.line), f"{path}:{row.line}", row.cells) if isinstance(row, Row) else row


def read_table(path: Path) -> tuple[tuple[str, ...], Iterator[Row | SetAside]]:
    """The header, without outer blanks, and the rows of a UTF-8 table; blank lines are skipped.

    A byte order mark and any line ending are allowed. A CSV is read with quoting. A TSV is read with quoting if that
    loses no row; otherwise its quotes are plain text. Raises DataError for a file that is not UTF-8, is empty, or
    repeats a column's name.
    """
    dialect = _dialect(path)
    with _open(path) as file:
        first = next(csv.reader(_Lines(file), **dialect), [])
    header = tuple(unicodedata.normalize("NFC", name.strip()) for name in first)
    if not header:
        raise DataError(path, "no header in the first line", "write the columns' names there")
    if not all(name.isprintable() for name in header):
        raise DataError(path, "the header is not plain text", "save it as UTF-8; does it have an unclosed quote?")
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        remedy = "rename one" if twice else "name them, or remove empty ones"
        raise DataError(path, f"two columns named {twice!r}", remedy)
    return header, _rows(path, dialect, header)


def table_files(path: Path) -> Iterator[Path]:
    """The file itself, or every table below, in natural order."""
    return walk(path, DELIMITERS)


def _open(path: Path) -> TextIOWrapper:
    """Open a table with its line ends unchanged and without a byte order mark."""
    return path.open(encoding="utf-8-sig", newline="")


def _dialect(path: Path) -> _Dialect:
    """The dialect that loses no row; raises DataError for a file that is empty or not UTF-8."""
    csv.field_size_limit(max(MAX_LINE, csv.field_size_limit()))
    quotes = _check_text(path)
    usual = DELIMITERS.get(path.suffix.lower(), ",")
    with _open(path) as file:
        header = file.readline(MAX_LINE)
    delimiter = next((mark for mark in (usual, *_OTHERS) if mark in header), usual)
    quoted: _Dialect = {"delimiter": delimiter}
    plain: _Dialect = {"delimiter": delimiter, "quoting": csv.QUOTE_NONE}
    if delimiter == "\t" and quotes and _full_rows(path, quoted) < _full_rows(path, plain):
        return plain
    return quoted


def _check_text(path: Path) -> bool:
    """Whether the file contains a quote; raises DataError for a file that is empty or not UTF-8."""
    quotes = written = False
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    with path.open("rb") as file:
        try:
            while chunk := file.read(_CHUNK):
                text = decoder.decode(chunk)
                written = written or bool(text.strip())
                quotes = quotes or '"' in text
            decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            byte, offset = error.object[error.start], file.tell() - len(error.object) + error.start
            raise DataError(path, f"not UTF-8: byte 0x{byte:02x} at offset {offset}", "save it as UTF-8") from error
    if not written:
        raise DataError(path, "empty table", "write a header and rows")
    return quotes


def _full_rows(path: Path, dialect: _Dialect) -> int:
    """How many rows are as wide as the header; -1 if the quoting is broken."""
    with _open(path) as file:
        rows = csv.reader(_Lines(file), strict=True, **dialect)
        try:
            width = len(next(rows, []))
            return sum(len(row) == width for row in rows)
        except csv.Error:
            return -1


def _rows(path: Path, dialect: _Dialect, header: tuple[str, ...]) -> Iterator[Row | SetAside]:
    with _open(path) as file:
        lines = _Lines(file)
        reader = csv.reader(lines, **dialect)
        next(reader)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield SetAside(f"{path}:{line}", f"not a row ({error})", "is there an unclosed quote?")
                continue
            if lines.any_long(line, reader.line_num):
                yield SetAside(f"{path}:{line}", f"a line is longer than {MAX_LINE} characters", "split it")
            elif len(cells) == len(header):
                yield Row(line, dict(zip(header, cells, strict=True)))
            elif cells:
                remedy = "fill in missing cells, or quote a cell that contains the delimiter"
                if reader.line_num > line:
                    remedy = f"the row extends to line {reader.line_num}: is there an unclosed quote?"
                problem = f"expected {len(header)} cells, found {len(cells)}"
                yield SetAside(f"{path}:{line}", problem, remedy)
