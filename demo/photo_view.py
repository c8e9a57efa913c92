"""The boxes of an answer, drawn on their photos and numbered as in the answer's tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL.Image import Image

from datasets_vision import drawing
from datasets_vision.example import Box, LabelledObject, stated_photo
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, FieldSpec, Items
from vlm_ft.answers.prediction import Prediction

from .wording import words

PALETTE = ("#c81e2b", "#0a5bc4", "#1a7434", "#7a3fd1", "#b04600", "#b0307f", "#17707a", "#6b5900")
"""Dark enough for white text (contrast above 4.5)."""

PHOTO = "photo"
"""The part of an item that gives its photo within the case, from 1."""

MAX_SIDE = 2048  # pixels of the drawn photo's longer side, so that it can be zoomed
LEGIBLE = 640  # pixels of the longer side
LABEL_SHARE = 0.032  # of the longer side: legible if the photo is as wide as a phone

MAX_LABEL = 24  # characters

UNDRAWN = (
    "Boxes without a number are not drawn: the answer does not say which of these photos they lie on. To see them, ask "
    "about each photo separately."
)


@dataclass(frozen=True, slots=True)
class Mark:
    """A box of an answer, 0..1000: its field and item, its number from 1, its name, its photo from 0."""

    field: str
    index: int
    number: int
    name: str
    box: Box
    photo: int = 0


def marks(form: Form, prediction: Prediction, photos: int = 1) -> list[Mark]:
    """The boxes of an answer about this many photos, numbered consecutively in the order of the form.

    Those of which it does not say on which of several photos they lie are left out.
    """
    found: list[Mark] = []
    for field, index, item in _boxes(form, prediction):
        photo = 0 if photos == 1 else stated_photo(item, photos)
        if photo is not None:
            assert item.box is not None
            found.append(Mark(field, index, len(found) + 1, item.name, item.box, photo))
    return found


def undrawn(form: Form, prediction: Prediction, photos: int) -> str:
    """Why boxes of an answer about several photos are left out of `marks`; "" if none are."""
    return UNDRAWN if photos > 1 and len(marks(form, prediction, photos)) < len(_boxes(form, prediction)) else ""


def numbers_photos(form: Form) -> bool:
    """Whether findings name their photo."""
    lists = (field.kind for field in form.fields if isinstance(field.kind, Items))
    return any(part.name == PHOTO for kind in lists for part in kind.fields)


def colour(number: int) -> str:
    """The colour of a mark, as ``#rrggbb``."""
    return PALETTE[(number - 1) % len(PALETTE)]


def drawn(photo: Image, placed: list[Mark]) -> Image:
    """A copy of the photo, at most `MAX_SIDE` pixels per side, with every mark's box and name.

    A photo with marks that is smaller than `LEGIBLE` pixels is enlarged, so that they can be read.
    """
    scene = photo.copy()
    scene.thumbnail((MAX_SIDE, MAX_SIDE))
    if placed:
        scene = legible(scene)
    boxes = [
        drawing.Mark(mark.box, shorten(f"{mark.number} {words(mark.name)}"), colour(mark.number)) for mark in placed
    ]
    return drawing.draw_boxes(scene, boxes, max(11, round(max(scene.size) * LABEL_SHARE)))


def legible(photo: Image) -> Image:
    """The photo, enlarged if it is smaller than `LEGIBLE` pixels."""
    times = max(1, math.ceil(LEGIBLE / max(photo.size)))
    return photo.resize((photo.width * times, photo.height * times)) if times > 1 else photo


def gallery(buttons: Sequence[str] = (), **look: Any) -> gr.Gallery:
    """A gallery that shows whole photos, as high as they are."""
    return gr.Gallery(height="auto", object_fit="contain", interactive=False, buttons=list(buttons), **look)


def shorten(text: str, longest: int = MAX_LABEL) -> str:
    """The text on one line, at most `longest` characters."""
    line = " ".join(text.split())
    return line if len(line) <= longest else f"{line[: longest - 1]}…"


def _boxes(form: Form, prediction: Prediction) -> list[tuple[str, int, LabelledObject]]:
    """Each box of an answer, with its field and its place there."""
    answered = [field for field in form.fields if field.name in prediction.fields]
    return [
        (field.name, index, item)
        for field in answered
        for index, item in enumerate(_boxed(field, prediction.fields[field.name].value))
    ]


def _boxed(field: FieldSpec, value: Any) -> list[LabelledObject]:
    match field.kind:
        case BoxKind():
            return [LabelledObject(field.name, tuple(value))]
        case Items(box=str(box), name=name):
            return [LabelledObject(str(row.get(name, field.name)), tuple(row[box]), row) for row in value]
        case _:
            return []
