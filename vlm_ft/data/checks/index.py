"""The data set as tables on disk: checks are queries, so memory stays constant even for a million rows."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets_vision.example import Example, Picture, path_of, picture_of
from datasets_vision.index import scratch
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag, Integer, Items
from vlm_ft.answers.task import Values
from vlm_ft.data.cases import class_words, stratum_of
from vlm_ft.data.checks.pictures import Facts
from vlm_ft.data.splits import GroupRoles, group_of
from vlm_ft.errors import DataError
from vlm_ft.recipe import Role, Splits

_TABLES = """
CREATE TABLE set_aside (place TEXT, problem TEXT, remedy TEXT, about TEXT);
CREATE TABLE misfits (place TEXT, reason TEXT);
CREATE TABLE split_groups (place TEXT, problem TEXT, remedy TEXT);
CREATE TABLE items (
    number INTEGER PRIMARY KEY, id TEXT, place TEXT, name TEXT, text BLOB, shown BLOB, closed TEXT, images INTEGER);
CREATE TABLE pictures (
    number INTEGER PRIMARY KEY, item INTEGER, picture TEXT, content BLOB, width INTEGER, height INTEGER, format TEXT,
    orientation INTEGER, fault TEXT, remedy TEXT, spread INTEGER, hashes TEXT, grey BLOB, boxed INTEGER);
CREATE TABLE bands (key INTEGER, holder INTEGER);
CREATE TABLE lookalikes (
    later INTEGER, earlier INTEGER, turned INTEGER, distance INTEGER, likeness REAL, same_role INTEGER);
