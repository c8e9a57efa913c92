"""How a base writes boxes, and the conversion to and from stored boxes.

Stored boxes are ``[left, top, right, bottom]``, each from 0 to 1000 along the image's side. A base that was pretrained
to locate objects has its own convention, and learns faster if it keeps it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from datasets_vision.example import BOX_SCALE
from vlm_ft.answers.kinds import Strict, spanned_box

Size = tuple[int, int]
"""Width and height in pixels of an image as the base sees it."""

Side = TypeVar("Side", int, float)

MAX_PIXELS = 16_384
"""The largest coordinate of a box in pixels."""


class BoxFormat(Strict):
    """A convention for boxes in answers.

    `scale` is the coordinate of the image's right and bottom edges; None if coordinates are pixels of the image as the
    base sees it. `top_first` puts top before left and bottom before right. `locations` writes a string of four tokens
    such as ``<loc0000>`` instead of a list of numbers. `interpolated`: a side may lie between two numbers. Training
    divides its target between them, and an answer's side is the mean of its distribution (distribution focal loss, Li
    et al. 2020). `numbered_rows`: before each row of an image's tokens comes its coordinate (`row_number`), so that a
    base that has not learned to locate objects need not count tokens.
    """

    scale: int | None = BOX_SCALE
    top_first: bool = False
    locations: bool = False
    interpolated: bool = False
    numbered_rows: bool = False

    @property
    def description(self) -> str:
        """How the prompt describes a box."""
        names = "top,left,bottom,right" if self.top_first else "left,top,right,bottom"
        if self.locations:
            return f"{names} as four <loc0000> to <loc{self.scale}>"
        return f"[{names}] in {'pixels' if self.scale is None else f'0..{self.scale}'}"

    @property
    def answer_schema(self) -> dict[str, Any]:
        if self.locations:
            return {"type": "string", "pattern": r"^(<loc(0[0-9]{3}|10[01][0-9]|102[0-3])>){4}$"}
        side = {"type": "integer", "minimum": 0, "maximum": self.largest}
        return {"type": "array", "items": side, "minItems": 4, "maxItems": 4}

    @property
    def opening(self) -> str:
        """The text before the first side."""
        return '"' if self.locations else "["

    @property
    def between(self) -> str:
        """The text between two sides."""
        return "" if self.locations else ","

    @property
    def closing(self) -> str:
        """The text after the last side."""
        return '"' if self.locations else "]"

    @property
    def largest(self) -> int:
        return self.scale or MAX_PIXELS

    def side(self, number: int) -> str:
        """The text of one side."""
        return f"<loc{number:04d}>" if self.locations else str(number)

    def sides(self, box: Sequence[int], size: Size | None) -> list[int]:
        """A stored box in this convention's units and order. Raises `ValueError` for pixels without a `size`."""
        return [round(side) for side in self.exact(box, size)]

    def exact(self, box: Sequence[int], size: Size | None) -> list[float]:
        """Like `sides`, but not rounded to the numbers that can be written."""
        sides = [side * far / BOX_SCALE for side, far in zip(box, self._far(size), strict=True)]
        return _swapped(sides) if self.top_first else sides

    def stored(self, sides: Sequence[float], size: Size | None) -> list[int]:
        """Sides in this convention as a stored box, clipped at the image's right and bottom edges."""
        ordered = _swapped(sides) if self.top_first else sides
        return [
            min(round(side * BOX_SCALE / far), BOX_SCALE) for side, far in zip(ordered, self._far(size), strict=True)
        ]

    def row_number(self, row: int, rows: int) -> int:
        """The coordinate of the middle of one of an image's `rows` of tokens. Raises `ValueError` for pixels."""
        if self.scale is None:
            raise ValueError("rows have no numbers if boxes are in pixels")
        return round((row + 0.5) / rows * self.scale)

    def read(self, written: Any, size: Size | None) -> Any:
        """The stored form of a box that a base wrote in this convention; anything else is returned unchanged."""
        sides = [int(side) for side in re.findall(r"<loc([0-9]{4})>", str(written))] if self.locations else written
        if not isinstance(sides, list) or len(sides) != 4 or any(type(side) is not int for side in sides):
            return written
        return spanned_box(self.stored(sides, size))

    def _far(self, size: Size | None) -> tuple[int, int, int, int]:
        """The coordinate of the image's far edge for left, top, right and bottom."""
        if self.scale is not None:
            return (self.scale,) * 4
        if size is None:
            raise ValueError("a box in pixels needs the size of its image")
        return (*size, *size)


STANDARD = BoxFormat()

GRID = BoxFormat(scale=9, interpolated=True, numbered_rows=True)
"""For a base that has not learned a convention: a side is one digit, and so one decision."""


def _swapped(sides: Sequence[Side]) -> list[Side]:
    return [sides[1], sides[0], sides[3], sides[2]]
