"""A dictionary that lies on disk: what must be remembered of every item of a set of any length."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from types import TracebackType
from typing import Self


def scratch() -> sqlite3.Connection:
    """A SQLite database in a temporary file that goes when it is closed; memory stays that of its cache (2 MB).

    One transaction is open, and is never written to a journal.
    """
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    database.execute("PRAGMA journal_mode = OFF")
    database.execute("PRAGMA synchronous = OFF")
    database.execute("BEGIN")
    return database


class _OnDisk:
    """A scratch database of one table, closed with its context."""

    def __init__(self, table: str) -> None:
        self._database = scratch()
        self._database.execute(f"CREATE TABLE {table}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()


class DiskIndex(_OnDisk):
    """Words by key in a scratch database: of a set of any length.

    Keys and words are any text, lone surrogates included. Use it as a context.
    """

    def __init__(self) -> None:
        super().__init__("words (key BLOB PRIMARY KEY, word BLOB NOT NULL) WITHOUT ROWID")

    def add(self, key: str, word: str) -> bool:
        """Keep `word` under `key`; False where the key has one already, which stays."""
        done = self._database.execute("INSERT OR IGNORE INTO words VALUES (?, ?)", (_bytes(key), _bytes(word)))
        return done.rowcount == 1

    def get(self, key: str) -> str | None:
        """The word under `key`."""
        row = self._database.execute("SELECT word FROM words WHERE key = ?", (_bytes(key),)).fetchone()
        return _text(row[0]) if row else None

    def pop(self, key: str) -> str | None:
        """The word under `key`, which is forgotten."""
        word = self.get(key)
        if word is not None:
            self._database.execute("DELETE FROM words WHERE key = ?", (_bytes(key),))
        return word

    def items(self) -> Iterator[tuple[str, str]]:
        """Every key with its word, by key."""
        for key, word in self._database.execute("SELECT key, word FROM words ORDER BY key"):
            yield _text(key), _text(word)


class DiskLists(_OnDisk):
    """Lists of words by key in a scratch database, each in the order in which its words came.

    Keys and words are as in a `DiskIndex`. Words come before `sort`, and are asked for after it. Use it as a context.
    """

    def __init__(self) -> None:
        super().__init__("words (key BLOB NOT NULL, word BLOB NOT NULL)")

    def add(self, key: str, word: str) -> None:
        """Put `word` at the end of the list of `key`."""
        self._database.execute("INSERT INTO words VALUES (?, ?)", (_bytes(key), _bytes(word)))

    def sort(self) -> None:
        """No more words come: order the keys, by which `get` finds its words."""
        self._database.execute("CREATE INDEX by_key ON words (key)")

    def get(self, key: str) -> Iterator[str]:
        """The words of one key."""
        rows = self._database.execute("SELECT word FROM words WHERE key = ? ORDER BY rowid", (_bytes(key),))
        return (_text(word) for (word,) in rows)

    def __iter__(self) -> Iterator[str]:
        """Every key once."""
        return (_text(key) for (key,) in self._database.execute("SELECT DISTINCT key FROM words ORDER BY key"))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _text(data: bytes) -> str:
    return data.decode("utf-8", "surrogatepass")
