"""`Request`: what to assess, and the adapter that assesses it. `Attributed`: the answer, and who gave it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Literal, Protocol, Self

from PIL.Image import Image

from datasets_vision.example import Picture, Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.recipe import Tiling

BASE = "base"
"""The name of the bare base, without any adapter, in requests."""


@dataclass(frozen=True, slots=True)
class Request:
    """Images and turns for one adapter; `form` overrides the adapter's own, and the bare base needs one.

    `tiling`: how a large photo is split; "card": as the adapter was trained, "none": not at all. `like`: the adapter
    whose limits and tiling a request to the bare base follows, so that the two can be compared. `by` and `case`: who
    asks, and the case's number, for the decision log. `on_text` gets the values so far while a text is written.

    >>> from pathlib import Path
    >>> from datasets_vision.example import Turn
    >>> from vlm_ft import Request
    >>> Request(images=(Path("photos/0.png"),), turns=(Turn("user", "The left door."),), adapter="mine").tiling
    'card'
    """

    images: tuple[Picture | Image, ...] = ()
    turns: tuple[Turn, ...] = ()
    adapter: str = BASE
    form: Form | None = None
    tiling: Tiling | Literal["card", "none"] = "card"
    like: str | None = None
    by: str | None = None
    case: str | None = None
    on_text: Callable[[Values], None] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Attributed(Prediction):
    """A prediction and the card of the adapter that gave it, which another version may have replaced since.

    `card` is None for the bare base, and not part of the JSON. It equals every prediction with the same content.
    """

    card: Card | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in fields(Prediction))

    @classmethod
    def to(cls, card: Card | None, prediction: Prediction) -> Self:
        """A prediction that the adapter with this card gave."""
        return cls(**{each.name: getattr(prediction, each.name) for each in fields(Prediction)}, card=card)


class Predictor(Protocol):
    """What the app, scoring and evaluation need from an engine."""

    @property
    def cards(self) -> Mapping[str, Card]:
        """The cards of the resident adapters, by name."""

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """One prediction per request, in order; a request that cannot be served gives an error prediction."""
