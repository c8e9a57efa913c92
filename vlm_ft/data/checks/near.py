"""Find pictures that look the same in any of eight orientations: by banded hashes, confirmed by grey levels.

Pictures must not match merely because of what the whole set shares (one camera, one machine, one organ). So outlines
are compared after the set's mean is subtracted and the rest is whitened: the less the set varies in a direction, the
more that direction counts, down to a floor.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from vlm_ft.data.checks.images import CONSTANT
from vlm_ft.data.checks.index import Index
from vlm_ft.data.checks.pictures import GREY_SIDE, likeness, orientations, outline

BANDS = (0, 13, 26, 39, 52, 64)
"""Where the 64 bits of a perceptual hash are divided: two hashes that differ in at most 4 bits share a band."""
MAX_BITS = 8
"""Pictures whose 64-bit hashes differ in more bits are not alike. Pairs that differ in more than 4 may be missed."""
MIN_LIKENESS = 0.93
"""The least correlation of alike pictures, between whitened 16x16 grey levels in the orientation found by the hash."""
FLOOR = 0.01
"""Added to the variance in every direction, since less is noise; the variance of a whole outline is at most 1."""
MIN_PICTURES = 30
"""The fewest pictures from which to estimate a mean and a variance; fewer are compared without whitening."""
ALL_ALIKE = 0.05
"""Two outlines, each of length 1, that are both closer to the mean than this are alike."""
MAX_CANDIDATES = 500
"""The most candidates compared with one picture; among near-constant pictures, all would be candidates."""


def find(index: Index) -> None:
    """Fill the table `lookalikes`: each picture with the most similar earlier one in its role, and in the other roles.

    Identical files are compared once. Pictures of one group are not compared, since they share a role.
    """
    index.rows("CREATE INDEX bands_by_key ON bands (key)")
    index.rows(
        f"""CREATE TABLE compared AS SELECT min(number) AS number FROM pictures
        WHERE hashes != '[]' AND spread > {CONSTANT} GROUP BY content"""
    )
    whitening = Whitening.of(index)
    query = """
        SELECT pictures.number, hashes, grey, name, role FROM compared JOIN pictures USING (number)
        JOIN placed ON placed.number = item ORDER BY pictures.number"""
    for number, hashes, grey, group, role in index.rows(query):
        seen = Appearance(json.loads(hashes), outline(grey))
        for same_role, found in enumerate(_nearest(index, seen, whitening, group, role)):
            if found:
                index.insert("lookalikes", number, *found, same_role)
        for key in band_keys(seen.hashes[0]):
            index.insert("bands", key, number)


@dataclass(frozen=True, slots=True)
class Appearance:
    """What a picture looks like: hashes of its eight orientations, and its outline (16, 16)."""

    hashes: list[int]
    outline: Any


@dataclass(frozen=True, slots=True)
class Whitening:
    """The mean of a set's outlines, (256,), and the matrix that whitens their deviations from it, (256, 256)."""

    mean: Any
    whiten: Any

    @classmethod
    def of(cls, index: Index) -> Whitening:
        """Estimate both in one pass over the set's outlines."""
        import numpy as np

        side = GREY_SIDE**2
        total, squares, count = np.zeros(side), np.zeros((side, side)), 0
        for (grey,) in index.rows("SELECT grey FROM compared JOIN pictures USING (number)"):
            levels = outline(grey).ravel()
            total, count = total + levels, count + 1
            squares += np.outer(levels, levels)
        if count < MIN_PICTURES:
            return cls(np.zeros(side), np.eye(side))
        mean = total / count
        variance, directions = np.linalg.eigh(squares / count - np.outer(mean, mean))
        return cls(mean, directions / np.sqrt(np.maximum(variance, 0) + FLOOR))

    def alike(self, one: Any, other: Any) -> float:
        """The likeness of two outlines (16, 16), -1 to 1."""
        residuals = [outlined.ravel() - self.mean for outlined in (one, other)]
        if max(float((residual**2).sum()) for residual in residuals) < ALL_ALIKE**2:
            return 1.0
        return likeness(residuals[0] @ self.whiten, residuals[1] @ self.whiten)


_Match = tuple[int, int, int, float]  # earlier picture, orientation, bits, correlation


def _nearest(
    index: Index, seen: Appearance, whitening: Whitening, group: str, role: str
) -> tuple[_Match | None, _Match | None]:
    """The most similar earlier picture in another role, and in the same role."""
    turned = orientations(seen.outline)
    best: dict[bool, _Match] = {}
    for number, upright, levels, their_role in _candidates(index, seen.hashes, group):
        bits, orientation = min(((upright ^ turn).bit_count(), place) for place, turn in enumerate(seen.hashes))
        if bits > MAX_BITS:
            continue
        alike = whitening.alike(turned[orientation], outline(levels))
        same = their_role == role
        if alike >= MIN_LIKENESS and (same not in best or alike > best[same][3]):
            best[same] = number, orientation, bits, alike
    return best.get(False), best.get(True)


def _candidates(index: Index, hashes: list[int], group: str) -> Iterator[tuple[int, int, bytes, str]]:
    keys = sorted({key for seen in hashes for key in band_keys(seen)})
    query = f"""
        SELECT DISTINCT pictures.number, hashes, grey, role FROM bands JOIN pictures ON pictures.number = holder
        JOIN placed ON placed.number = item
        WHERE key IN ({",".join("?" * len(keys))}) AND name != ? LIMIT {MAX_CANDIDATES}"""
    for number, stored, grey, role in index.rows(query, *keys, group).fetchall():
        yield number, json.loads(stored)[0], grey, role


def band_keys(hashed: int) -> list[int]:
    """The five bands of a 64-bit hash as integers, each combined with its band number."""
    return [band << 16 | hashed >> start & (1 << end - start) - 1 for band, (start, end) in enumerate(pairwise(BANDS))]
