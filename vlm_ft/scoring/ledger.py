"""`Ledger`: the rows of a run so far, from which an interrupted run resumes."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError

_TABLES = """
CREATE TABLE IF NOT EXISTS adapter (name TEXT NOT NULL, identity TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS folder (path BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS answers (
    path TEXT PRIMARY KEY, digest TEXT NOT NULL, width INTEGER, height INTEGER, prediction TEXT NOT NULL
);
"""


def ledger_path(out: Path) -> Path:
    """The ledger that belongs to a table."""
    return out.with_name(out.name + ".ledger")


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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def record(self, rows: Iterable[Row]) -> None:
        """Store these rows durably: all of them, or none if the process dies."""
        entries = [(row.path, row.digest, row.width, row.height, row.prediction.to_json()) for row in rows]
        with self._data_errors(), self._db:
            self._db.executemany("INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?)", entries)

    def find(self, path: str) -> Row | None:
        """The row of an image, None if it has not been answered yet."""
        with self._data_errors():
            entry = self._db.execute("SELECT * FROM answers WHERE path = ?", (path,)).fetchone()
        if entry is None:
            return None
        name, digest, width, height, prediction = entry
        try:
            return Row(name, digest, width, height, Prediction.from_json(prediction))
        except ValueError as error:
            raise DataError(
                self._path, f"the answer to {name} cannot be read", "delete the ledger and its table to score anew"
            ) from error

    def __len__(self) -> int:
        """How many images are answered, including any that have left the folder."""
        with self._data_errors():
            return int(self._db.execute("SELECT count(*) FROM answers").fetchone()[0])

    def _prepare(self) -> None:
        with self._data_errors():
            self._db.execute("PRAGMA locking_mode = EXCLUSIVE")  # a second run would answer images twice
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.executescript(_TABLES)

    def _bind(self, name: str, identity: str) -> None:
        with self._data_errors(), self._db:
            bound = self._db.execute("SELECT name, identity FROM adapter").fetchone()
            if bound is None:
                self._db.execute("INSERT INTO adapter VALUES (?, ?)", (name, identity))
                return
        if bound[1] != identity:
            raise AdapterError(
                self._path,
                f"holds answers of another adapter ({bound[0]} {bound[1]}, now {name} {identity})",
                "choose another output file, or delete this ledger and its table to score anew",
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
            why = "another run is writing it; wait for that one" if "locked" in str(error) else f"{error}"
            raise DataError(self._path, f"{why}, or choose another output file") from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                self._path, f"not a ledger ({error})", "delete it, or choose another output file"
            ) from error
