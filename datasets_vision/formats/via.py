"""VGG Image Annotator, versions 1 and 2: one JSON of regions per folder or split, alone or in a project file.

If a folder has two files for the same photos and the name of one contains `part`, its regions are the parts of the
object. Each region of the other file gets the attribute `part`: the part that covers the largest share of its area, at
least `PART_SHARE` (the smaller part if shares are equal), or None.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import Pictures, read_files, sorted_by_kind
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.json_files import read_json
from datasets_vision.formats.shapes import (
    Annotation,
    Outline,
    Size,
    area,
    box_outline,
    excerpt,
    read_objects,
    share_inside,
)
from datasets_vision.images import image_size

PART_SHARE = 0.2
"""The share of a region's area that must lie in a part for the region to belong to it."""

_NAME_KEYS = ("class", "class name", "label", "category", "type", "name", "kind", "defect", "damage")


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    entries: dict[str, dict[str, Any]]  # by place
    named_by: str | None  # the attribute that names a region


def read(source: Source) -> Iterator[Example | SetAside]:
    """The attribute `Source.named_by` names a region, else the attribute that most regions of its file have.

    If several are equally common, one called class, label, category, type or the like is preferred, then the one with
    the most distinct values. Regions without any attribute are named by `rename: {"": ...}`. A listed image without
    regions has no objects; an image that no file lists is set aside.
    """
    files, others = sorted_by_kind(source.path, "via")
    parts = dict(_with_parts(source.path, files))
    yield from read_files(
        source, list(parts), "VIA JSON", lambda pictures, path: _read_file(source, pictures, path, parts[path])
    )
    yield from others


def _read_file(source: Source, pictures: Pictures, path: Path, parts: Path | None) -> Iterator[Example | SetAside]:
    file = _file(source, path)
    found = _Parts(source, pictures, parts) if parts else None
    for place, entry in file.entries.items():
        yield from or_set_aside(place, _read_entry(source, pictures, file, place, entry, found))
    yield from found.unused() if found else ()


def _with_parts(given: Path, files: list[Path]) -> Iterator[tuple[Path, Path | None]]:
    """Each file of regions, with the file of parts beside it; a file given as the source's path is read alone."""
    folders: dict[Path, list[Path]] = defaultdict(list)
    for file in files:
        folders[file.parent].append(file)
    for listed in folders.values():
        parts = [file for file in listed if "part" in file.stem.lower()]
        alone = given.is_file() or len(parts) != 1 or len(listed) == 1
        yield from ((file, None if alone else parts[0]) for file in listed if alone or file not in parts)


def _file(source: Source, path: Path) -> _File:
    content = read_json(path)
    if isinstance(content, dict):
        content = content.get("_via_img_metadata", content)
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise DataError(path, "not a VIA file", "give one whose entries have filename and regions")
    entries = {f"{path}: {key[:120]}": entry for key, entry in content.items()}
    regions = (region for entry in entries.values() for region in _regions(entry) if isinstance(region, dict))
    attributes = (_attributes(region.get("region_attributes")) for region in regions)
    return _File(path, entries, source.named_by or _naming_attribute(attributes))


def _regions(entry: dict[str, Any]) -> list[Any]:
    """The regions of an entry: a list in VIA 2, a dict keyed "0", "1", ... in VIA 1."""
    regions = entry.get("regions")
    if isinstance(regions, dict):
        return list(regions.values())
    return regions if isinstance(regions, list) else []


def _attributes(given: Any) -> dict[str, Any]:
    """The attributes that have a value: a text, or the ticked check boxes joined by "+"."""
    if not isinstance(given, dict):
        return {}
    values = {
        key: "+".join(box for box, ticked in value.items() if ticked) if isinstance(value, dict) else value
        for key, value in given.items()
    }
    return {
        key: value.strip() if isinstance(value, str) else value
        for key, value in values.items()
        if value not in ("", None)
    }


def _naming_attribute(regions: Iterable[Mapping[str, Any]]) -> str | None:
    values: dict[str, list[str]] = defaultdict(list)
    for attributes in regions:
        for key, value in attributes.items():
            values[key].append(str(value))

    def rank(key: str) -> tuple[int, int, int]:
        lower = key.strip().lower()
        known = len(_NAME_KEYS) - _NAME_KEYS.index(lower) if lower in _NAME_KEYS else 0
        return len(values[key]), known, len(set(values[key]))

    return max(values, key=rank, default=None)


