"""Contact sheets: original examples beside augmented draws of them, with their boxes and names."""

from __future__ import annotations

import colorsys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from datasets_vision.augment import augment_together
from datasets_vision.drawing import Mark, draw_boxes
from datasets_vision.example import LabelledObject, photo_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage
    from PIL.ImageFont import FreeTypeFont

MARGIN = 8  # pixels around and between the tiles
LINE_HEIGHT = 15  # pixels from one line of text to the next
BACKGROUND, INK, GREY = (250, 250, 250), (20, 20, 20), (120, 120, 120)
MAX_IMAGES = 2  # per draw; of an example with more images, only the last is shown


@dataclass(frozen=True)
class SheetExample:
    """One example of a sheet: its images (RGB), its objects, and the lines of text below it."""

    images: tuple[PILImage, ...]
    objects: tuple[LabelledObject, ...] | None
    caption: tuple[str, ...] = ()


def contact_sheet(
    shown: Sequence[SheetExample], preset: str, draws: int = 3, seed: int = 0, tile: int = 240
) -> PILImage:
    """A legend, then one row per example: its original images and `draws` augmented draws.

    Tiles are `tile` pixels on the longer side. The same arguments give the same sheet. Raises DataError for an
    unknown preset.
    """
    from PIL import Image

    colours = class_colours(shown)
    rows = [_row(example, preset, draws, seed + place, tile, colours) for place, example in enumerate(shown)]
    width = max(row.width for row in rows) if rows else tile + 2 * MARGIN
    head = _legend(shown, colours, f"originals, then {draws} draws of augmentation {preset!r}", width)
    parts = [head, *rows]
    sheet = Image.new("RGB", (width, sum(part.height + MARGIN for part in parts)), BACKGROUND)
    down = 0
    for part in parts:
        sheet.paste(part, (0, down))
        down += part.height + MARGIN
    return sheet


def class_colours(shown: Sequence[SheetExample]) -> dict[str, str]:
    """A colour for every object name, spread over the colour wheel; the same names give the same colours."""
    names = sorted({obj.name for example in shown for obj in example.objects or ()})
    return {name: _colour(place / max(1, len(names)), place % 2) for place, name in enumerate(names)}


def _colour(hue: float, dark: int) -> str:
    shares = colorsys.hsv_to_rgb(hue, 0.95, 0.65 if dark else 0.95)
    return "#" + bytes(round(255 * share) for share in shares).hex()


def drawn_over(image: PILImage, objects: Sequence[LabelledObject], colours: dict[str, str], tile: int) -> PILImage:
    """The image, `tile` pixels on its longer side, with each object's box and name."""
    scale = tile / max(image.size)
    picture = image.convert("RGB").resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    return draw_boxes(picture, [Mark(obj.box, obj.name, colours[obj.name]) for obj in objects if obj.box is not None])


def _row(example: SheetExample, preset: str, draws: int, seed: int, tile: int, colours: dict[str, str]) -> PILImage:
    """The originals, then each draw after a gap, with the caption below."""
    from PIL import Image, ImageDraw

    sets = [_tiles(example.images, example.objects, colours, tile)]
    for draw in range(draws):
        images, objects = augment_together(example.images, example.objects, preset, seed * 1000 + draw)
        tiles = _tiles(images, objects, colours, tile)
        sets.append(tiles if len(tiles) <= MAX_IMAGES else tiles[-1:])
    placed, across = [], 0
    for tiles in sets:
        across += MARGIN
        for picture in tiles:
            placed.append((picture, across))
            across += picture.width + MARGIN // 2
    height = max(picture.height for picture, _ in placed) + LINE_HEIGHT * len(example.caption) + MARGIN
    row = Image.new("RGB", (across + MARGIN // 2, height), BACKGROUND)
    for picture, left in placed:
        row.paste(picture, (left, 0))
    pen = ImageDraw.Draw(row)
    for number, line in enumerate(example.caption):
        at = (MARGIN, height - MARGIN - LINE_HEIGHT * (len(example.caption) - number) + 2)
        pen.text(at, _truncated(line, row.width), fill=INK, font=_font(12))
    return row


def _tiles(
    images: Sequence[PILImage], objects: tuple[LabelledObject, ...] | None, colours: dict[str, str], tile: int
) -> list[PILImage]:
    of_photo: list[list[LabelledObject]] = [[] for _ in images]
    for obj in objects or ():
        of_photo[photo_of(obj, len(images))].append(obj)
    return [drawn_over(image, found, colours, tile) for image, found in zip(images, of_photo, strict=True)]


def _legend(shown: Sequence[SheetExample], colours: dict[str, str], title: str, width: int) -> PILImage:
    """The title, then a swatch, the name and the count for every name, on as many lines as needed."""
    from PIL import Image, ImageDraw

    counts = Counter(obj.name for example in shown for obj in example.objects or ())
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    places, across, down = [], MARGIN, MARGIN + LINE_HEIGHT + 4
    for name in colours:
        wide = 16 + int(pen.textlength(f"{name} {counts[name]}", font=_font(12))) + 14
        if across + wide > width and across > MARGIN:
            across, down = MARGIN, down + LINE_HEIGHT + 3
        places.append((name, across, down))
        across += wide
    head = Image.new("RGB", (width, down + LINE_HEIGHT + 4), BACKGROUND)
    pen = ImageDraw.Draw(head)
    pen.text((MARGIN, MARGIN), _truncated(title, width), fill=INK, font=_font(13))
    for name, x, y in places:
        pen.rectangle((x, y + 2, x + 11, y + 13), fill=colours[name])
        pen.text((x + 16, y), f"{name} {counts[name]}", fill=INK, font=_font(12))
    if not places:
        pen.text((MARGIN, down), "no objects are labelled", fill=GREY, font=_font(12))
    return head


def _truncated(text: str, width: int) -> str:
    """As much of the text as safely fits the width."""
    max_length = max(8, (width - 2 * MARGIN) // 6)
    return text if len(text) <= max_length else text[: max_length - 3] + "..."


def _font(size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.load_default(size)  # type: ignore[return-value]  # with a size it is a scalable font
