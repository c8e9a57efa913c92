"""A dictionary on disk, for facts about every item of a data set that may not fit in memory."""

from __future__ import annotations

import sqlite3
from contextlib import AbstractContextManager


def scratch() -> sqlite3.Connection:
    """A SQLite database in a temporary file, deleted on close; memory use is limited to its cache (2 MB).

    One transaction stays open, without a journal.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    return database


class DiskIndex(AbstractContextManager["DiskIndex"]):
    """Texts by key in a scratch database.

    Keys and texts may be any string, lone surrogates included. Use it as a context manager.
    """

    def __init__(self) -> None:
        self._database = scratch()
        self._database.execute("CREATE TABLE texts (key BLOB PRIMARY KEY, text BLOB NOT NULL) WITHOUT ROWID")

    def __exit__(self, *error: object) -> None:
        self._database.close()

    def add(self, key: str, text: str) -> bool:
        """Store `text` under `key`; if the key exists, keep the old text and return False."""
        done = self._database.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (_bytes(key), _bytes(text)))
        return done.rowcount == 1

    def get(self, key: str) -> str | None:
        """The text under `key`."""
        row = self._database.execute("SELECT text FROM texts WHERE key = ?", (_bytes(key),)).fetchone()
        return _text(row[0]) if row else None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
