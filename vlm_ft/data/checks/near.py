"""Pictures that look the same, in any of eight orientations: candidates by banded hashes, confirmed by grey levels.

What all pictures of the set share (one camera, one machine, one organ) does not make two of them alike: outlines
are compared less the set's mean, and the less the set varies in a direction, the more that direction counts
(whitening, with a floor).
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
LEAST_LIKENESS = 0.93
"""The correlation of their whitened 16x16 grey levels, in the orientation that the hash found."""
FLOOR = 0.01
"""Added to the variance in every direction, where that of a whole outline is at most 1; below it is noise."""
FEWEST = 30
"""Pictures that make a set with a mean and a variance; fewer are compared without whitening."""
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
    common = Common.of(index)
    query = """
        SELECT pictures.number, hashes, grey, name, role FROM looked_at JOIN pictures USING (number)
        JOIN placed ON placed.number = item ORDER BY pictures.number"""
    for number, hashes, grey, group, role in index.rows(query):
        seen = Seen(json.loads(hashes), outline(grey))
        for same_role, found in enumerate(_nearest(index, seen, common, group, role)):
            if found:
                index.rows("INSERT INTO likes VALUES (?, ?, ?, ?, ?, ?)", number, *found, same_role)
        for key in band_keys(seen.hashes[0]):
            index.rows("INSERT INTO bands VALUES (?, ?)", key, number)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a picture looks like: hashes of its eight orientations, and its outline (16, 16)."""

    hashes: list[int]
    outline: Any


@dataclass(frozen=True, slots=True)
class Common:
    """What the outlines of a set have in common: their mean (256,), and what whitens the rest (256, 256)."""

    mean: Any
    whiten: Any

    @classmethod
    def of(cls, index: Index) -> Common:
        """One pass over the set's outlines."""
        import numpy as np

        side = GREY_SIDE**2
        total, squares, count = np.zeros(side), np.zeros((side, side)), 0
        for (grey,) in index.rows("SELECT grey FROM looked_at JOIN pictures USING (number)"):
            levels = outline(grey).ravel()
            total, count = total + levels, count + 1
            squares += np.outer(levels, levels)
        if count < FEWEST:
            return cls(np.zeros(side), np.eye(side))
        mean = total / count
        variance, directions = np.linalg.eigh(squares / count - np.outer(mean, mean))
        return cls(mean, directions / np.sqrt(np.maximum(variance, 0) + FLOOR))

    def alike(self, one: Any, other: Any) -> float:
        """The likeness of two outlines (16, 16), -1 to 1."""
        left = [outlined.ravel() - self.mean for outlined in (one, other)]
        if max(float((rest**2).sum()) for rest in left) < ALL_ALIKE**2:
            return 1.0
        return likeness(left[0] @ self.whiten, left[1] @ self.whiten)


_Like = tuple[int, int, int, float]  # earlier picture, orientation, bits, correlation


def _nearest(index: Index, seen: Seen, common: Common, group: str, role: str) -> tuple[_Like | None, _Like | None]:
    """The most alike earlier picture of another role, and of the same."""
    turned = orientations(seen.outline)
    best: dict[bool, _Like] = {}
    for number, upright, levels, their_role in _candidates(index, seen.hashes, group):
        bits, orientation = min(((upright ^ turn).bit_count(), place) for place, turn in enumerate(seen.hashes))
        if bits > MOST_BITS:
            continue
        alike = common.alike(turned[orientation], outline(levels))
        same = their_role == role
        if alike >= LEAST_LIKENESS and (same not in best or alike > best[same][3]):
            best[same] = number, orientation, bits, alike
    return best.get(False), best.get(True)


def _candidates(index: Index, hashes: list[int], group: str) -> Iterator[tuple[int, int, bytes, str]]:
    keys = sorted({key for seen in hashes for key in band_keys(seen)})
    query = f"""
        SELECT DISTINCT pictures.number, hashes, grey, role FROM bands JOIN pictures ON pictures.number = holder
        JOIN placed ON placed.number = item
        WHERE key IN ({",".join("?" * len(keys))}) AND name != ? LIMIT {MOST_CANDIDATES}"""
    for number, stored, grey, role in index.rows(query, *keys, group).fetchall():
        yield number, json.loads(stored)[0], grey, role


def band_keys(hashed: int) -> list[int]:
    """The five bands of a 64-bit hash, each with its number, as whole numbers."""
    return [band << 16 | hashed >> start & (1 << end - start) - 1 for band, (start, end) in enumerate(pairwise(BANDS))]
