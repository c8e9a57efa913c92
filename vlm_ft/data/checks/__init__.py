"""Check data before training: `check` reads a recipe's data, `inspect` takes a loaded data set."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from datasets_vision.source import SetAside
from vlm_ft.data.cases import Dataset, Labelled
from vlm_ft.data.checks import balance, images, labels, leaks
from vlm_ft.data.checks.fault import Fault, Finding, Lengths, Report
from vlm_ft.data.checks.gather import Progress, Ruler, gather, gather_loaded
from vlm_ft.data.checks.index import Index
from vlm_ft.recipe import ROLES, Recipe

__all__ = ["CHECKS", "Fault", "Finding", "Lengths", "Report", "Ruler", "check", "inspect"]


@dataclass(frozen=True)
class Check:
    """A check: `find` queries the index for faults, `title` describes them."""

    title: str
    find: Callable[[Index], Iterator[Fault]]


CHECKS: dict[str, Check] = {
    "unreadable": Check("images that cannot be read", images.unreadable),
    "schema": Check("labels that do not fit the form", labels.schema),
    "boxes": Check("boxes outside the image, or empty", labels.boxes),
    "ids": Check("ids shared by two examples", labels.ids),
    "set_aside": Check("anything else that the loader set aside", labels.set_aside),
    "leaks": Check("the same picture in two roles", leaks.leaks),
    "groups": Check("one case (claim, patient, aircraft ...) in two roles", leaks.groups),
    "near_leaks": Check("pictures that look the same, in two roles", leaks.near_leaks),
    "texts": Check("the same text in two roles", leaks.texts),
    "conflicts": Check("the same input with contradictory labels", labels.conflicts),
    "lengths": Check("rows too long for the base", labels.lengths),
    "duplicates": Check("the same input twice in one role", leaks.duplicates),
    "near_duplicates": Check("pictures that look the same, in one role", leaks.near_duplicates),
    "extension": Check("suffixes that do not match the content", images.extension),
    "orientation": Check("rotated photos with boxes", images.orientation),
    "constant": Check("pictures of one colour", images.constant),
    "small": Check("pictures of a few pixels", images.small),
    "tiny_boxes": Check("boxes too small for the base to see", labels.tiny_boxes),
    "balance": Check("classes that are rare, or missing in a role", balance.balance),
    "spellings": Check("names that may be one class", balance.spellings),
}
"""Checks by name, the most serious first."""

BINS = (16, 32, 64, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 8192, 16384, 32768, 1 << 62)
"""Upper ends of the histogram's bins, in tokens."""


def check(
    recipe: Recipe,
    ruler: Ruler | None = None,
    *,
    splits_file: Path | None = None,
    progress: Progress | None = None,
    known: Sequence[Labelled | SetAside] | None = None,
) -> Report:
    """Run all checks on a recipe's data in constant memory: each source is read twice, each picture decoded once.

    `known`: the items of the data, if already read. `ruler` measures rows as the base will read them; without it,
    lengths and tiny boxes are not checked. `splits_file` has the roles of an earlier run; it is read, not written.
    Raises `DataError` if the data cannot be read at all, and `FormError` if they label nothing that the task asks for.
    """
    with closing(gather(recipe, ruler, splits_file, progress, known)) as index:
        return _report(index, recipe.name)


def inspect(dataset: Dataset, name: str) -> Report:
    """Run the quick checks on loaded data: labels, roles, files and headers; only `check` decodes pictures.

    Facts that an earlier `check` cached for the same picture content are reused. `name` is the recipe's name.
    """
    with closing(gather_loaded(dataset)) as index:
        return _report(index, name)


def _report(index: Index, recipe: str) -> Report:
    findings = []
    for name, entry in CHECKS.items():
        finding = Finding(name, entry.title)
        for fault in entry.find(index):
            finding.add(fault)
        findings.append(finding)
    roles = dict.fromkeys(ROLES, 0) | dict(index.rows("SELECT role, count(*) FROM placed GROUP BY role"))
    return Report(recipe, roles, tuple(findings), balance.classes(index), _lengths(index))


def _lengths(index: Index) -> Lengths | None:
    measured, longest = index.rows("SELECT count(*), max(tokens) FROM lengths").fetchone()
    if index.limit is None or not measured:
        return None
    return Lengths(
        index.limit, measured, longest, _histogram(index, "tokens", longest), _histogram(index, "image_tokens", longest)
    )


def _histogram(index: Index, column: str, longest: int) -> tuple[tuple[int, int], ...]:
    """The bins, including empty ones, as (most tokens, number of rows), up to the longest row."""
    counts, low = [], -1
    for high in BINS:
        query = f"SELECT count(*) FROM lengths WHERE {column} > ? AND {column} <= ?"
        counts.append((high, int(index.one(query, low, high))))
        low = high
        if high >= longest:
            break
    return tuple(counts)
