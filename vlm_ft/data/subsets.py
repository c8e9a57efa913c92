"""Evenly spaced subsets, and nested subsets of the training examples, which simulate smaller labelled sets."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def spaced(items: Sequence[T], most: int) -> Sequence[T]:
    """At most `most` items, evenly spaced over the sequence."""
    return items[:: -(-len(items) // most) or 1]


def nested(groups: Sequence[str], strata: Sequence[str], most: int, seed: int) -> list[bool]:
    """Whether each example is in the subset of at most `most` examples, made of whole groups.

    Groups are taken in one seeded order, whatever `most` is, so a smaller subset is part of every larger one. The order
    interleaves the strata, so that even a small subset contains each in proportion. At least one group is taken.
    """
    sizes = Counter(groups)
    votes: dict[str, Counter[str]] = defaultdict(Counter)
    for group, stratum in zip(groups, strata, strict=True):
        votes[group][stratum] += 1
    by_stratum: dict[str, list[str]] = defaultdict(list)
    for group in sorted(votes, key=lambda name: _sort_key(seed, name)):
        by_stratum[min(votes[group], key=lambda name: (-votes[group][name], name))].append(group)
    places = {
        group: (place + 0.5) / len(members) for members in by_stratum.values() for place, group in enumerate(members)
    }
    taken: set[str] = set()
    count = 0
    for group in sorted(places, key=lambda name: (places[name], _sort_key(seed, name))):
        if taken and count + sizes[group] > most:
            break
        taken.add(group)
        count += sizes[group]
    return [group in taken for group in groups]


def _sort_key(seed: int, group: str) -> str:
    return hashlib.sha256(f"subset {seed}\n{group}".encode()).hexdigest()
