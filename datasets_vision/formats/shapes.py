"""Boxes, polygons, points and masks in pixels: verified against their image and scaled to 0..1000.

Corners are edges: 0 <= left < right <= width. Shapes may overrun the image's edge by `OVERRUN` of the side and are
clipped there; shapes further out were drawn on another image and are rejected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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


def excerpt(values: Iterable[Any]) -> str:
    """Values for a message, as text of limited length."""
    text = ", ".join(f"{value:g}" if isinstance(value, float) else str(value).strip()[:_SHOWN] for value in values)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


@dataclass(frozen=True, slots=True)
class Annotation:
    """An object annotated in an image of `size`; a method for each shape verifies it and returns the object."""

    name: str
    size: Size
    attributes: Mapping[str, Any]

    def error(self, problem: str, remedy: str) -> BoxError:
        """An error that names the object; `read_objects` adds its place."""
        return BoxError("", f"{self.name!r} {problem}", remedy)

    def numbers(self, what: str, values: Any, count: int | None = None) -> list[float]:
        """Parse finite numbers (`count` of them, if given), not booleans; errors name the object and `what`."""
        listed = list(values) if isinstance(values, Sequence) and not isinstance(values, str) else [values]
        try:
            found = [math.nan if isinstance(value, bool) else float(value) for value in listed]
        except (TypeError, ValueError, OverflowError):
            found = [math.nan]
        if not all(map(math.isfinite, found)) or len(found) != (count or len(found)):
            expected = {2: "two numbers", 4: "four numbers"}.get(count or 0, "a row of numbers")
            raise self.error(f"{what} {excerpt(listed)} is not {expected}", "write them in pixels")
        return found

    def points(self, what: str, given: Any) -> list[Point]:
        """Points from [[x, y], ...]; errors name the object and `what`."""
        if not isinstance(given, Sequence) or isinstance(given, str):
            raise self.error(f"{what} {excerpt([given])} is not a list of points", "write [[x, y], ...]")
        return [(x, y) for x, y in (self.numbers(f"{what} point", point, 2) for point in given)]

    def box(self, corners: Any, *, overrun: float = OVERRUN) -> LabelledObject:
        """The object with a box of (left, top, right, bottom), given as numbers or text."""
        return LabelledObject(self.name, self._verified("box", corners, overrun), self.attributes)

    def sized_box(self, what: str, sides: Any) -> LabelledObject:
        """The object with a box of (left, top, width, height); errors in these numbers name `what`."""
        left, top, width, height = self.numbers(what, sides, 4)
        return self.box((left, top, left + width, top + height))

    def polygon(self, points: Any) -> LabelledObject:
        """The object with a polygon; its box is the polygon's bounds, and the polygon becomes an attribute.

        If the polygon is too small for the grid of 0..1000, only the box is kept.
        """
        corners = self.points("polygon", points)
        if len(set(corners)) < 3:
            raise self.error(f"polygon of {len(set(corners))} points", "a polygon needs three")
        box = self._verified("polygon's box", bounds(corners), OVERRUN)
        outline = normalised_outline(corners, self.size)
        return LabelledObject(self.name, box, {**self.attributes, "polygon": outline} if outline else self.attributes)

    def polygons(self, rings: Sequence[Any]) -> LabelledObject:
        """The object in several pieces: `polygon` is the largest, `polygons` are all, and the box encloses them."""
        if not rings:
            raise self.error("has an empty list of polygons", "draw one")
        if len(rings) == 1:
            return self.polygon(rings[0])
        pieces = [replace(self, attributes={}).polygon(ring) for ring in rings]
        boxes = [piece.box for piece in pieces if piece.box]
        outlines = [piece.attributes["polygon"] for piece in pieces if "polygon" in piece.attributes]
        lefts, tops, rights, bottoms = zip(*boxes, strict=True)
        hull = min(lefts), min(tops), max(rights), max(bottoms)
        drawn = {"polygon": max(outlines, key=area), "polygons": outlines} if outlines else {}
        return LabelledObject(self.name, hull, {**self.attributes, **drawn})

    def ellipse(self, centre: Any, radii: Any, degrees: float = 0.0) -> LabelledObject:
        """The object outlined by an ellipse (or circle) centred inside the image; its box is clipped to the image."""
        x, y = self._inside("centre", centre)
        across, along = self.numbers("radii", radii, 2)
        cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        half_width, half_height = math.hypot(across * cosine, along * sine), math.hypot(across * sine, along * cosine)
        left, right = max(x - half_width, 0), min(x + half_width, self.size[0])
        top, bottom = max(y - half_height, 0), min(y + half_height, self.size[1])
        return self.box((left, top, right, bottom))

    def point(self, point: Any) -> LabelledObject:
        """The object at a point, without a box; the point becomes an attribute, [x, y] in 0..1000."""
        scaled = _scaled(self._inside("point", point), self.size)
        return LabelledObject(self.name, None, {**self.attributes, "point": scaled})

    def line(self, points: Any) -> LabelledObject:
        """The object along a line of two or more points; the line becomes an attribute, and its bounds are the box."""
        corners = self.points("line", points)
        if len(set(corners)) < 2:
            raise self.error(f"line of {len(set(corners))} points", "a line needs two")
        box = bounds(corners)
        if _outside(box, self.size, OVERRUN):
            problem = f"line {excerpt(box)} lies outside the image {self.size[0]}x{self.size[1]}"
            raise self.error(problem, "give its points in pixels")
        line = [_scaled(corner, self.size) for corner in corners]
        return LabelledObject(self.name, normalised_box(*box, *self.size), {**self.attributes, "line": line})

    def _verified(self, what: str, corners: Any, overrun: float) -> Box:
        left, top, right, bottom = self.numbers(what, corners, 4)
        box, image = f"{what} {excerpt(corners)}", f"image {self.size[0]}x{self.size[1]}"
        if right <= left or bottom <= top:
            raise self.error(f"{box} has no area ({image})", "give the top-left corner first")
        if _outside((left, top, right, bottom), self.size, overrun):
            raise self.error(f"{box} lies outside the {image}", "give boxes in its pixels")
        return normalised_box(left, top, right, bottom, *self.size)

    def _inside(self, what: str, point: Any) -> Point:
        x, y = self.numbers(what, point, 2)
        if _outside((x, y, x, y), self.size, OVERRUN):
            problem = f"{what} {excerpt([x, y])} lies outside the image {self.size[0]}x{self.size[1]}"
            raise self.error(problem, "use its pixels")
        return x, y


def rotated_corners(left: float, top: float, width: float, height: float, degrees: float, about: Point) -> list[Point]:
    """The four corners of a box in pixels, rotated clockwise about a point."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    corners = ((left, top), (left + width, top), (left + width, top + height), (left, top + height))
    moved = [(x - about[0], y - about[1]) for x, y in corners]
    return [(about[0] + x * cosine - y * sine, about[1] + x * sine + y * cosine) for x, y in moved]


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
    annotations: Iterable[tuple[str, T]], read: Callable[[T], LabelledObject]
) -> tuple[tuple[LabelledObject, ...] | None, list[SetAside]]:
    """Apply `read` to each annotation, given after its place; one for which it raises DataError is set aside there.

    The objects are None if there were annotations but all had to be set aside.
    """
    objects: list[LabelledObject] = []
    faults: list[SetAside] = []
    for place, annotation in annotations:
        try:
            objects.append(read(annotation))
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


def _scaled(point: Point, size: Size) -> list[int]:
    x, y = (round(BOX_SCALE * value / side) for value, side in zip(point, size, strict=True))
    return [min(max(x, 0), BOX_SCALE), min(max(y, 0), BOX_SCALE)]
