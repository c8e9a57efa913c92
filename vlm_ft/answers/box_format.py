"""How a base writes boxes, and the one conversion between that and the stored form.

Stored boxes are ``[left, top, right, bottom]``, each 0..1000 of the image's side. A base that was trained to locate
has a convention of its own, and learns faster in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from datasets_vision.example import BOX_SCALE
from vlm_ft.answers.kinds import Strict

Size = tuple[int, int]
"""Width and height in pixels of an image as the base sees it."""

Side = TypeVar("Side", int, float)

MOST_PIXELS = 16_384
"""The longest side of an image that a box in pixels may reach."""


class BoxFormat(Strict):
    """A convention for boxes in answers.

    `scale` is the number that stands for the far side, None where sides are pixels of the image as the base sees it;
    `top_first` puts top before left and bottom before right; `locations` writes four tokens ``<loc0000>`` in a string
    instead of a list of numbers. `interpolated`: a side may lie between two numbers. Training shares its target between
    them, and an answer's side is the mean of its distribution (distribution focal loss, Li et al. 2020).
    """

    scale: int | None = BOX_SCALE
    top_first: bool = False
    locations: bool = False
    interpolated: bool = False

    @property
    def asked(self) -> str:
        """How the prompt describes it."""
        names = "top,left,bottom,right" if self.top_first else "left,top,right,bottom"
        if self.locations:
            return f"{names} as four <loc0000> to <loc{self.scale}>"
        return f"[{names}] in {'pixels' if self.scale is None else f'0..{self.scale}'}"

    @property
    def answer_schema(self) -> dict[str, Any]:
        """The JSON schema of one box."""
        if self.locations:
            return {"type": "string", "pattern": r"^(<loc(0[0-9]{3}|10[01][0-9]|102[0-3])>){4}$"}
        side = {"type": "integer", "minimum": 0, "maximum": self.largest}
        return {"type": "array", "items": side, "minItems": 4, "maxItems": 4}

    @property
    def opening(self) -> str:
        """What begins a written box; `between` parts its sides, `closing` ends it."""
        return '"' if self.locations else "["

    @property
    def between(self) -> str:
        """What parts two sides."""
        return "" if self.locations else ","

    @property
    def closing(self) -> str:
        """What ends a written box."""
        return '"' if self.locations else "]"

    @property
    def largest(self) -> int:
        """The largest number that a side may be."""
        return self.scale or MOST_PIXELS

    def side(self, number: int) -> str:
        """A side as it is written."""
        return f"<loc{number:04d}>" if self.locations else str(number)

    def sides(self, box: Sequence[int], size: Size | None) -> list[int]:
        """The numbers of a stored box in this convention, in its order; `size` is needed where they are pixels."""
        return [round(side) for side in self.exact(box, size)]

    def exact(self, box: Sequence[int], size: Size | None) -> list[float]:
        """As `sides`, before they are rounded to what can be written."""
        sides = [side * far / BOX_SCALE for side, far in zip(box, self._far(size), strict=True)]
        return _swapped(sides) if self.top_first else sides

    def stored(self, sides: Sequence[float], size: Size | None) -> list[int]:
        """The stored numbers of sides in this convention; what lies beyond the image ends at its border."""
        ordered = _swapped(sides) if self.top_first else sides
        return [
            min(round(side * BOX_SCALE / far), BOX_SCALE) for side, far in zip(ordered, self._far(size), strict=True)
        ]

    def _far(self, size: Size | None) -> tuple[int, int, int, int]:
        """The number that stands for the far side, for left, top, right and bottom."""
        if self.scale is not None:
            return (self.scale,) * 4
        if size is None:
            raise ValueError("a box in pixels needs the size of its image")
        return (*size, *size)


OURS = BoxFormat()

GRID = BoxFormat(scale=9, interpolated=True)
"""Of a base that has learned no convention: a side is one digit, so one decision."""


def _swapped(sides: Sequence[Side]) -> list[Side]:
    return [sides[1], sides[0], sides[3], sides[2]]
