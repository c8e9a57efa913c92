"""Draw boxes and their names on a picture, for contact sheets, reports and the app."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datasets_vision.example import BOX_SCALE, Box

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

INK, WHITE = "#141414", "#ffffff"


@dataclass(frozen=True, slots=True)
class Mark:
    """A box (0..1000), its label, its colour as ``#rrggbb``, and whether only its corners are drawn."""

    box: Box
    label: str
    colour: str
    corners: bool = False


def draw_boxes(picture: PILImage, marks: Sequence[Mark], font_size: int = 11) -> PILImage:
    """A copy of an RGB picture with every mark; labels are `font_size` pixels high and avoid each other."""
    import supervision as sv  # importing it takes 1.5 s

    if not marks:
        return picture.copy()
    sides = np.array([mark.box for mark in marks], dtype=float) / BOX_SCALE * np.array(picture.size * 2)
    found = sv.Detections(xyxy=sides, class_id=np.arange(len(marks)))
    cornered = np.array([mark.corners for mark in marks])
    palette = sv.ColorPalette.from_hex([mark.colour for mark in marks])
    inks = sv.ColorPalette.from_hex([_readable(mark.colour) for mark in marks])
    thickness = max(2, max(picture.size) // 320)
    scene = sv.BoxAnnotator(palette, thickness=thickness).annotate(picture.copy(), found[~cornered])
    scene = sv.BoxCornerAnnotator(palette, 2 * thickness, 6 * thickness).annotate(scene, found[cornered])
    writer = sv.RichLabelAnnotator(
        palette, text_color=inks, font_size=font_size, text_padding=max(2, font_size // 4), smart_position=True
    )
    named = np.array([bool(mark.label) for mark in marks])
    drawn: PILImage = writer.annotate(scene, found[named], [mark.label for mark in marks if mark.label])
    return drawn


def _readable(colour: str) -> str:
    """Dark or white ink, whichever contrasts more with the colour, by its luma (ITU-R BT.601)."""
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return INK if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else WHITE
