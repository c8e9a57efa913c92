"""CSV and TSV tables, alone or in a tree of folders; each row is a text, a photo, or both."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets_vision.errors import DataError
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.drafts import Draft, Drafts
from datasets_vision.formats.table_files import Row, read_table, table_files


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
