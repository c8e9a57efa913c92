"""Roles by group: seeded, stratified, and kept in a file that is only appended to."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from datasets_vision.example import Example
from vlm_ft.errors import DataError
from vlm_ft.recipe import ROLES, Role, Splits


def assign(examples: Sequence[Example], strata: Sequence[str], splits: Splits, file: Path | None = None) -> list[Role]:
    """The role of each example; examples of one group share it, and a stratum is shared out evenly.

    `file` remembers group -> role: what stands there stays, new groups are appended. Raises `DataError` where the
    file cannot be read, or where a data set's own lists part a group.
    """
    known = read_roles(file) if file is not None and file.exists() else {}
    fixed = _fixed_by_source(examples, splits)
    roles: dict[str, Role] = {**fixed, **known}
    new = _grouped_by_stratum(examples, strata, set(roles))
    shares = _shares(splits, bool(fixed))
    for stratum in sorted(new):
        roles |= _share_out(new[stratum], shares, splits, stratum)
    if file is not None:
        _append(file, {group: role for group, role in roles.items() if group not in known})
    return [roles[example.group or example.id] for example in examples]


def read_roles(file: Path) -> dict[str, Role]:
    """Group -> role as the file keeps it."""
    roles: dict[str, Role] = {}
    for number, line in enumerate(_lines(file), 1):
        try:
            entry = json.loads(line)
            group, role = str(entry["group"]), entry["role"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DataError(f"{file}:{number}: {line[:60]!r} is no split entry; restore the line") from error
        if role not in ROLES:
            raise DataError(f"{file}:{number}: unknown role {role!r}; roles are {', '.join(ROLES)}")
        roles[group] = role
    return roles


def _lines(file: Path) -> list[str]:
    """Cut at line feeds alone: a group's name may hold any other kind of line break."""
    try:
        text = file.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; restore the file") from error
    return text.removesuffix("\n").split("\n") if text else []


def _append(file: Path, new: Mapping[str, Role]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = not file.exists() or file.read_bytes()[-1:] in (b"", b"\n")
    with file.open("a", encoding="utf-8") as out:
        if not whole:  # an editor left the last line's end out
            out.write("\n")
        for group, role in new.items():
            out.write(json.dumps({"group": group, "role": role}, ensure_ascii=False) + "\n")


def _fixed_by_source(examples: Sequence[Example], splits: Splits) -> dict[str, Role]:
    """Roles that the data set's own lists give, as `splits.source` maps them."""
    fixed: dict[str, Role] = {}
    for example in examples:
        role = splits.source.get(example.role or "")
        group = example.group or example.id
        if role is None:
            continue
        if fixed.setdefault(group, role) != role:
            raise DataError(
                f"{example.source}: group {group!r} stands in the lists of two roles ({fixed[group]}, {role}); "
                "give a finer group, or leave splits.source out"
            )
    return fixed


def _grouped_by_stratum(
    examples: Sequence[Example], strata: Sequence[str], done: set[str]
) -> dict[str, dict[str, int]]:
    """Stratum -> group -> examples; a group's stratum is its most common one."""
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for example, stratum in zip(examples, strata, strict=True):
        group = example.group or example.id
        if group not in done:
            votes[group][stratum] += 1
    grouped: dict[str, dict[str, int]] = defaultdict(dict)
    for group, counts in votes.items():
        stratum = min(counts, key=lambda name: (-counts[name], name))
        grouped[stratum][group] = counts.total()
    return grouped


def _shares(splits: Splits, sourced: bool) -> list[tuple[Role, float]]:
    """Role -> its share of what is left to share out; a role that the source fills gets none of it."""
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


def _share_out(
    groups: Mapping[str, int], shares: Sequence[tuple[Role, float]], splits: Splits, stratum: str
) -> dict[str, Role]:
    """Groups in a seeded order, cut where the cumulated number of examples passes each share."""

    def order(group: str) -> str:
        return hashlib.sha256(f"{splits.seed}\n{group}".encode()).hexdigest()

    ordered = sorted(groups, key=order)
    roles: dict[str, Role] = {}
    if splits.folds is not None:
        held = _fold(ordered, groups, splits)
        roles |= dict.fromkeys(held, "test")
        ordered = [group for group in ordered if group not in roles]
    total = sum(groups[group] for group in ordered)
    offset = int(hashlib.sha256(stratum.encode()).hexdigest(), 16) % 1000 / 1000  # small strata round differently
    passed = 0.0
    for group in ordered:
        middle = (passed + offset * groups[group]) / total
        passed += groups[group]
        roles[group] = _at(middle, shares)
    return roles


def _at(position: float, shares: Sequence[tuple[Role, float]]) -> Role:
    reached = 0.0
    for role, share in shares:
        reached += share
        if share and position < reached - 1e-9:
            return role
    return next(role for role, share in reversed(shares) if share)


def _fold(ordered: Sequence[str], groups: Mapping[str, int], splits: Splits) -> list[str]:
    """The groups of the held-out fold: the fold's own stretch of the cumulated examples."""
    assert splits.folds is not None
    total, passed, held = sum(groups.values()), 0.0, []
    for group in ordered:
        if int(splits.folds * (passed + groups[group] / 2) / total) == splits.fold:
            held.append(group)
        passed += groups[group]
    return held
