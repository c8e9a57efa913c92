"""How the names in a table meet those in an answer."""

from __future__ import annotations

import re
from functools import lru_cache

ANY = "*"
"""In a table: whatever the answer says, or does not say, here."""


@lru_cache(maxsize=4096)
def same_name(name: str) -> str:
    """The name as it is compared: "Front-Bumper", "front_bumper" and "front bumper" are one."""
    return re.sub(r"[\s_-]+", " ", name).strip().casefold()


def covers(cell: str, stated: str | None) -> bool:
    """Whether a table's cell holds for what the answer states; None is silence, which only ANY covers."""
    return cell == ANY or (stated is not None and same_name(cell) == same_name(stated))
