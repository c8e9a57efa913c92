"""The registry of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vlm_ft.data.checks import balance, images, labels, leaks
from vlm_ft.data.checks.fault import Fault
from vlm_ft.data.checks.index import Index


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
