"""`Result`: what a derivation computes from one answer, and how it is exported, shown and measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

from vlm_ft.answers.kinds import Strict


@dataclass(frozen=True, slots=True)
class View:
    """The texts that show a result: a headline and a table, then `entries` under the title `rest`."""

    title: str
    source: str
    headline: str
    remark: str = ""
    warning: str = ""
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    rest: str = ""
    entries: tuple[str, ...] = ()


class Figure(NamedTuple):
    """One figure of many results: a number per labelled case (None if there is none), and the statistic over them."""

    field: str
    name: str
    cases: Sequence[float | None]
    statistic: Literal["share", "mean", "median"]


class Result(Strict):
    """Base of results; each kind of derivation has one subclass.

    `columns` maps the columns of a scored table to the types of their cells: str, float, bool, list[str], or a list
    of a `Strict` model.
    """

    columns: ClassVar[Mapping[str, Any]]

    @property
    @abstractmethod
    def definite(self) -> bool:
        """Whether the answer determines the result completely."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The result in a few words."""

    @abstractmethod
    def cells(self) -> Sequence[Any]:
        """The cells of the columns, as JSON values."""

    @abstractmethod
    def view(self) -> View:
        """The texts that show the result."""

    @abstractmethod
    def agreement(self, given: Self | None) -> float:
        """How well the result of a prediction agrees with this one, the definite result of a label: 0..1."""

    @classmethod
    @abstractmethod
    def figures(cls, pairs: Sequence[tuple[Self, Self | None]]) -> Iterator[Figure]:
        """The figures over one or more pairs: the definite result of the labels, and that of the prediction."""


def joined(*names: str | None) -> str:
    """The names that are not None, with spaces instead of underscores."""
    return " ".join(name.replace("_", " ") for name in names if name is not None)
