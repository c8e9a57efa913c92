"""COCO: one JSON a split with `images`, `annotations` (boxes, polygons, run-length masks) and `categories`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Box, Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import Pictures, beside, check_size, holds, kinds_of
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.json_files import DECODER
from datasets_vision.formats.json_reader import JsonReader
from datasets_vision.formats.shapes import Size, boxed, numbers, outlined, several_outlined, shown, usable, verified_box
from datasets_vision.images import image_size
from datasets_vision.index import DiskIndex, DiskLists

_IMAGES, _FAULTS = "images", "faults"  # neither is an id as JSON
_OWN_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "keypoints", "num_keypoints"})
_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "date_captured"})


@dataclass(frozen=True, slots=True)
class _File:
    """One annotation file. Entries lie on disk as "index text" or "index! fault", the annotations by image id."""

    path: Path
    ids: DiskIndex  # "part id" -> index of its entry
    entries: DiskLists
    names: dict[str, str]  # of the categories, by id

    def listed(self, part: str, key: str) -> Iterator[tuple[str, dict[str, Any] | SetAside]]:
        """The entries under a key, with the place of each; a faulty one as its fault."""
        for word in self.entries.get(key):
            index, _, text = word.partition(" ")
            place = f"{self.path}: {part}[{index.rstrip('!')}]"
            yield place, SetAside(place, *json.loads(text)) if index[-1] == "!" else DECODER.decode(text)


def matches(path: Path) -> bool:
    """A JSON file that begins as COCO does."""
    return holds(path, "coco")


def read(source: Source) -> Iterator[Example | SetAside]:
    """An image that the file lists without annotations has nothing to find; an image in no file is set aside."""
    kinds = kinds_of(source.path)
    files = [file for file, kind in kinds.items() if kind == "coco" or file == source.path]
    if not files:
        raise DataError(source.path, "no COCO JSON below", "give the file, or the folder that holds it")
    pictures = Pictures.of(source.path, source.image_folder)
    for path in files:
        try:
            with DiskIndex() as ids, DiskLists() as entries:
                yield from _read_file(pictures, _File(path, ids, entries, {}))
        except DataError as error:
            pictures.broken = True
            yield SetAside.of(path, error)
    yield from pictures.unspoken()
    yield from beside(kinds, "coco")


def _read_file(pictures: Pictures, file: _File) -> Iterator[Example | SetAside]:
    """Its entries are put on disk first: annotations may stand before their images."""
    _load(file)
    file.entries.sort()
    for fault in file.entries.get(_FAULTS):
        yield SetAside(*json.loads(fault))
    for image in file.entries:
        if image not in (_IMAGES, _FAULTS) and file.ids.get(f"images {image}") is None:
            for place, _ in file.listed("annotations", image):
                yield SetAside(place, f"image_id {image} is in no list of images", "correct it")
    for place, entry in file.listed("images", _IMAGES):
        yield from (entry,) if isinstance(entry, SetAside) else _read_image(pictures, file, place, entry)


def _load(file: _File) -> None:
    parts = set()
    with JsonReader(file.path) as reader:
        if reader.following() != "{":
            reader.pass_over()
            reader.finish()
            raise DataError(file.path, "is no object", "COCO has images, annotations and categories")
        for key in reader.members():
            if key not in ("images", "annotations", "categories"):
                reader.pass_over()
                continue
            if reader.following() != "[":
                raise DataError(file.path, f"{key} is no list", "COCO has lists of images, annotations and categories")
            parts.add(key)
            for index in reader.members():
                _keep(file, str(key), index, *reader.value())
        reader.finish()
    if "images" not in parts:
        raise DataError(file.path, "has no list of images", "COCO has images, annotations and categories")


def _keep(file: _File, part: str, index: int | str, entry: Any, text: str, fault: list[str] | None) -> None:
    """An entry goes to its list, as a fault where it has one: without an id, or whose id is taken, or else unfit."""
    given = entry if isinstance(entry, dict) else {}
    key = _key(given.get("id"))
    if key is None:
        fault = fault or ["an entry without an id", "write a number"]
    elif not file.ids.add(f"{part} {key}", str(index)):
        fault = fault or [f"id {key} is taken by {part}[{file.ids.get(f'{part} {key}')}]"]
    listed = _IMAGES if part == "images" else _key(given.get("image_id")) if part == "annotations" else None
    if listed is not None:
        file.entries.add(listed, f"{index}! {json.dumps(fault)}" if fault else f"{index} {text}")
        return
    if part == "annotations":
        fault = fault or [f"image_id {shown([given.get('image_id')])} is in no list of images", "correct it"]
    if fault:
        file.entries.add(_FAULTS, json.dumps([f"{file.path}: {part}[{index}]", *fault]))
    elif key is not None:
        file.names[key] = str(given.get("name") or "").strip()


def _key(value: Any) -> str | None:
    """An id as JSON, None for what is none: 1 is not "1", nor true."""
    return json.dumps(value) if isinstance(value, int | str) and not isinstance(value, bool) else None


def _read_image(pictures: Pictures, file: _File, place: str, entry: dict[str, Any]) -> Iterator[Example | SetAside]:
    try:
        image = pictures.find(place, str(entry.get("file_name") or ""), file.path)
        size = image_size(image)
        check_size(place, (entry.get("width"), entry.get("height")), size)
    except DataError as error:
        yield SetAside.of(place, error)
        return
    objects, faults = usable(_objects(file, file.listed("annotations", json.dumps(entry["id"])), size))
    yield from faults
    columns = {key: value for key, value in entry.items() if key not in _IMAGE_KEYS and isinstance(value, str)}
    yield pictures.example(image, Label(objects=objects, columns=columns), place, file.path)


def _objects(
    file: _File, annotations: Iterable[tuple[str, dict[str, Any] | SetAside]], size: Size
) -> Iterator[LabelledObject | SetAside]:
    for place, annotation in annotations:
        if isinstance(annotation, SetAside):
            yield annotation
            continue
        try:
            yield _object(file, place, annotation, size)
        except DataError as error:
            yield SetAside.of(place, error)


def _object(file: _File, place: str, annotation: dict[str, Any], size: Size) -> LabelledObject:
    category = annotation.get("category_id")
    name = file.names.get(_key(category) or "")
    if not name:
        known = nearest(_key(category) or "", file.names) if file.names else "the file has no categories"
        raise DataError(place, f"category_id {shown([category])} is no category", known)
    attributes = _attributes(annotation)
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(segmentation, dict):
        return _masked(place, name, segmentation, size, attributes)
    if isinstance(segmentation, list) and segmentation:
        rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
        return several_outlined(place, name, [_ring(place, name, ring) for ring in rings], size, attributes)
    if not box:
        raise DataError(place, f"{name!r} has no bbox and no segmentation", "write bbox: x, y, width, height")
    left, top, width, height = numbers(place, f"{name!r} bbox", box, 4)
    return boxed(place, name, (left, top, left + width, top + height), size, attributes)


def _attributes(annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What the annotation says besides: `attributes` as CVAT and others write them, and further plain keys."""
    given = annotation.get("attributes")
    stated = {key: value for key, value in annotation.items() if key not in _OWN_KEYS and isinstance(value, str | int)}
    if not stated.pop("iscrowd", 0):
        return {**stated, **(given if isinstance(given, dict) else {})}
    return {**stated, **(given if isinstance(given, dict) else {}), "iscrowd": True}


