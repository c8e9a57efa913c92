"""Checks of the classes: is each in every role, and are there enough examples of it?"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator

from vlm_ft.data.checks.fault import Fault
from vlm_ft.data.checks.index import Index
from vlm_ft.recipe import ROLES

MIN_TRAINING_EXAMPLES = 5
"""A class with fewer training examples is hardly learned."""
MAX_IMBALANCE = 20
"""A larger ratio between the most common and the rarest class of a field is reported."""

Classes = dict[str, dict[str, dict[str, int]]]


def classes(index: Index) -> Classes:
    """Field -> name -> role -> number of examples, with fields and names sorted."""
    found: Classes = defaultdict(lambda: defaultdict(lambda: dict.fromkeys(ROLES, 0)))
    query = """SELECT field, word, role, count(*) FROM classes JOIN placed ON number = item
        GROUP BY field, word, role ORDER BY field, word"""
    for field, word, role, count in index.rows(query):
        found[field][word][role] = count
    return {field: dict(words) for field, words in found.items()}


def balance(index: Index) -> Iterator[Fault]:
    """Classes that are missing in a role, have few training examples, or are far outnumbered."""
    sizes = dict.fromkeys(ROLES, 0) | dict(index.rows("SELECT role, count(*) FROM placed GROUP BY role"))
    for field, words in classes(index).items():
        if len(words) == 1 and sum(next(iter(words.values())).values()) == index.items:
            yield Fault("warning", field, f"always {next(iter(words))!r}", "there is nothing to learn; leave it out")
            continue
        for word, roles in words.items():
            yield from _fault(index, field, word, roles, sizes)
        trained = {word: roles["train"] for word, roles in words.items() if roles["train"] >= MIN_TRAINING_EXAMPLES}
        if trained and max(trained.values()) > MAX_IMBALANCE * min(trained.values()):
            most, least = max(trained, key=trained.__getitem__), min(trained, key=trained.__getitem__)
            value = f"{most!r} has {trained[most]} training examples, {least!r} has {trained[least]}"
            remedy = "collect more of the rare ones, set training.balance, and judge by macro averages"
            yield Fault("warning", field, value, remedy)


def _fault(index: Index, field: str, word: str, roles: dict[str, int], sizes: dict[str, int]) -> Iterator[Fault]:
    place = f"{field} {word!r}"
    first = index.one(
        "SELECT place FROM classes JOIN items ON number = item WHERE field = ? AND word = ? LIMIT 1", field, word
    )
    if roles["train"] == 0:
        value = f"has {sum(roles.values())} examples and none in train; the first is {first}"
        yield Fault("warning", place, value, "collect more, merge it into another class (rename), or leave it out")
    elif roles["train"] < MIN_TRAINING_EXAMPLES:
        value = f"has {roles['train']} training examples; the first is {first}"
        yield Fault("warning", place, value, "collect more, or merge it into another class (rename)")
    elif roles["test"] == 0 and sizes["test"]:
        value = f"is missing in test, but has {roles['train']} training examples"
        yield Fault("warning", place, value, "it cannot be measured; collect more, or use vlm-ft crossval")


def spellings(index: Index) -> Iterator[Fault]:
    """Names of one field that differ only in case, spaces or punctuation."""
    for field, words in classes(index).items():
        alike = defaultdict(list)
        for word in words:
            alike[re.sub(r"[\W_]+", "", word).casefold() or word].append(word)
        for names in alike.values():
            if len(names) > 1:
                similar = ", ".join(f"{name!r} ({sum(words[name].values())})" for name in names)
                yield Fault("warning", field, f"these may be one class: {similar}", "merge them with rename")
