"""`Request`: what to assess, and the adapter that assesses it. `Attributed`: the answer, and who gave it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from typing import Any, Literal, NamedTuple, Protocol, Self

from PIL.Image import Image

from datasets_vision.example import Picture, Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.bases.precision import Precision
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

    `card` is None for the bare base; `precision`: of the forward passes, None if unknown. Neither is part of the JSON.
    It equals every prediction with the same content.
    """

    card: Card | None = field(default=None, repr=False)
    precision: Precision | None = field(default=None, repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Prediction):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in fields(Prediction))

    @classmethod
    def to(cls, card: Card | None, prediction: Prediction, precision: Precision | None = None) -> Self:
        """A prediction that the adapter with this card gave."""
        own = {each.name: getattr(prediction, each.name) for each in fields(Prediction)}
        return cls(**own, card=card, precision=precision)

    @property
    def origin(self) -> dict[str, Any]:
        """What to cite it by besides its case: the adapter's version and calibration, and what decoded it."""
        version = self.card.identity if self.card is not None else {}
        return {**version, "decoder": _decoder(), "precision": self.precision}


@cache
def _decoder() -> str:
    return f"vlm-ft {metadata.version('vlm-ft')}"


class CaseId(NamedTuple):
    """The number under which an answer can be cited, and the time."""

    number: str
    time: str


def new_case() -> CaseId:
    """A number that no other answer has, and the time."""
    now = datetime.now(UTC)
    return CaseId(f"{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}", now.isoformat(timespec="seconds"))


class Predictor(Protocol):
    """What the app, scoring and evaluation need from an engine."""

    @property
    def cards(self) -> Mapping[str, Card]:
        """The cards of the resident adapters, by name."""

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """One prediction per request, in order; a request that cannot be served gives an error prediction."""
