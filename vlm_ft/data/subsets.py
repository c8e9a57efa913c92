"""Nested subsets of the training examples, as smaller labelled sets would have been."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence


def nested(groups: Sequence[str], strata: Sequence[str], most: int, seed: int) -> list[bool]:
    """Whether each example is among the first `most`: whole groups, in one seeded order for every `most`.

    The order deals the strata out evenly, so that a small subset has each in its share; a smaller subset lies
    within every larger one. One group at least is taken.
    """
    sizes = Counter(groups)
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for group, stratum in zip(groups, strata, strict=True):
        votes[group][stratum] += 1
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for group in sorted(votes, key=lambda name: _drawn(seed, name)):
        by_stratum[min(votes[group], key=lambda name: (-votes[group][name], name))].append(group)
    places = {
        group: (place + 0.5) / len(members) for members in by_stratum.values() for place, group in enumerate(members)
    }
    taken: set[str] = set()
    count = 0
    for group in sorted(places, key=lambda name: (places[name], _drawn(seed, name))):
        if taken and count + sizes[group] > most:
            break
        taken.add(group)
        count += sizes[group]
    return [group in taken for group in groups]


def _drawn(seed: int, group: str) -> str:
    return hashlib.sha256(f"subset {seed}\n{group}".encode()).hexdigest()
