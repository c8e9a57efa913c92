"""How names in a table are matched with those in an answer."""

from __future__ import annotations

import re
from functools import lru_cache

ANY = "*"
"""In a table: any value, including none."""


@lru_cache(maxsize=4096)
def normalise(name: str) -> str:
    """The name, normalised for comparison: "Front-Bumper", "front_bumper" and "front bumper" are equal."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def covers(cell: str, stated: str | None) -> bool:
    """Whether a table's cell applies to what the answer states; only ANY applies to None (not stated)."""
    return cell == ANY or (stated is not None and normalise(cell) == normalise(stated))
