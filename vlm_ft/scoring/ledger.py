"""`Ledger`: the rows of a run so far, from which an interrupted run resumes.

The rows that the table must have are listed in a temporary table, so sqlite finds the missing ones and memory stays
small.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError

SEPARATOR = b"//"
"""Separates the contents of entries that share a path; no relative path contains it."""

PAGE = 1000  # rows read at a time
_START_OVER = "delete the ledger and its table to start over"

_TABLES = """
CREATE TABLE IF NOT EXISTS adapter (name TEXT NOT NULL, identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS folder (path BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, digest TEXT NOT NULL, width INTEGER, height INTEGER, prediction TEXT NOT NULL, stamp TEXT
);
CREATE TEMP TABLE listing (place INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, stamp TEXT, content BLOB NOT NULL);
"""
_LIST = f"""
INSERT INTO listing (path, stamp, content) VALUES (?, ?, ?) ON CONFLICT (path) DO UPDATE SET
    stamp = stamp || ' ' || excluded.stamp, content = content || '{SEPARATOR.decode()}' || excluded.content
"""
_STAMP = "(SELECT stamp FROM listing WHERE path = ?1)"
_RECORD = f"INSERT OR REPLACE INTO answers VALUES (?1, ?2, ?3, ?4, ?5, CASE WHEN ?2 <> '' THEN {_STAMP} END)"
_CONFIRM = f"UPDATE answers SET stamp = {_STAMP} WHERE path = ?1"
_BOTH = "FROM listing JOIN answers USING (path)"
_UNCHANGED = f"{_BOTH} WHERE answers.stamp = listing.stamp"
_ERROR = "json_extract(prediction, '$.error')"
_CHANGED = """
SELECT place, path, listing.stamp, CAST(content AS BLOB), digest FROM listing LEFT JOIN answers USING (path)
WHERE place > ? AND NOT coalesce(answers.stamp = listing.stamp, FALSE) ORDER BY place LIMIT ?
"""
_COLUMNS = "path, digest, width, height, prediction"
_ROWS = f"SELECT place, {_COLUMNS} {_BOTH} WHERE place > ? ORDER BY place LIMIT ?"


def ledger_path(out: Path) -> Path:
    """The ledger that belongs to a table."""
    return out.with_name(out.name + ".ledger")


def ledger_files(out: Path) -> tuple[Path, ...]:
    """The ledger of a table, and what sqlite keeps beside it while it is open."""
    path = ledger_path(out)
    return tuple(path.with_name(path.name + end) for end in ("", "-wal", "-shm"))


@dataclass(frozen=True, slots=True)
class Entry:
    """A row that the table must have: its path, and what its source needs to read it.

    `stamp` changes whenever the content does; None if that is not certain. `digest` is the hash of the
    content that an earlier run answered, None if there is no answer yet.
    """

    path: str
    stamp: str | None
    content: bytes
    digest: str | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One image: its path below the folder, the SHA-256 of its bytes, its size in pixels, and the prediction.

    `digest` is "" if the bytes could not be read; width and height are None if the image could not be decoded.
    """

    path: str
    digest: str
    width: int | None
    height: int | None
    prediction: Prediction


class Ledger:
    """An sqlite file of rows, bound to one adapter and one folder of images, open in one process at a time.

    A folder that no longer exists may have moved, so another one may take its place. Raises `AdapterError` if the file
    has another adapter's answers, and `DataError` if it has another folder's, is not a ledger, cannot be written, or is
    in use.
    """

    def __init__(self, path: Path, name: str, identity: str, folder: Path) -> None:
        self._path = path
        with self._data_errors():
            self._db = sqlite3.connect(path, timeout=1)
        try:
            self._prepare()
            self._bind(name, identity)
            self._bind_folder(folder.resolve())
        except BaseException:
            self._db.close()
            raise

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        useless = False
        with suppress(DataError):
            useless = kind is not None and not self._count("SELECT count(*) FROM answers")
        self._db.close()
        if useless:
            self._path.unlink(missing_ok=True)

    def expect(self, entries: Iterable[Entry]) -> None:
        """List the rows that the table must have. Entries with the same path are merged."""
        with self._data_errors(), self._db:
            self._db.executemany(_LIST, ((entry.path, entry.stamp, entry.content) for entry in entries))

    def __len__(self) -> int:
        """The number of rows that the table must have."""
        return self._count("SELECT count(*) FROM listing")

    @property
    def gone(self) -> int:
        """The number of answers whose image or text is no longer listed."""
        return self._count("SELECT count(*) FROM answers") - self._count(f"SELECT count(*) {_BOTH}")

    def unchanged(self) -> tuple[int, int]:
        """How many listed entries have an answer to their current content, and how many of these are left to a person.

        Failed answers are not counted among the latter.
        """
        asks = f"{_ERROR} IS NULL AND json_extract(prediction, '$.decision') <> 'answer'"
        with self._data_errors():
            found: tuple[int, int] = self._db.execute(
                f"SELECT count(*), coalesce(sum({asks}), 0) {_UNCHANGED}"
            ).fetchone()
        return found

    def failed(self) -> list[tuple[str, str]]:
        """The path and error of every unchanged entry whose answer failed."""
        with self._data_errors():
            return self._db.execute(f"SELECT path, {_ERROR} {_UNCHANGED} AND {_ERROR} IS NOT NULL").fetchall()

    def changed(self) -> Iterator[Entry]:
        """The listed entries that have no answer, or whose content may have changed since, in order."""
        return (Entry(*columns) for columns in self._pages(_CHANGED))

    def rows(self) -> Iterator[Row]:
        """The rows of all listed entries that have been answered, in order."""
        return (self._row(columns) for columns in self._pages(_ROWS))

    def record(self, rows: Iterable[Row]) -> None:
        """Store these rows durably: all of them, or none if the process dies."""
        entries = ((row.path, row.digest, row.width, row.height, row.prediction.to_json()) for row in rows)
        with self._data_errors(), self._db:
            self._db.executemany(_RECORD, entries)

    def confirm(self, paths: Sequence[str]) -> None:
        """Record that these entries still have the content that was answered."""
        with self._data_errors(), self._db:
            self._db.executemany(_CONFIRM, ((path,) for path in paths))

    def find(self, path: str) -> Row:
        """The row of an image that has been answered."""
        with self._data_errors():
            return self._row(self._db.execute(f"SELECT {_COLUMNS} FROM answers WHERE path = ?", (path,)).fetchone())

    def _row(self, columns: tuple[Any, ...]) -> Row:
        path, digest, width, height, prediction = columns
        try:
            return Row(path, digest, width, height, Prediction.from_json(prediction))
        except ValueError as error:
            raise DataError(self._path, f"the answer to {path} cannot be read", _START_OVER) from error

    def _pages(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query, without their place, read page by page so that writes may happen in between."""
        last = 0
        while True:
            with self._data_errors():
                page = self._db.execute(query, (last, PAGE)).fetchall()
            if not page:
                return
            last = page[-1][0]
            yield from (columns for _, *columns in page)

    def _count(self, query: str) -> int:
        with self._data_errors():
            return int(self._db.execute(query).fetchone()[0])

    def _prepare(self) -> None:
        with self._data_errors():
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second run would answer images twice
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)
            if not self._db.execute("SELECT 1 FROM pragma_table_info('answers') WHERE name = 'stamp'").fetchone():
                self._db.execute("ALTER TABLE answers ADD COLUMN stamp TEXT")  # a ledger of version 0.1

    def _bind(self, name: str, identity: str) -> None:
        with self._data_errors(), self._db:
            bound = self._db.execute("SELECT name, identity FROM adapter").fetchone()
            if bound is None:
                self._db.execute("INSERT INTO adapter VALUES (?, ?)", (name, identity))
                return
        if bound[1] != identity:
            raise AdapterError(
                self._path,
                f"holds another adapter's answers ({bound[0]} {bound[1]}, now {name} {identity})",
                "choose another output file, or delete this ledger and its table to start over",
            )

    def _bind_folder(self, folder: Path) -> None:
        with self._data_errors(), self._db:
            bound = self._db.execute("SELECT path FROM folder").fetchone()
            known = None if bound is None else Path(os.fsdecode(bound[0]))
            if known is None or (known != folder and not known.is_dir()):
                self._db.execute("DELETE FROM folder")
                self._db.execute("INSERT INTO folder VALUES (?)", (os.fsencode(folder),))
                return
        if known != folder:
            raise DataError(self._path, f"holds the answers to {known}, not {folder}", "choose another output file")

    @contextmanager
    def _data_errors(self) -> Iterator[None]:
        """Turn sqlite's errors into `DataError`."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise DataError(self._path, "another run is writing to it", "wait for it to finish") from error
            if "malformed JSON" in str(error):
                raise DataError(self._path, "an answer in it cannot be read", _START_OVER) from error
            raise DataError(self._path, str(error), "free some space, or choose another output file") from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                self._path, f"not a ledger ({error})", "delete it, or choose another output file"
            ) from error
