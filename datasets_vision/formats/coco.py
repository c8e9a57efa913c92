"""COCO: one JSON per split with `images`, `annotations` (boxes, polygons, run-length masks) and `categories`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import Pictures, check_size, read_files, sorted_by_kind
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.json_cursor import Cursor, Member
from datasets_vision.formats.shapes import Annotation, Size, area, excerpt, normalised_outline, read_objects
from datasets_vision.formats.text_files import read_text
from datasets_vision.images import image_size

_PARTS = frozenset({"images", "annotations", "categories"})
_MAX_BYTES = 4 << 30  # of a file, whose text is held in memory
_COCO_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "keypoints", "num_keypoints"})
_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "date_captured"})

_Entry = tuple[int, int, DataError | None]
"""An entry's index in its list, the start of its text, and the reason it cannot be used, if any."""


@dataclass(frozen=True, slots=True)
class _File:
    """One annotation file; entries are decoded again on access, so that only the text is held in memory."""

    path: Path
    text: str
    images: list[_Entry] = field(default_factory=list)
    annotations: dict[str, list[_Entry]] = field(default_factory=lambda: defaultdict(list))  # by image id
    known: set[str] = field(default_factory=set)  # ids of images
    names: dict[str, str] = field(default_factory=dict)  # of the categories, by id
    faults: list[SetAside] = field(default_factory=list)  # of entries that belong to no image

    def placed(self, part: str, entries: Iterable[_Entry]) -> Iterator[tuple[str, _Entry]]:
        """Each entry after its place."""
        return ((f"{self.path}: {part}[{entry[0]}]", entry) for entry in entries)

    def decoded(self, entry: _Entry) -> dict[str, Any]:
        """The entry's value; raises its fault if it cannot be used."""
        _, start, fault = entry
        if fault is not None:
            raise fault
        value: dict[str, Any] = Cursor(self.text, start).value()
        return value


def read(source: Source) -> Iterator[Example | SetAside]:
    """A listed image without annotations has no objects; an image that no file lists is set aside."""
    files, others = sorted_by_kind(source.path, "coco")
    yield from read_files(source, files, "COCO JSON", lambda pictures, path: _read_file(pictures, _loaded(path)))
    yield from others


def _read_file(pictures: Pictures, file: _File) -> Iterator[Example | SetAside]:
    yield from file.faults
    for image_id in file.annotations.keys() - file.known:
        for place, _ in file.placed("annotations", file.annotations[image_id]):
            yield SetAside(place, f"image_id {image_id} is not in the list of images", "correct it")
    for place, entry in file.placed("images", file.images):
        yield from or_set_aside(place, _read_image(pictures, file, place, entry))


def _loaded(path: Path) -> _File:
    """Index the entries of a file; annotations may precede their images."""
    file = _File(path, read_text(path, _MAX_BYTES))
    if not file.text:
        raise DataError(path, "empty file (0 bytes)", "export it again")
    ids: dict[tuple[str, str], int] = {}
    try:
        for part, member in _listed(file):
            _index(file, part, member, ids)
    except json.JSONDecodeError as error:
        raise DataError(f"{path}:{error.lineno}", f"not JSON ({error.msg})", "export it again") from error
    return file


def _listed(file: _File) -> Iterator[tuple[str, Member]]:
    """The entries of all lists, one by one: decoding the whole file would take many times its size in memory."""
    cursor, seen = Cursor(file.text), set[str | None]()
    remedy = f"write an object with lists of {', '.join(sorted(_PARTS))}"
    if cursor.peek() != "{":
        raise DataError(file.path, "is not a JSON object", remedy)
    for key in cursor.enter():
        if key in seen:
            raise DataError(file.path, f"key {str(key)[:80]!r} appears twice in one object", "keep one")
        seen.add(key)
        if key is None or key not in _PARTS:
            cursor.skip()
            continue
        if cursor.peek() != "[":
            raise DataError(file.path, f"{key} is not a list", "write a list of objects")
        yield from ((key, member) for member in cursor.members())
    cursor.end()
    if "images" not in seen:
        raise DataError(file.path, "has no list of images", remedy)


def _index(file: _File, part: str, member: Member, ids: dict[tuple[str, str], int]) -> None:
    """Add an entry to the file's index; `ids` has the index of the first entry of each part and id."""
    given = member.value if isinstance(member.value, dict) else {}
    key, image = _key(given.get("id")), _key(given.get("image_id"))
    fault = member.fault
    if fault is None and key is None:
        fault = DataError("", "an entry without an id", "write a number")
    elif fault is None and (first := ids.setdefault((part, str(key)), member.index)) != member.index:
        fault = DataError("", f"id {key} is already used by {part}[{first}]")
    elif fault is None and part == "annotations" and image is None:
        shown_id = excerpt([given.get("image_id")])
        fault = DataError("", f"image_id {shown_id} is not in the list of images", "correct it")
    entry = member.index, member.start, fault
    if part == "images":
        file.images.append(entry)
        file.known.update(filter(None, [key]))
    elif part == "annotations" and image is not None:
        file.annotations[image].append(entry)
    elif fault is not None:
        file.faults.append(SetAside.of(f"{file.path}: {part}[{member.index}]", fault))
    elif key is not None:
        file.names[key] = str(given.get("name") or "").strip()


