"""Pictures that look the same, in any of eight orientations: candidates by banded hashes, told apart by grey levels.

What all pictures of the set share (one camera, one machine, one organ) does not make two of them alike, so the
set's mean outline is taken off before two are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vlm_ft.data.checks.index import Index
from vlm_ft.data.checks.pictures import GREY_SIDE, likeness, orientations, outline

BANDS = (0, 13, 26, 39, 52, 64)
"""Where the 64 bits of a perceptual hash are cut: two hashes that differ in 4 bits or fewer share a band."""
MOST_BITS = 8
"""Of 64: two pictures whose hashes differ in more are not alike. Past 4 a pair can be missed."""
LEAST_LIKENESS = 0.95
"""The correlation of their 16x16 grey levels less the set's mean, in the orientation that the hash found."""
FEWEST = 30
"""Pictures of a set that have a mean worth taking off."""
ALL_ALIKE = 0.05
"""The length of an outline less the mean, where all of it is 1: two pictures that have less left are both the mean."""
MOST_CANDIDATES = 500
"""Looked at for one picture; a set of near-constant pictures would have each like every other."""


def find(index: Index) -> None:
    """Fill the table `likes`: each picture with the most alike earlier one of its own role, and of the others.

    Files of the same bytes count once, and pictures of one group may be alike: they share a role.
    """
    index.rows("CREATE INDEX bands_by_key ON bands (key)")
    index.rows(
        """CREATE TABLE looked_at AS SELECT min(number) AS number FROM pictures
        WHERE hashes != '[]' AND spread > 2 GROUP BY content"""
    )
    mean = _mean(index)
    query = """
        SELECT pictures.number, hashes, grey, name, role FROM looked_at JOIN pictures USING (number)
        JOIN placed ON placed.number = item ORDER BY pictures.number"""
    for number, told, grey, group, role in index.rows(query):
        seen = Seen(json.loads(told), outline(grey))
        for same_role, found in enumerate(_nearest(index, seen, mean, group, role)):
            if found:
                index.rows("INSERT INTO likes VALUES (?, ?, ?, ?, ?, ?)", number, *found, same_role)
        for key in band_keys(seen.hashes[0]):
            index.rows("INSERT INTO bands VALUES (?, ?)", key, number)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture looks like: hashes of its eight orientations, and its outline (16, 16)."""

    hashes: list[int]
    outline: Any


def _mean(index: Index) -> Any:
    """The mean outline (16, 16) of the set; 0 for a set of a few."""
    import numpy as np

    total, count = np.zeros((GREY_SIDE, GREY_SIDE)), 0
    for (grey,) in index.rows("SELECT grey FROM looked_at JOIN pictures USING (number)"):
        total, count = total + outline(grey), count + 1
    return total / count if count >= FEWEST else np.zeros_like(total)


_Like = tuple[int, int, int, float]  # earlier picture, orientation, bits, correlation


def _nearest(index: Index, seen: Seen, mean: Any, group: str, role: str) -> tuple[_Like | None, _Like | None]:
    """The most alike earlier picture of another role, and of the same."""
    turned = orientations(seen.outline)
    best: dict[bool, _Like] = {}
    for number, upright, levels, their_role in _candidates(index, seen.hashes, group):
        bits, orientation = min(((upright ^ turn).bit_count(), place) for place, turn in enumerate(seen.hashes))
        if bits > MOST_BITS:
            continue
        alike = _alike(turned[orientation] - mean, outline(levels) - mean)
        same = their_role == role
        if alike >= LEAST_LIKENESS and (same not in best or alike > best[same][3]):
            best[same] = number, orientation, bits, alike
    return best.get(False), best.get(True)


def _alike(one: Any, other: Any) -> float:
    left = max(float((one**2).sum()), float((other**2).sum()))
    return 1.0 if left < ALL_ALIKE**2 else likeness(one, other)


def _candidates(index: Index, hashes: list[int], group: str) -> Iterator[tuple[int, int, bytes, str]]:
    keys = sorted({key for seen in hashes for key in band_keys(seen)})
    query = f"""
        SELECT DISTINCT pictures.number, hashes, grey, role FROM bands JOIN pictures ON pictures.number = holder
        JOIN placed ON placed.number = item
        WHERE key IN ({",".join("?" * len(keys))}) AND name != ? LIMIT {MOST_CANDIDATES}"""
    for number, told, grey, role in index.rows(query, *keys, group).fetchall():
        yield number, json.loads(told)[0], grey, role


def band_keys(hashed: int) -> list[int]:
    """The five bands of a 64-bit hash, each with its number, as whole numbers."""
    return [band << 16 | hashed >> start & (1 << end - start) - 1 for band, (start, end) in enumerate(pairwise(BANDS))]
