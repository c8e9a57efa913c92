"""The images of a case on the report's page, with true and answered boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_vision.example import BOX_SCALE, LabelledObject, photo_of, picture_of
from datasets_vision.images import open_image
from vlm_ft.answers.kinds import BoxKind, FieldSpec, Items
from vlm_ft.errors import DataError
from vlm_ft.pages import data_address

PICTURE_SIDE = 480  # pixels of the longer side, on the page
JPEG_QUALITY = 78
TEXT_SHARE = 1 / 28  # the size of a box's name, of the picture's width


@dataclass(frozen=True, slots=True)
class Mark:
    """A box on the picture, in its pixels, and what it is called."""

    left: float
    top: float
    width: float
    height: float
    name: str
    true: bool
    text_x: float
    text_y: float
    anchor: str  # which end of the name lies at text_x


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG as a data address; empty, with `problem`, where the file cannot be read."""

    data: str
    width: int
    height: int
    marks: tuple[Mark, ...]
    problem: str = ""

    @property
    def text_size(self) -> float:
        """Of the boxes' names, in pixels of the picture: the same on the page for every shape."""
        return self.width * TEXT_SHARE


def pictures_of(
    images: Sequence[str], fields: Sequence[FieldSpec], truth: dict[str, Any], given: dict[str, Any]
) -> tuple[Picture, ...]:
    """The images of a case, each with the true and the answered boxes that lie in it.

    A box lies in the last image, unless its item names a `photo` (from 1).
    """
    boxes = [*_boxes(fields, truth, len(images), true=True), *_boxes(fields, given, len(images), true=False)]
    return tuple(_picture(image, [box for box in boxes if box.photo == number]) for number, image in enumerate(images))


@dataclass(frozen=True, slots=True)
class _Boxed:
    sides: list[int]  # 0..1000
    name: str
    true: bool
    photo: int  # from 0


def _boxes(fields: Sequence[FieldSpec], values: dict[str, Any], images: int, *, true: bool) -> Iterator[_Boxed]:
    """Every box of an answer."""
    for field in fields:
        if field.name not in values:
            continue
        if isinstance(field.kind, BoxKind):
            yield _Boxed(values[field.name], field.name, true, images - 1)
        if isinstance(field.kind, Items) and field.kind.box:
            for item in values[field.name]:
                photo = photo_of(LabelledObject("", attributes=item), images)
                yield _Boxed(item[field.kind.box], str(item.get(field.kind.name, "")), true, photo)


def _picture(name: str, boxes: Sequence[_Boxed]) -> Picture:
    try:
        image = open_image(picture_of(name))
    except DataError as error:
        return Picture("", 0, 0, (), str(error))
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    scale_up = max(1, PICTURE_SIDE // max(image.size))  # small pictures keep room for the boxes' names
    image = image.resize((image.width * scale_up, image.height * scale_up))
    marks = tuple(_mark(box, image.width, image.height) for box in boxes)
    return Picture(data_address(image, JPEG_QUALITY), image.width, image.height, marks)


def _mark(boxed: _Boxed, width: int, height: int) -> Mark:
    left, top, right, bottom = boxed.sides
    x0, x1 = left * width / BOX_SCALE, right * width / BOX_SCALE
    y0, y1 = top * height / BOX_SCALE, bottom * height / BOX_SCALE
    line = width * TEXT_SHARE
    text_y = max(y0 - 0.4 * line, line) if boxed.true else min(y1 + 1.1 * line, height - 0.4 * line)
    text_x, anchor = (x0, "start") if x0 < width / 2 else (x1, "end")
    return Mark(x0, y0, x1 - x0, y1 - y0, boxed.name, boxed.true, text_x, text_y, anchor)
