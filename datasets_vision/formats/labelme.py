"""labelme: one JSON per image, with polygons, rectangles, circles, points, lines and masks."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import Pictures, check_size, read_files, sorted_by_kind
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.json_files import read_json
from datasets_vision.formats.shapes import Annotation, Size, bounds, excerpt, read_objects
from datasets_vision.images import image_size
from datasets_vision.walk import folded


def read(source: Source) -> Iterator[Example | SetAside]:
    """A file without shapes means that there are no objects; an image without a file is set aside.

    The flags that are set on a shape, its group and its description are attributes; the image's flags are columns.
    """
    files, others = sorted_by_kind(source.path, "labelme", None)
    yield from read_files(
        source, files, "labelme JSON", lambda pictures, path: or_set_aside(path, _read_file(pictures, path))
    )
    yield from others


def _read_file(pictures: Pictures, path: Path) -> Iterator[Example | SetAside]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(path, "has no list of shapes", "give a labelme file")
    image = _image(pictures, path, content)
    size = image_size(image)
    check_size((content.get("imageWidth"), content.get("imageHeight")), size)
    shapes = ((f"{path}: shapes[{number}]", shape) for number, shape in enumerate(content["shapes"]))
    objects, faults = read_objects(shapes, lambda shape: _object(shape, size))
    yield from faults
    flags = content.get("flags")
    label = Label(objects=objects, columns=dict(flags) if isinstance(flags, dict) else {})
    yield pictures.example(image, label, str(path), path)


def _image(pictures: Pictures, path: Path, content: dict[str, Any]) -> Path:
    """Find the image by the path in the file, else by the file's own stem."""
    try:
        return pictures.find(str(content.get("imagePath") or path.stem), path)
    except DataError:
        if folded(path.stem) in pictures.named:
            return pictures.find(path.stem, path)
        raise


def _object(shape: Any, size: Size) -> LabelledObject:
    name = str(shape.get("label") or "").strip() if isinstance(shape, dict) else ""
    if not name:
        raise DataError("", "a shape without a label", "write its name")
    annotation = Annotation(name, size, _attributes(shape))
    points = annotation.points("points", shape.get("points"))
    if not points:
        raise annotation.error("has no points", "draw it again")
    match shape.get("shape_type") or "polygon":
        case "polygon":
            return annotation.polygon(points)
        case "rectangle" | "mask":
            return annotation.box(bounds(points))
        case "circle" if len(points) == 2:
            radius = math.dist(*points)
            return annotation.ellipse(points[0], (radius, radius))
        case "point" if len(points) == 1:
            return annotation.point(points[0])
        case "line" | "linestrip":
            return annotation.line(points)
    kind = excerpt([shape.get("shape_type")])
    raise annotation.error(f"is a {kind} of {len(points)} points", "redraw it as a rectangle or polygon")


def _attributes(shape: dict[str, Any]) -> dict[str, Any]:
    flags = shape.get("flags")
    found = {key: True for key, value in (flags if isinstance(flags, dict) else {}).items() if value}
    stated = {"group": shape.get("group_id"), "description": shape.get("description")}
    return {**found, **{key: value for key, value in stated.items() if value not in (None, "")}}
