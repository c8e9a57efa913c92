"""The images of a case on the report's page, with true and answered boxes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datasets_vision.drawing import Mark, draw_boxes
from datasets_vision.example import Box, LabelledObject, photo_of, picture_of
from datasets_vision.images import open_image
from vlm_ft.answers.kinds import BoxKind, FieldSpec, Items
from vlm_ft.errors import DataError
from vlm_ft.pages import data_url

PICTURE_SIDE = 480  # pixels of the longer side, on the page
JPEG_QUALITY = 78
TEXT_SIZE = 15  # pixels of a box's name
TRUE, ANSWERED = "#14924d", "#ffb02e"


@dataclass(frozen=True, slots=True)
class Picture:
    """A JPEG as a data URI, and the number of boxes on it; empty, with a `problem`, if the file is unreadable."""

    data: str
    width: int
    height: int
    true: int
    answered: int
    problem: str = ""


def pictures_of(
    images: Sequence[str], fields: Sequence[FieldSpec], truth: dict[str, Any], given: dict[str, Any]
) -> tuple[Picture, ...]:
    """The images of a case, each with its true boxes as green corners and the answered ones in amber.

    A box lies in the last image, unless its item names a `photo` (from 1).
    """
    true, answered = list(_boxes(fields, truth, len(images))), list(_boxes(fields, given, len(images)))
    return tuple(
        _picture(
            image,
            [Mark(box, name, TRUE, corners=True) for box, name, photo in true if photo == number],
            [Mark(box, name, ANSWERED) for box, name, photo in answered if photo == number],
        )
        for number, image in enumerate(images)
    )


def _boxes(fields: Sequence[FieldSpec], values: dict[str, Any], images: int) -> Iterator[tuple[Box, str, int]]:
    """Every box of an answer, with its name and the index of its image."""
    for field in fields:
        if field.name not in values:
            continue
        if isinstance(field.kind, BoxKind):
            yield values[field.name], field.name, images - 1
        if isinstance(field.kind, Items) and field.kind.box:
            for item in values[field.name]:
                name = str(item.get(field.kind.name, ""))
                yield item[field.kind.box], name, photo_of(LabelledObject("", attributes=item), images)


def _picture(name: str, true: Sequence[Mark], answered: Sequence[Mark]) -> Picture:
    try:
        image = open_image(picture_of(name))
    except DataError as error:
        return Picture("", 0, 0, 0, 0, error.public())
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    scale_up = max(1, PICTURE_SIDE // max(image.size))  # makes room for the boxes' names on small pictures
    image = draw_boxes(image.resize((image.width * scale_up, image.height * scale_up)), [*true, *answered], TEXT_SIZE)
    return Picture(data_url(image, JPEG_QUALITY), image.width, image.height, len(true), len(answered))
