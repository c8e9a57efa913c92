"""Pictures that look the same, in any of eight orientations: candidates by banded hashes, told apart by grey levels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise

from vlm_ft.data.checks.index import Index
from vlm_ft.data.checks.pictures import likeness

BANDS = (0, 13, 26, 39, 52, 64)
"""Where the 64 bits of a perceptual hash are cut: two hashes that differ in 4 bits or fewer share a band."""
MOST_BITS = 6
"""Of 64: two pictures whose hashes differ in more are not alike. Past 4 a pair can be missed."""
LEAST_LIKENESS = 0.985
"""The correlation of their 16x16 grey levels, in the orientation that the hash found."""
MOST_CANDIDATES = 500
"""Looked at for one picture; a set of near-constant pictures would have each like every other."""


def find(index: Index) -> None:
    """Fill the table `likes`: each picture with the most alike earlier one of its own role, and of the others.

    Files of the same bytes count once, and pictures of one group may be alike: they share a role.
    """
    if index.one("SELECT count(*) FROM bands"):
        return
    index.rows("CREATE INDEX bands_by_key ON bands (key)")
    query = """
        SELECT pictures.number, hashes, grey, name, role FROM pictures JOIN placed ON placed.number = item
        WHERE hashes != '[]' AND spread > 2 AND pictures.number IN (SELECT min(number) FROM pictures GROUP BY content)
        ORDER BY pictures.number"""
    for number, told, grey, group, role in index.rows(query):
        hashes = json.loads(told)
        for same_role, found in enumerate(_nearest(index, hashes, grey, group, role)):
            if found:
                row = (number, *found, same_role)
                index.rows("INSERT INTO likes VALUES (?, ?, ?, ?, ?, ?)", *row)
        for key in band_keys(hashes[0]):
            index.rows("INSERT INTO bands VALUES (?, ?)", key, number)


_Like = tuple[int, int, int, float]  # earlier picture, orientation, bits, correlation


def _nearest(index: Index, hashes: list[int], grey: bytes, group: str, role: str) -> tuple[_Like | None, _Like | None]:
    """The most alike earlier picture of another role, and of the same."""
    best: list[tuple[float, _Like] | None] = [None, None]
    for number, upright, levels, their_role in _candidates(index, hashes, group):
        bits, orientation = min(((upright ^ seen).bit_count(), turn) for turn, seen in enumerate(hashes))
        if bits > MOST_BITS:
            continue
        alike = likeness(grey, levels, orientation)
        same = their_role == role
        known = best[same]
        if alike >= LEAST_LIKENESS and (known is None or alike > known[0]):
            best[same] = alike, (number, orientation, bits, alike)
    other, own = (entry[1] if entry else None for entry in best)
    return other, own


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