def _read_entry(
    source: Source, pictures: Pictures, file: _File, place: str, entry: dict[str, Any], parts: _Parts | None
) -> Iterator[Example | SetAside]:
    image = pictures.find(str(entry.get("filename") or ""), file.path)
    size = image_size(image)
    objects, faults = _objects(source, file, place, entry, size)
    yield from faults
    if parts:
        here, part_faults = parts.of(image, size)
        yield from part_faults
        objects = objects and tuple(_with_part(obj, here) for obj in objects)
    label = Label(objects=objects, columns=_attributes(entry.get("file_attributes")))
    yield pictures.example(image, label, place, file.path)


def _objects(
    source: Source, file: _File, place: str, entry: dict[str, Any], size: Size
) -> tuple[tuple[LabelledObject, ...] | None, list[SetAside]]:
    regions = ((f"{place} regions[{number}]", region) for number, region in enumerate(_regions(entry)))
    return read_objects(regions, lambda region: _object(source, file, region, size))


def _object(source: Source, file: _File, region: Any, size: Size) -> LabelledObject:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        raise DataError("", "a region without shape_attributes", "export it again")
    attributes = _attributes(region.get("region_attributes"))
    name = str(attributes.pop(file.named_by or "", ""))
    if not name and "" not in source.rename:
        lacking = f"no attribute {file.named_by!r}" if file.named_by else "no attribute"
        remedy = nearest(file.named_by or "", attributes) if attributes else 'name such regions with rename: {"": ...}'
        raise DataError("", f"the region has {lacking}", remedy)
    return _shaped(Annotation(name, size, attributes), shape)


def _shaped(annotation: Annotation, shape: dict[str, Any]) -> LabelledObject:
    def sides(*keys: str) -> list[Any]:
        return [shape.get(key) for key in keys]

    match shape.get("name"):
        case "rect":
            return annotation.sized_box("rect", sides("x", "y", "width", "height"))
        case "polygon":
            return annotation.polygon(_points(annotation, shape))
        case "polyline":
            return annotation.line(_points(annotation, shape))
        case "circle":
            return annotation.ellipse(sides("cx", "cy"), sides("r", "r"))
        case "ellipse":
            theta = annotation.numbers("theta", shape.get("theta") or 0.0, 1)[0]  # radians, as VIA 2 writes it
            return annotation.ellipse(sides("cx", "cy"), sides("rx", "ry"), math.degrees(theta))
        case "point":
            return annotation.point(sides("cx", "cy"))
    raise DataError("", f"{excerpt([shape.get('name')])!r} is not a VIA shape", "redraw it as a rect or polygon")


def _points(annotation: Annotation, shape: dict[str, Any]) -> list[tuple[float, float]]:
    across, down = (annotation.numbers(key, shape.get(key)) for key in ("all_points_x", "all_points_y"))
    if len(across) != len(down):
        raise annotation.error(f"has {len(across)} x and {len(down)} y coordinates", "give both for each point")
    return list(zip(across, down, strict=True))


class _Parts:
    """The parts that a second file marks on the same photos."""

    def __init__(self, source: Source, pictures: Pictures, path: Path) -> None:
        self._source = source.model_copy(update={"named_by": None})
        self._file = _file(self._source, path)
        self._entries: dict[Path, tuple[str, dict[str, Any]]] = {}
        self._faults: list[SetAside] = []
        for place, entry in self._file.entries.items():
            try:
                image = pictures.find(str(entry.get("filename") or ""), path)
            except DataError as error:
                self._faults.append(SetAside.of(place, error))
                continue
            self._entries[image] = place, entry

    def of(self, image: Path, size: Size) -> tuple[tuple[LabelledObject, ...], list[SetAside]]:
        """The parts of an image, and those set aside."""
        if image not in self._entries:
            return (), []
        objects, faults = _objects(self._source, self._file, *self._entries.pop(image), size)
        return objects or (), faults

    def unused(self) -> Iterator[SetAside]:
        """Set aside the entries whose image is missing, or is not in the other file."""
        yield from self._faults
        for place, _ in self._entries.values():
            yield SetAside(place, "has parts, but the other file does not list this image")


def _with_part(obj: LabelledObject, parts: tuple[LabelledObject, ...]) -> LabelledObject:
    region = _outline(obj)
    found = [(share_inside(region, _outline(part)), part) for part in parts] if region else []
    share, best = max(found, key=lambda pair: (pair[0], -area(_outline(pair[1]))), default=(0.0, None))
    return replace(obj, attributes={**obj.attributes, "part": best.name if best and share >= PART_SHARE else None})


def _outline(obj: LabelledObject) -> Outline:
    """The polygon of an object, else its box, else nothing."""
    polygon: Outline | None = obj.attributes.get("polygon")
    return polygon or (box_outline(obj.box) if obj.box else [])