def _ring(place: str, name: str, ring: Any) -> list[tuple[float, float]]:
    """Points from [x1, y1, x2, y2, ...]."""
    flat = numbers(place, f"{name!r} segmentation", ring)
    if len(flat) % 2:
        raise DataError(place, f"{name!r} segmentation of {len(flat)} numbers", "x and y alternate, so it is even")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _masked(place: str, name: str, mask: dict[str, Any], size: Size, attributes: dict[str, Any]) -> LabelledObject:
    """A run-length mask: its bounds as the box, its outlines as polygons."""
    height, width = (int(side) for side in numbers(place, f"{name!r} mask size", mask.get("size"), 2))
    if (width, height) != size:
        raise DataError(place, f"{name!r} mask is {width}x{height}, its image {size[0]}x{size[1]}", "mend its size")
    grid = _decoded(place, name, mask.get("counts"), size)
    down, across = grid.any(axis=1).nonzero()[0], grid.any(axis=0).nonzero()[0]
    if not len(down):
        raise DataError(place, f"{name!r} mask is empty", "remove the annotation")
    corners = (across[0], down[0], across[-1] + 1, down[-1] + 1)
    box: Box = verified_box(place, name, [int(corner) for corner in corners], size)
    return LabelledObject(name, box, {**attributes, **_outlines(place, name, grid, size)})


def _decoded(place: str, name: str, counts: Any, size: Size) -> Any:  # (height, width) of bool
    from supervision import rle_to_mask

    unfit = DataError(place, f"{name!r} mask's counts do not fill {size[0]}x{size[1]}", "write COCO run lengths")
    if isinstance(counts, list):
        runs = numbers(place, f"{name!r} mask's counts", counts)
        if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
            raise unfit
        counts = [int(run) for run in runs]
    elif not isinstance(counts, str):
        raise unfit
    try:
        return rle_to_mask(counts, resolution_wh=size)
    except (ValueError, IndexError, AssertionError, OverflowError) as error:
        raise unfit from error


def _outlines(place: str, name: str, grid: Any, size: Size) -> dict[str, Any]:
    from supervision import mask_to_polygons

    trace: Callable[[Any], list[Any]] = mask_to_polygons
    rings = [ring.tolist() for ring in trace(grid) if len(ring) > 2]
    found = []
    for ring in rings:
        try:
            found.append(outlined(place, name, ring, size, {}).attributes.get("polygon"))
        except DataError:  # a trace of one pixel's width has no area; the box tells of it
            continue
    outlines = sorted(filter(None, found), key=len, reverse=True)
    return {"polygon": outlines[0], **({"polygons": outlines} if len(outlines) > 1 else {})} if outlines else {}
