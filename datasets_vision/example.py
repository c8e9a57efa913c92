"""`Example`: one labelled item as its file states it, before any task reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

BOX_SCALE = 1000
"""Boxes are stored normalised to 0..BOX_SCALE as (left, top, right, bottom)."""

SYNTHETIC_MARKER = "synthetic.json"
"""The file that the project's generators leave in a set of drawings."""

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of a conversation that precedes the answer."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class LabelledObject:
    """One annotated object: its name in the source's own words, and where it is."""

    name: str
    box: Box | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Label:
    """What a source says of an item. `None` means the source says nothing: the fact is unobserved.

    `objects == ()` is a statement (looked at, nothing found); `objects is None` is silence.
    """

    image_class: str | None = None
    objects: tuple[LabelledObject, ...] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """One item: the turns and images that are shown, and the label that is known.

    `id` is unique within its source; `group` ties items that must share a role (one claim, one board);
    `source` names the file and place the label came from, for errors; `role` is set where the data set
    comes with its own split.
    """

    id: str
    turns: tuple[Turn, ...] = ()
    images: tuple[Path, ...] = ()
    label: Label = field(default_factory=Label)
    group: str = ""
    source: str = ""
    role: str | None = None

    @property
    def text(self) -> str:
        """The last user turn: what the answer is about, "" where the images speak alone."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")


def normalised_box(left: float, top: float, right: float, bottom: float, width: int, height: int) -> Box:
    """Pixels (exclusive right and bottom) to 0..1000, at least one unit wide and high."""
    scaled = [
        round(BOX_SCALE * value / side)
        for value, side in ((left, width), (top, height), (right, width), (bottom, height))
    ]
    x0, y0, x1, y1 = (min(max(value, 0), BOX_SCALE) for value in scaled)
    x0, y0 = min(x0, BOX_SCALE - 1), min(y0, BOX_SCALE - 1)
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)
