"""`Request`: what to assess, and the adapter that assesses it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from PIL.Image import Image

from datasets_vision.example import Picture, Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.recipe import Tiling

BASE = "base"
"""The name of the bare base, without any adapter, in requests."""


@dataclass(frozen=True, slots=True)
class Request:
    """Images and turns for one adapter; `form` overrides the adapter's own, and the bare base needs one.

    `tiling`: how a large photo is split; "card": as the adapter was trained, "none": not at all. `like`: the adapter
    whose limits and tiling a request to the bare base follows, so that the two can be compared. `by`: who asks, and
    `case`: under which number, for the decision log.

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


class Predictor(Protocol):
    """What the app, scoring and evaluation need from an engine."""

    @property
    def cards(self) -> Mapping[str, Card]:
        """The cards of the resident adapters, by name."""

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One prediction per request, in order; a request that cannot be served gives an error prediction."""
