"""CVAT for images: one XML with an <image> per photo, which contains boxes, polygons, lines, points, masks and tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import Pictures, check_size, read_files
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.shapes import Annotation, Size, read_objects, rotated_corners
from datasets_vision.formats.text_files import head_of
from datasets_vision.formats.xml_files import LINE, parse_xml, with_places
from datasets_vision.images import image_size
from datasets_vision.walk import files_of

_CORNERS = ("xtl", "ytl", "xbr", "ybr")


def matches(path: Path) -> bool:
    """An XML file whose root is <annotations>."""
    first = next(files_of(path, ".xml"), None)
    head = head_of(first) if first else ""
    return "<annotations>" in head and any(sign in head for sign in ("<meta>", "<image ", "<track "))


def read(source: Source) -> Iterator[Example | SetAside]:
    """A listed image without shapes has no objects; an image that no file lists is set aside.

    An image's tag is its class; the tag's attributes become columns, and a shape's become the object's attributes. The
    role is the image's `subset`, else the split that its folders name.
    """
    yield from read_files(source, list(files_of(source.path, ".xml")), "CVAT XML", _read_file)


def _read_file(pictures: Pictures, path: Path) -> Iterator[Example | SetAside]:
    if path.stat().st_size == 0:
        raise DataError(path, "empty file (0 bytes)", "export it again")
    root = parse_xml(path)
    if root.tag != "annotations":
        raise DataError(path, f"its root is <{root.tag[:80]}>, not <annotations>", "export as CVAT for images")
    if root.find("track") is not None:
        raise DataError(path, "contains video <track>s", "export as CVAT for images")
    for place, element in with_places(path, root.findall("image")):
        yield from or_set_aside(place, _read_image(pictures, path, place, element))


def _read_image(pictures: Pictures, path: Path, place: str, element: Element) -> Iterator[Example | SetAside]:
    image = pictures.find(element.get("name") or "", path)
    size = image_size(image)
    check_size((element.get("width"), element.get("height")), size)
    drawn = with_places(path, (part for part in element if part.tag != "tag"))
    objects, faults = read_objects(drawn, lambda part: _object(part, size))
    yield from faults
    tags = element.findall("tag")
    for tag in tags[1:]:
        yield SetAside(f"{path}:{tag.get(LINE)}", f"a second tag {tag.get('label')!r} for one image", "give one class")
    kind, columns = (tags[0].get("label"), _attributes(tags[0])) if tags else (None, {})
    yield pictures.example(image, Label(kind, objects, columns), place, path, element.get("subset"))


def _object(element: Element, size: Size) -> LabelledObject:
    name = (element.get("label") or "").strip()
    if not name:
        raise DataError("", f"a <{element.tag[:80]}> without a label", "write its name")
    annotation = Annotation(name, size, _attributes(element))
    degrees = annotation.numbers("rotation", element.get("rotation") or 0, 1)[0]
    match element.tag:
        case "box":
            return _box(annotation, element, degrees)
        case "polygon":
            return annotation.polygon(_points(element))
        case "polyline":
            return annotation.line(_points(element))
        case "points" if len(points := _points(element)) == 1:
            return annotation.point(points[0])
        case "ellipse":
            centre, radii = ([element.get(key) for key in keys] for keys in (("cx", "cy"), ("rx", "ry")))
            return annotation.ellipse(centre, radii, degrees)
        case "mask":
            return annotation.sized_box("mask", [element.get(key) for key in ("left", "top", "width", "height")])
    raise annotation.error(f"is a <{element.tag[:80]}>", "redraw it as a box or polygon")


def _box(annotation: Annotation, element: Element, degrees: float) -> LabelledObject:
    corners = [element.get(corner) for corner in _CORNERS]
    if not degrees:
        return annotation.box(corners)
    left, top, right, bottom = annotation.numbers("box", corners, 4)
    centre = (left + right) / 2, (top + bottom) / 2
    return annotation.polygon(rotated_corners(left, top, right - left, bottom - top, degrees, centre))


def _points(element: Element) -> list[list[str]]:
    """Points from "x,y;x,y"."""
    return [pair.split(",") for pair in (element.get("points") or "").split(";") if pair.strip()]


def _attributes(element: Element) -> dict[str, Any]:
    """The attributes with a value, true and false as booleans; `occluded` if it is set."""
    given = {part.get("name") or "": (part.text or "").strip() for part in element.findall("attribute")}
    found: dict[str, Any] = {
        key: {"true": True, "false": False}.get(value.lower(), value) for key, value in given.items() if key and value
    }
    return {**found, "occluded": True} if element.get("occluded") == "1" else found
