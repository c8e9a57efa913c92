"""How a base writes boxes, and the one conversion between that and the stored form.

Stored boxes are ``[left, top, right, bottom]``, each 0..1000 of the image's side. A base that was trained to locate
has a convention of its own, and learns faster in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from datasets_vision.example import BOX_SCALE
from vlm_ft.answers.kinds import BoxKind, FieldSpec, Items, Strict

Size = tuple[int, int]
"""Width and height in pixels of an image as the base sees it."""

MOST_PIXELS = 16_384
"""The longest side of an image that a box in pixels may reach."""


class BoxFormat(Strict):
    """A convention for boxes in answers.

    `scale` is the number that stands for the far side, None where sides are pixels of the image as the base sees it;
    `top_first` puts top before left and bottom before right; `locations` writes four tokens ``<loc0000>`` in a string
    instead of a list of numbers.
    """

    scale: int | None = BOX_SCALE
    top_first: bool = False
    locations: bool = False

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
        side = {"type": "integer", "minimum": 0, "maximum": self.scale or MOST_PIXELS}
        return {"type": "array", "items": side, "minItems": 4, "maxItems": 4}

    def written(self, box: list[int], size: Size | None) -> list[int] | str:
        """A stored box in this convention; `size` is needed where sides are pixels."""
        sides = [round(side * far / BOX_SCALE) for side, far in zip(box, self._far(size), strict=True)]
        sides = _swapped(sides) if self.top_first else sides
        return "".join(f"<loc{side:04d}>" for side in sides) if self.locations else sides

    def stored(self, value: Any, size: Size | None) -> Any:
        """The stored box of a value in this convention; what is no box is returned as it is."""
        sides = value
        if self.locations and isinstance(value, str):
            sides = [int(number) for number in re.findall(r"<loc(\d{4})>", value)]
        if not isinstance(sides, list) or len(sides) != 4 or any(type(side) is not int for side in sides):
            return value
        sides = _swapped(sides) if self.top_first else sides
        return [round(side * BOX_SCALE / far) for side, far in zip(sides, self._far(size), strict=True)]

    def _far(self, size: Size | None) -> tuple[int, int, int, int]:
        """The number that stands for the far side, for left, top, right and bottom."""
        if self.scale is not None:
            return (self.scale,) * 4
        if size is None:
            raise ValueError("a box in pixels needs the size of its image")
        return (*size, *size)


OURS = BoxFormat()


def _swapped(sides: list[int]) -> list[int]:
    return [sides[1], sides[0], sides[3], sides[2]]


def with_boxes(fields: Iterable[FieldSpec], values: Any, change: Callable[[Any], Any]) -> Any:
    """The same values with every box changed, inside lists too; what does not fit the fields stays as it is."""
    if not isinstance(values, dict):
        return values
    changed = dict(values)
    for field in fields:
        value = values.get(field.name)
        if isinstance(field.kind, Items) and isinstance(value, list):
            changed[field.name] = [with_boxes(field.kind.fields, row, change) for row in value]
        elif isinstance(field.kind, BoxKind) and field.name in values:
            changed[field.name] = change(value)
    return changed
