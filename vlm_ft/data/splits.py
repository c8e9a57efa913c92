"""Assign roles by group: seeded, stratified, and stored in a file that is only appended to."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from datasets_vision.example import Example
from datasets_vision.placing import whole_file
from vlm_ft.errors import DataError, nearest
from vlm_ft.recipe import ROLES, Role, Splits

SPLITS = "splits.jsonl"  # in a run folder

_TABLES = """
CREATE TABLE votes (name TEXT, stratum TEXT, examples INTEGER, PRIMARY KEY (name, stratum)) WITHOUT ROWID;
CREATE TABLE strata (stratum TEXT, position BLOB, name TEXT, examples INTEGER);
CREATE TABLE roles (name TEXT PRIMARY KEY, role TEXT, kept INTEGER);
"""


def assign(examples: Sequence[Example], strata: Sequence[str], splits: Splits, file: Path | None = None) -> list[Role]:
    """The role of each example; examples of one group share it, and every stratum is split by the same shares.

    `file` stores group -> role: known groups keep their roles, and new groups are appended. Raises `DataError` if the
    file cannot be read, or if the data set's own lists put a group into two roles.
    """
    roles = GroupRoles(splits, sqlite3.connect(":memory:"))
    for example, stratum in zip(examples, strata, strict=True):
        roles.add(example, stratum)
    roles.assign_roles(file)
    return [roles.role(example) for example in examples]


class GroupRoles:
    """The groups of a set and their roles, as tables of a database: in memory, or on disk for millions."""

    def __init__(self, splits: Splits, database: sqlite3.Connection) -> None:
        self.splits = splits
        self.database = database
        for statement in _TABLES.split(";"):
            self.database.execute(statement)

    def add(self, example: Example, stratum: str) -> None:
        """Count an example. Raises `DataError` if the data set's own lists put its group into two roles."""
        try:
            self.database.execute(
                "INSERT INTO votes VALUES (?, ?, 1) ON CONFLICT DO UPDATE SET examples = examples + 1",
                (group_of(example), stratum),
            )
        except UnicodeEncodeError as error:
            raise DataError(f"{example.source!r}", "its name is not UTF-8", "rename the file") from error
        role = self.splits.source.get(example.role or "")
        if role is not None:
            self._assign_listed(example, role)

    def _assign_listed(self, example: Example, role: Role) -> None:
        """Give the example's group the role that `splits.source` assigns to its list."""
        group = group_of(example)
        found = self.role_of(group)
        if found is None:
            self.database.execute("INSERT INTO roles VALUES (?, ?, 0)", (group, role))
        elif found != role:
            raise DataError(
                example.source,
                f"group {group!r} is in the lists of two roles ({found}, {role})",
                "use smaller groups, or leave out splits.source",
            )

    def assign_roles(self, file: Path | None = None, *, write: bool = True) -> None:
        """Give every group its role. `file` takes precedence over lists and shares; new groups are appended to it.

        The first time, groups are stratified; later, a new group goes to the role that is furthest below its share of
        the group's stratum.
        """
        shares = self._shares(sourced=self._count("SELECT count(*) FROM roles") > 0)
        if self.splits.like is not None:
            self._copy(self.splits.like)
        grown = (file is not None and file.exists() and self._load(file)) or self.splits.like is not None
        self._assign_strata()
        strata = self.database.execute("SELECT DISTINCT stratum FROM strata ORDER BY stratum").fetchall()
        for number, (stratum,) in enumerate(strata):
            if self.splits.folds is not None:
                self._store(self._held_out(stratum, self.splits.folds, number))
            self._store(self._by_shortfall(stratum, shares) if grown else self._by_share(stratum, shares))
        if file is not None and write:
            self._append(file)

    def role(self, example: Example) -> Role:
        """The role of an added example, once roles are assigned."""
        found = self.role_of(group_of(example))
        assert found is not None
        return found

    def role_of(self, group: str) -> Role | None:
        """The role of a group; None if it has none yet."""
        row = self.database.execute("SELECT role FROM roles WHERE name = ?", (group,)).fetchone()
        return None if row is None else row[0]

    def _load(self, file: Path) -> bool:
        """Adopt the file's roles; returns whether it has any."""
        self.database.executemany("INSERT OR REPLACE INTO roles VALUES (?, ?, 1)", roles_in(file))
        return bool(self._count("SELECT count(*) FROM roles WHERE kept"))

    def _copy(self, folder: Path) -> None:
        """Adopt the roles of another run for the groups of this set. Raises `DataError` if they share none."""
        file = folder / SPLITS
        if not file.is_file():
            raise DataError(folder, f"has no {SPLITS}", "set splits.like to a run folder, or a version in a registry")
        copied = self.database.executemany(
            "INSERT OR REPLACE INTO roles SELECT ?1, ?2, 0 WHERE EXISTS (SELECT 1 FROM votes WHERE name = ?1)",
            roles_in(file),
        )
        if not copied.rowcount:
            raise DataError(folder, "shares no example with these data", "set splits.like to a run on the same data")

    def _assign_strata(self) -> None:
        """Give each group the most common stratum of its examples, and a seeded position in it."""

        def rows() -> Iterator[tuple[str, bytes, str, int]]:
            votes = self.database.execute("SELECT name, stratum, examples FROM votes ORDER BY name, stratum")
            for name, found in groupby(votes, key=lambda row: row[0]):
                counts = {stratum: examples for _, stratum, examples in found}
                stratum = min(counts, key=lambda word: (-counts[word], word))
                position = hashlib.sha256(f"{self.splits.seed}\n{name}".encode()).digest()
                yield stratum, position, name, sum(counts.values())

        self.database.executemany("INSERT INTO strata VALUES (?, ?, ?, ?)", rows())
        self.database.execute("CREATE INDEX in_order ON strata (stratum, position)")

    def _shares(self, *, sourced: bool) -> list[tuple[Role, float]]:
        """(role, its share of the groups without a role); roles filled by source lists, except `train`, get none."""
        splits = self.splits
        shares: dict[Role, float] = {
            "train": splits.train,
            "tune": splits.tune,
            "calibrate": splits.calibrate,
            "test": splits.test,
        }
        if splits.folds is not None:
            shares["test"] = 0.0
        if sourced:
            shares |= {role: 0.0 for role in splits.source.values() if role != "train"}
        total = sum(shares.values())
        return [(role, share / total) for role, share in shares.items()]

    def _by_share(self, stratum: str, shares: Sequence[tuple[Role, float]]) -> Iterator[tuple[str, Role]]:
        """Split the groups in order, where the cumulative number of examples passes each share."""
        total = self._unassigned_examples(stratum)
        offset = int(hashlib.sha256(stratum.encode()).hexdigest(), 16) % 1000 / 1000  # small strata round differently
        passed = 0.0
        for name, examples in self._unassigned(stratum):
            middle = (passed + offset * examples) / total
            passed += examples
            yield name, _role_at(middle, shares)

    def _by_shortfall(self, stratum: str, shares: Sequence[tuple[Role, float]]) -> Iterator[tuple[str, Role]]:
        """Give each group, in order, to the role that is furthest below its share."""
        have = dict.fromkeys(ROLES, 0)
        have |= self.database.execute(
            "SELECT role, sum(examples) FROM strata JOIN roles USING (name) WHERE stratum = ? GROUP BY role", (stratum,)
        ).fetchall()
        open_roles = [(role, share) for role, share in shares if share]
        total = sum(have[role] for role, _ in open_roles)
        for name, examples in self._unassigned(stratum):
            total += examples
            role = max(open_roles, key=lambda given: given[1] * total - have[given[0]])[0]
            have[role] += examples
            yield name, role

    def _held_out(self, stratum: str, folds: int, first: int) -> Iterator[tuple[str, Role]]:
        """The groups of the held-out fold, a contiguous range of the cumulative examples.

        Each stratum starts at a different fold, so that classes with one example are spread over the folds.
        """
        total, passed = self._unassigned_examples(stratum), 0.0
        for name, examples in self._unassigned(stratum):
            if (first + int(folds * (passed + examples / 2) / total)) % folds == self.splits.fold:
                yield name, "test"
            passed += examples

    def _unassigned(self, stratum: str) -> Iterator[tuple[str, int]]:
        """Groups of a stratum that have no role yet, in order, with their numbers of examples.

        Roles may be inserted during the iteration, since each is for a group that was already yielded.
        """
        return self.database.execute(
            "SELECT name, examples FROM strata WHERE stratum = ? "
            "AND NOT EXISTS (SELECT 1 FROM roles WHERE roles.name = strata.name) ORDER BY position",
            (stratum,),
        )

    def _unassigned_examples(self, stratum: str) -> int:
        return self._count(
            "SELECT sum(examples) FROM strata WHERE stratum = ? "
            "AND NOT EXISTS (SELECT 1 FROM roles WHERE roles.name = strata.name)",
            stratum,
        )

    def _store(self, given: Iterator[tuple[str, Role]]) -> None:
        self.database.executemany("INSERT INTO roles VALUES (?, ?, 0)", given)

    def _append(self, file: Path) -> None:
        """Append the groups of this set that the file lacks; a file that lacks none is left unchanged."""
        if not self._count("SELECT count(*) FROM roles WHERE NOT kept"):
            return
        new = self.database.execute("SELECT name, role FROM roles WHERE NOT kept ORDER BY rowid")
        with whole_file(file) as part:
            if file.exists():
                shutil.copyfile(file, part)
            with part.open("a", encoding="utf-8") as out:
                if not _ends_with_newline(file):  # an editor removed the last newline
                    out.write("\n")
                for group, role in new:
                    out.write(json.dumps({"group": group, "role": role}, ensure_ascii=False) + "\n")

    def _count(self, query: str, *values: Any) -> int:
        return int(self.database.execute(query, values).fetchone()[0] or 0)


