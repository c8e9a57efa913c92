"""Boxes, polygons, points and masks in pixels: verified against their image and scaled to 0..1000.

Corners are edges: 0 <= left < right <= width. Shapes may overrun the image's edge by `OVERRUN` of the side and are
clipped there; shapes further out were drawn on another image and are rejected. Every function raises DataErrors that
begin with `place`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from datasets_vision.errors import BoxError, DataError
from datasets_vision.example import BOX_SCALE, Box, LabelledObject, normalised_box
from datasets_vision.formats.contract import SetAside

T = TypeVar("T")

OVERRUN = 0.02
"""Share of the image's side."""

Size = tuple[int, int]
"""(width, height) in pixels."""

Point = tuple[float, float]
"""(x, y) in pixels."""

Outline = list[list[int]]
"""[[x, y], ...] in 0..1000."""

_SHOWN = 80  # characters of a wrong value in a message


def numbers(place: str, what: str, values: Any, count: int | None = None) -> list[float]:
    """Parse finite numbers (`count` of them, if given); booleans are rejected."""
    listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
    try:
        found = [math.nan if isinstance(value, bool) else float(value) for value in listed]
    except (TypeError, ValueError, OverflowError):
        found = [math.nan]
    if not all(map(math.isfinite, found)) or len(found) != (count or len(found)):
        expected = {2: "two numbers", 4: "four numbers"}.get(count or 0, "a row of numbers")
        raise BoxError(place, f"{what} {excerpt(listed)} is not {expected}", "write them in pixels")
    return found


def excerpt(values: Iterable[Any]) -> str:
    """Values for a message, as text of limited length."""
    text = ", ".join(f"{value:g}" if isinstance(value, float) else str(value).strip()[:_SHOWN] for value in values)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


def verified_box(place: str, name: str, corners: Any, size: Size, *, overrun: float = OVERRUN) -> Box:
    """Verify a box (left, top, right, bottom) in pixels, given as numbers or text, and scale it to 0..1000."""
    left, top, right, bottom = numbers(place, f"{name!r} box", corners, 4)
    box = f"{name!r} box {excerpt(corners)}"
    if right <= left or bottom <= top:
        raise BoxError(place, f"{box} has no area (image {size[0]}x{size[1]})", "give the top-left corner first")
    if _outside((left, top, right, bottom), size, overrun):
        raise BoxError(place, f"{box} lies outside the image {size[0]}x{size[1]}", "give boxes in its pixels")
    return normalised_box(left, top, right, bottom, *size)


def box_object(place: str, name: str, corners: Any, size: Size, attributes: Mapping[str, Any]) -> LabelledObject:
    """An object with a box of (left, top, right, bottom)."""
    return LabelledObject(name, verified_box(place, name, corners, size), attributes)


def polygon_object(place: str, name: str, points: Any, size: Size, attributes: Mapping[str, Any]) -> LabelledObject:
    """An object with a polygon; its box is the polygon's bounds, and the polygon goes to `attributes`.

    If the polygon is too small for the grid of 0..1000, only the box is kept.
    """
    corners = pairs(place, f"{name!r} polygon", points)
    if len(set(corners)) < 3:
        raise BoxError(place, f"{name!r} polygon of {len(set(corners))} points", "a polygon needs three")
    box = verified_box(place, f"{name} polygon's", bounds(corners), size)
    outline = normalised_outline(corners, size)
    return LabelledObject(name, box, {**attributes, "polygon": outline} if outline else attributes)


def multipolygon_object(
    place: str, name: str, rings: Sequence[Any], size: Size, attributes: Mapping[str, Any]
) -> LabelledObject:
    """An object in several pieces: `polygon` is the largest, `polygons` are all, and the box encloses them."""
    if not rings:
        raise BoxError(place, f"{name!r} has an empty list of polygons", "draw one")
    pieces = [polygon_object(place, name, ring, size, {}) for ring in rings]
    if len(pieces) == 1:
        return LabelledObject(name, pieces[0].box, {**attributes, **pieces[0].attributes})
    boxes = [piece.box for piece in pieces if piece.box]
    outlines = [piece.attributes["polygon"] for piece in pieces if "polygon" in piece.attributes]
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    hull = min(lefts), min(tops), max(rights), max(bottoms)
    drawn = {"polygon": max(outlines, key=area), "polygons": outlines} if outlines else {}
    return LabelledObject(name, hull, {**attributes, **drawn})


def ellipse_object(
    place: str, name: str, centre: Any, radii: Any, size: Size, attributes: Mapping[str, Any], degrees: float = 0.0
) -> LabelledObject:
    """An object outlined by an ellipse (or circle) centred inside the image; its box is clipped to the image."""
    x, y = _inside(place, f"{name!r} centre", centre, size)
    across, along = numbers(place, f"{name!r} radii", radii, 2)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    half_width, half_height = math.hypot(across * cosine, along * sine), math.hypot(across * sine, along * cosine)
    left, right = max(x - half_width, 0), min(x + half_width, size[0])
    top, bottom = max(y - half_height, 0), min(y + half_height, size[1])
    return box_object(place, name, (left, top, right, bottom), size, attributes)