CREATE TABLE classes (item INTEGER, field TEXT, word TEXT);
CREATE TABLE boxes (item INTEGER, picture TEXT, word TEXT, width REAL, height REAL, box TEXT);
CREATE TABLE hints (kind TEXT, word TEXT, item INTEGER);
CREATE TABLE lengths (item INTEGER, tokens INTEGER, image_tokens INTEGER);
"""
_INDEXES = """
CREATE INDEX items_by_text ON items (text);
CREATE INDEX items_by_shown ON items (shown);
CREATE INDEX pictures_by_content ON pictures (content);
CREATE INDEX classes_by_word ON classes (field, word);
CREATE INDEX hints_by_word ON hints (kind, word);
CREATE INDEX items_by_id ON items (id);
"""
_BELONGINGS = (
    "claim|case|aircraft|tail|registration|msn|patient|subject|study|board|vehicle|vin|serial|panel|engine|customer"
)
_HINT_COLUMN = re.compile(rf"(?i)^(?:{_BELONGINGS})[ _-]?(?:id|no|nr|num|number|code|name)?$")
_HINT_ID = re.compile(rf"(?i)(?<![a-z])({_BELONGINGS})[ _-]?(?:id|no|nr)?[ _-]?(\d[a-z0-9]*)")


class Index:
    """The examples, pictures, labels and roles of one data set, on disk while the index is open."""

    def __init__(self, splits: Splits) -> None:
        self.database = scratch()
        for statement in _TABLES.split(";"):
            self.database.execute(statement)
        self.roles = GroupRoles(splits, self.database)
        self.items = 0
        self.limit: int | None = None  # the most tokens of a row; None without a base

    def close(self) -> None:
        self.database.close()

    def rows(self, query: str, *values: Any) -> sqlite3.Cursor:
        """The rows of a query, one at a time."""
        return self.database.execute(query, values)

    def one(self, query: str, *values: Any) -> Any:
        """The first value of a query's only row."""
        return self.database.execute(query, values).fetchone()[0]

    def pictures_of(self, *items: int) -> tuple[str, ...]:
        """The first picture of each of these examples that has one."""
        query = "SELECT picture FROM pictures WHERE item = ? LIMIT 1"
        return tuple(row[0] for item in items for row in self.rows(query, item))

    def insert(self, table: str, *row: Any) -> None:
        """Add a row. Text that SQLite refuses, such as a file name that is not UTF-8, is stored with escapes."""
        stored = [
            value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value for value in row
        ]
        self.database.execute(f"INSERT INTO {table} VALUES ({', '.join('?' * len(row))})", stored)

    def all_set_aside(self, about: str) -> sqlite3.Cursor:
        """(place, problem, remedy) of everything set aside because of an "image", a "box" or, for "", anything else."""
        return self.rows("SELECT place, problem, remedy FROM set_aside WHERE about = ?", about)

    def add(self, example: Example, values: Values, form: Form, pictures: list[tuple[Picture, Facts]]) -> int:
        """Add an example with its narrowed values; returns its number."""
        self.items += 1
        number = self.items
        try:
            self.roles.add(example, stratum_of(values, form))
        except DataError as error:  # the source's own lists put a group into two roles
            self.insert("split_groups", error.place, error.problem, error.remedy)
        text = _text_key(example)
        contents = b"".join(facts.content for _, facts in pictures)
        shown = hashlib.blake2b((text or b"") + contents, digest_size=12).digest()
        closed = json.dumps(closed_values(values, form), ensure_ascii=False, sort_keys=True)
        identity = number, example.id, example.source, group_of(example)
        self.insert("items", *identity, text, shown, closed, len(pictures))
        for field, word in set(class_words(values, form)):
            self.insert("classes", number, field, word)
        for kind, word in belongings(example):
            self.insert("hints", kind, word, number)
        boxed = any(obj.box for obj in example.label.objects or ())
        for picture, facts in pictures:
            self.insert(
                "pictures",
                None,  # SQLite numbers the rows
                number,
                str(picture),
                facts.content,
                facts.width,
                facts.height,
                facts.format,
                facts.orientation,
                facts.fault,
                facts.remedy,
                facts.spread,
                json.dumps(facts.hashes),
                facts.grey,
                boxed,
            )
        return number

    def assign_roles(self, splits_file: Path | None = None) -> None:
        """Assign the roles, and make the index ready for queries. A splits file is only read."""
        self.roles.assign_roles(splits_file, write=False)
        self._complete()

    def use_roles(self, roles: Iterator[tuple[str, Role]]) -> None:
        """Like `assign_roles`, but with known roles, as (group, role)."""
        self.database.executemany("INSERT OR IGNORE INTO roles VALUES (?, ?, 0)", roles)
        self._complete()

    def _complete(self) -> None:
        """Create the SQL indexes, and the view `placed` of the examples with their roles."""
        for statement in _INDEXES.split(";"):
            self.database.execute(statement)
        self.database.execute("CREATE TEMP VIEW placed AS SELECT items.*, role FROM items JOIN roles USING (name)")


def closed_values(values: Values, form: Form) -> Values:
    """The values that can contradict each other: choices, flags and numbers, also inside lists (in any order)."""
    closed: Values = {}
    for field in form.fields:
        if field.name not in values:
            continue
        if isinstance(field.kind, Items):
            closed[field.name] = sorted(
                json.dumps([row.get(part.name) for part in _closed(field.kind.fields)]) for row in values[field.name]
            )
        elif _closed((field,)):
            closed[field.name] = values[field.name]
    return closed


def _closed(fields: tuple[FieldSpec, ...]) -> list[FieldSpec]:
    return [field for field in fields if isinstance(field.kind, Choice | Flag | Integer)]


def belongings(example: Example) -> Iterator[tuple[str, str]]:
    """What an example belongs to, by its columns and its id: ("column patient", "017"), ("claim in the id", "9")."""
    for column, value in example.label.columns.items():
        if value not in ("", None) and _HINT_COLUMN.fullmatch(column):
            yield f"column {column}", str(value)[:80]
    for kind, word in set(_HINT_ID.findall(example.id)):
        yield f"{kind.lower()} in the id", word.lower()


def _text_key(example: Example) -> bytes | None:
    """A hash of all turns that ignores case and spacing; None if there is no text."""
    text = "\n".join(f"{turn.role} {' '.join(turn.text.casefold().split())}" for turn in example.turns if turn.text)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=12).digest() if text else None


def file_of(picture: str) -> Path:
    """The file of a picture, given its name in the tables."""
    return path_of(picture_of(picture))
