"""Cut large photos into overlapping tiles, with a label for each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from datasets_vision.errors import DataError
from datasets_vision.example import BOX_SCALE, Example, Label, LabelledObject, Picture, View, normalised_box, path_of

Crop = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom exclusive."""


def grid(width: int, height: int, side: int, overlap: int) -> list[Crop]:
    """Tiles of `side` pixels that cover a photo, row by row; neighbours share at least `overlap` pixels.

    The tiles are spread evenly, so that all are whole; if a photo is smaller than a tile, the tile is cut to its size.
    """
    if not 0 <= overlap < side:
        problem = f"an overlap of {overlap} pixels does not fit tiles of {side} pixels"
        raise DataError("tiling", problem, "give 0 or more, but less than the side")
    columns, rows = _starts(width, side, overlap), _starts(height, side, overlap)
    return [(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns]


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    steps = -(-(length - side) // (side - overlap))
    return [round(step * (length - side) / steps) for step in range(steps + 1)]


def cut(picture: Picture, crop: Crop) -> View:
    """Crop a picture to a tile; if it is a crop already, the tile is relative to that."""
    view = picture if isinstance(picture, View) else View(picture)
    left, top = view.crop[:2] if view.crop else (0, 0)
    return replace(view, crop=(crop[0] + left, crop[1] + top, crop[2] + left, crop[3] + top))


def tile_examples(
    example: Example, size: tuple[int, int], side: int, overlap: int, visible: float
) -> Iterator[Example]:
    """One example per tile of an example with one photo of `size` (width, height) pixels, all in the same group.

    The label keeps an object, clipped to the tile, if it covers half of the tile, or if at least the share `visible` of
    its box is inside. The image class and columns describe the whole photo and are left out. Raises DataError for an
    example with several photos or unlabelled objects.
    """
    if len(example.images) != 1:
        raise DataError(example.source, f"tiling needs one photo per example, this one has {len(example.images)}")
    if example.label.objects is None:
        raise DataError(
            example.source, "tiling needs boxes, but the label says nothing about objects", "leave tiling out"
        )
    for number, crop in enumerate(grid(*size, side, overlap)):
        objects = [_clipped(obj, crop, size, visible) for obj in example.label.objects]
        yield replace(
            example,
            id=f"{example.id}#{number}",
            images=(cut(example.images[0], crop),),
            label=Label(objects=tuple(obj for obj in objects if obj is not None)),
            group=example.group or example.id,
            source=f"{example.source} (tile {number}: {path_of(example.images[0]).name} {crop})",
        )


def _clipped(obj: LabelledObject, crop: Crop, size: tuple[int, int], visible: float) -> LabelledObject | None:
    """The object clipped to the tile; None if the tile does not show it, or if it has no box and may be anywhere."""
    if obj.box is None:
        return None
    left, top, right, bottom = in_pixels(obj.box, size)
    x0, y0, x1, y1 = max(left, crop[0]), max(top, crop[1]), min(right, crop[2]), min(bottom, crop[3])
    if x0 >= x1 or y0 >= y1:
        return None
    shown = (x1 - x0) * (y1 - y0)
    tile = (crop[2] - crop[0]) * (crop[3] - crop[1])
    if shown < visible * (right - left) * (bottom - top) and shown < tile / 2:
        return None
    attributes = {name: value for name, value in obj.attributes.items() if name != "polygon"}
    box = normalised_box(x0 - crop[0], y0 - crop[1], x1 - crop[0], y1 - crop[1], crop[2] - crop[0], crop[3] - crop[1])
    return replace(obj, box=box, attributes=attributes)


def in_pixels(box: tuple[int, int, int, int], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Scale a box from 0..1000 to the pixels of a photo of `size` (width, height)."""
    (width, height), (left, top, right, bottom) = size, box
    return left * width / BOX_SCALE, top * height / BOX_SCALE, right * width / BOX_SCALE, bottom * height / BOX_SCALE