def unused_lists(splits: Splits, examples: Iterable[Example]) -> list[str]:
    """A note on each list in `splits.source` without examples."""
    given = {example.role for example in examples if example.role}
    remedy = "the data have no lists, so leave it out"
    return [
        f"splits.source: no example is in a list {word!r}; {nearest(word, given) if given else remedy}"
        for word in splits.source
        if word not in given
    ]


def group_of(example: Example) -> str:
    """The group whose examples share a role: the example's group or, without one, its id."""
    return example.group or example.id


def _role_at(position: float, shares: Sequence[tuple[Role, float]]) -> Role:
    reached = 0.0
    for role, share in shares:
        reached += share
        if share and position < reached - 1e-9:
            return role
    return next(role for role, share in reversed(shares) if share)


def roles_in(file: Path) -> Iterator[tuple[str, Role]]:
    """The groups in a file of splits, each with its role. Raises `DataError` for an invalid line."""
    for number, line in enumerate(_lines(file), 1):
        try:
            entry = json.loads(line)
            group, role = str(entry["group"]), entry["role"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{file}:{number}", f"{line[:60]!r} is not a split entry", "restore the line") from error
        if role not in ROLES:
            raise DataError(f"{file}:{number}", f"unknown role {role!r}", f"roles are {', '.join(ROLES)}")
        yield group, role


def _lines(file: Path) -> Iterator[str]:
    """Split at line feeds only, since the name of a group may contain other line breaks."""
    start = 0
    with file.open("rb") as stored:
        for line in stored:
            try:
                yield line.removesuffix(b"\n").decode()
            except UnicodeDecodeError as error:
                raise DataError(file, f"byte {start + error.start} is not UTF-8", "restore the file") from error
            start += len(line)


def _ends_with_newline(file: Path) -> bool:
    """Whether the file is empty or ends with a newline."""
    if not file.exists() or file.stat().st_size == 0:
        return True
    with file.open("rb") as stored:
        stored.seek(-1, 2)
        return stored.read() == b"\n"
