"""The errors that a user can cause, as data: place, problem, remedy. `str(error)` puts them in one line.

UserError
  DataError       files or labels that cannot be read (here)
  RecipeError, FormError, ModelError, AdapterError    (vlm_ft.errors)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake that the user can correct.

    `place` says where (a file, a key, a field), `problem` what is wrong with which value, `remedy` what to do.
    Whatever shows an error to a user goes through `str(error)`; whatever needs a part of it reads the attribute.
    """

    def __init__(self, place: object, problem: str, remedy: str = "") -> None:
        super().__init__(place, problem, remedy)
        self.place = str(place)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return one_line(self.place, self.problem, self.remedy)


class DataError(UserError):
    """Files or labels that cannot be read."""


def one_line(place: str, problem: str, remedy: str = "") -> str:
    """``place: problem; remedy`` as one line; an empty part is left out."""
    said = f"{problem}; {remedy}" if remedy else problem
    return " ".join((f"{place}: {said}" if place else said).split())


def nearest(name: str, known: Iterable[str], count: int = 1) -> str:
    """The remedy for an unknown name: the `count` closest known ones, or all of them."""
    names = sorted(known)
    close = [repr(word) for word in difflib.get_close_matches(name, names, n=count, cutoff=0.5)]
    return f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(names)}"