def point_object(place: str, name: str, point: Any, size: Size, attributes: Mapping[str, Any]) -> LabelledObject:
    """An object at a point, without a box; the point goes to `attributes` as [x, y] in 0..1000."""
    x, y = _inside(place, f"{name!r} point", point, size)
    return LabelledObject(name, None, {**attributes, "point": _scaled((x, y), size)})


def line_object(place: str, name: str, points: Any, size: Size, attributes: Mapping[str, Any]) -> LabelledObject:
    """An object along a line of two or more points; the line goes to `attributes`, and its bounds are the box."""
    corners = pairs(place, f"{name!r} line", points)
    if len(set(corners)) < 2:
        raise BoxError(place, f"{name!r} line of {len(set(corners))} points", "a line needs two")
    box = bounds(corners)
    if _outside(box, size, OVERRUN):
        raise BoxError(
            place,
            f"{name!r} line {excerpt(box)} lies outside the image {size[0]}x{size[1]}",
            "give its points in pixels",
        )
    line = [_scaled(corner, size) for corner in corners]
    return LabelledObject(name, normalised_box(*box, *size), {**attributes, "line": line})


def rotated_corners(left: float, top: float, width: float, height: float, degrees: float, about: Point) -> list[Point]:
    """The four corners of a box in pixels, rotated clockwise about a point."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((left, top), (left + width, top), (left + width, top + height), (left, top + height))
    moved = [(x - about[0], y - about[1]) for x, y in corners]
    return [(about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine) for x, y in moved]


def pairs(place: str, what: str, points: Any) -> list[Point]:
    """Points from [[x, y], ...]."""
    if not isinstance(points, Sequence) or isinstance(points, str):
        raise BoxError(place, f"{what} {excerpt([points])} is not a list of points", "write [[x, y], ...]")
    return [(x, y) for x, y in (numbers(place, f"{what} point", point, 2) for point in points)]


def bounds(points: Sequence[Sequence[float]]) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) around points."""
    across, down = [point[0] for point in points], [point[1] for point in points]
    return min(across), min(down), max(across), max(down)


def normalised_outline(points: Sequence[Point], size: Size) -> Outline:
    """The points in 0..1000 without consecutive repeats; [] if fewer than three are left."""
    outline: Outline = []
    for point in points:
        scaled = _scaled(point, size)
        if not outline or outline[-1] != scaled:
            outline.append(scaled)
    if len(outline) > 1 and outline[0] == outline[-1]:
        outline.pop()
    return outline if len(outline) > 2 else []


def area(outline: Sequence[Sequence[float]]) -> float:
    """The area of a polygon by the shoelace formula, in the square of the points' unit."""
    turns = zip(outline, [*outline[1:], *outline[:1]], strict=True)
    return abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in turns)) / 2


def share_inside(inner: Outline, outer: Outline) -> float:
    """The share (0 to 1) of `inner` that lies in `outer`, counted on the grid of 0..1000."""
    left, top, right, bottom = (round(edge) for edge in bounds(inner))
    shape = (right - left + 1, bottom - top + 1)
    drawn = [_filled([(x - left, y - top) for x, y in outline], shape) for outline in (inner, outer)]
    total = int(drawn[0].sum())
    return int((drawn[0] & drawn[1]).sum()) / total if total else 0.0


def box_outline(box: Box) -> Outline:
    """A box's corners, clockwise."""
    left, top, right, bottom = box
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def read_objects(
    annotations: Iterable[tuple[str, T]], read: Callable[[str, T], LabelledObject]
) -> tuple[tuple[LabelledObject, ...] | None, list[SetAside]]:
    """Apply `read` to each annotation and its place; one that raises a DataError is set aside.

    The objects are None if there were annotations but all had to be set aside.
    """
    objects: list[LabelledObject] = []
    faults: list[SetAside] = []
    for place, annotation in annotations:
        try:
            objects.append(read(place, annotation))
        except DataError as error:
            faults.append(SetAside.of(place, error))
    return (None if faults and not objects else tuple(objects)), faults


def _filled(points: list[tuple[int, int]], shape: Size) -> Any:  # (height, width) of bool
    import numpy as np
    from PIL import Image, ImageDraw

    grid = Image.new("L", shape)
    ImageDraw.Draw(grid).polygon(points, fill=1)
    return np.asarray(grid, dtype=bool)


def _outside(corners: Sequence[float], size: Size, overrun: float) -> bool:
    left, top, right, bottom = corners
    beyond_x, beyond_y = overrun * size[0], overrun * size[1]
    return left < -beyond_x or top < -beyond_y or right > size[0] + beyond_x or bottom > size[1] + beyond_y


def _inside(place: str, what: str, point: Any, size: Size) -> Point:
    x, y = numbers(place, what, point, 2)
    if _outside((x, y, x, y), size, OVERRUN):
        raise BoxError(place, f"{what} {excerpt([x, y])} lies outside the image {size[0]}x{size[1]}", "use its pixels")
    return x, y


def _scaled(point: Point, size: Size) -> list[int]:
    x, y = (round(BOX_SCALE * value / side) for value, side in zip(point, size, strict=True))
    return [min(max(x, 0), BOX_SCALE), min(max(y, 0), BOX_SCALE)]