def _key(value: Any) -> str | None:
    """An id as JSON, in which 1, "1" and true differ; None for anything that is not an id."""
    return json.dumps(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _read_image(pictures: Pictures, file: _File, place: str, listed: _Entry) -> Iterator[Example | SetAside]:
    entry = file.decoded(listed)
    image = pictures.find(str(entry.get("file_name") or ""), file.path)
    size = image_size(image)
    check_size((entry.get("width"), entry.get("height")), size)
    annotations = file.placed("annotations", file.annotations.get(json.dumps(entry["id"]), ()))
    objects, faults = read_objects(annotations, lambda given: _object(file, file.decoded(given), size))
    yield from faults
    columns = {key: value for key, value in entry.items() if key not in _IMAGE_KEYS and isinstance(value, str)}
    yield pictures.example(image, Label(objects=objects, columns=columns), place, file.path)


def _object(file: _File, entry: dict[str, Any], size: Size) -> LabelledObject:
    category = entry.get("category_id")
    name = file.names.get(_key(category) or "")
    if name == "":
        raise DataError("", f"category {excerpt([category])} has no name", "write it in categories")
    if name is None:
        known = nearest(_key(category) or "", file.names) if file.names else "the file has no categories"
        raise DataError("", f"category_id {excerpt([category])} is not a category", known)
    annotation = Annotation(name, size, _attributes(entry))
    segmentation, box = entry.get("segmentation"), entry.get("bbox")
    if isinstance(segmentation, dict):
        return _masked(annotation, segmentation)
    if isinstance(segmentation, list) and segmentation:
        rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
        return annotation.polygons([_ring(annotation, ring) for ring in rings])
    if not box:
        raise annotation.error("has no bbox and no segmentation", "write bbox: x, y, width, height")
    return annotation.sized_box("bbox", box)


def _attributes(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Further facts about an object: `attributes` as CVAT and others write them, and other plain keys."""
    given = entry.get("attributes")
    stated = {key: value for key, value in entry.items() if key not in _COCO_KEYS and isinstance(value, str | int)}
    crowd = {"iscrowd": True} if stated.pop("iscrowd", 0) else {}
    return {**stated, **(given if isinstance(given, dict) else {}), **crowd}


def _ring(annotation: Annotation, ring: Any) -> list[tuple[float, float]]:
    """Points from [x1, y1, x2, y2, ...]."""
    flat = annotation.numbers("segmentation", ring)
    if len(flat) % 2:
        raise annotation.error(f"segmentation has {len(flat)} numbers", "give x, y pairs")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _masked(annotation: Annotation, mask: dict[str, Any]) -> LabelledObject:
    """A run-length mask: its bounds as the box, its outlines as polygons."""
    size = annotation.size
    height, width = (int(side) for side in annotation.numbers("mask size", mask.get("size"), 2))
    if (width, height) != size:
        problem = f"mask is {width}x{height}, but its image is {size[0]}x{size[1]}"
        raise annotation.error(problem, "correct its size")
    grid = _decoded(annotation, mask.get("counts"))
    down, across = grid.any(axis=1).nonzero()[0], grid.any(axis=0).nonzero()[0]
    if not len(down):
        raise annotation.error("mask is empty", "remove the annotation")
    corners = (across[0], down[0], across[-1] + 1, down[-1] + 1)
    outlined = replace(annotation, attributes={**annotation.attributes, **_outlines(grid, size)})
    return outlined.box([int(corner) for corner in corners])


def _decoded(annotation: Annotation, counts: Any) -> Any:  # (height, width) of bool
    from supervision import rle_to_mask

    size = annotation.size
    unfit = annotation.error(f"mask's counts do not fill {size[0]}x{size[1]}", "write COCO run lengths")
    if isinstance(counts, list):
        runs = annotation.numbers("mask's counts", counts)
        if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
            raise unfit
        counts = [int(run) for run in runs]
    elif not isinstance(counts, str):
        raise unfit
    try:
        return rle_to_mask(counts, resolution_wh=size)
    except (ValueError, IndexError, AssertionError, OverflowError) as error:
        raise unfit from error


def _outlines(grid: Any, size: Size) -> dict[str, Any]:
    """The outlines as attributes; an outline without area, of a line one pixel wide, is left out."""
    from supervision import mask_to_polygons

    found = (normalised_outline(ring.tolist(), size) for ring in mask_to_polygons(grid))
    outlines = sorted(filter(area, found), key=len, reverse=True)
    return {"polygon": outlines[0], **({"polygons": outlines} if len(outlines) > 1 else {})} if outlines else {}
