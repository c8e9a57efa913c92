"""COCO: one JSON a split with `images`, `annotations` (boxes, polygons, run-length masks) and `categories`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_vision.example import Box, Example, Label, LabelledObject
from datasets_vision.formats.annotation_files import Pictures, beside, check_size, holds, kinds_of
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.json_files import read_json
from datasets_vision.formats.shapes import Size, boxed, numbers, outlined, several_outlined, shown, usable, verified_box
from datasets_vision.images import image_size
from vlm_ft.errors import DataError, nearest

_OWN_KEYS = frozenset({"id", "image_id", "category_id", "bbox", "segmentation", "area", "keypoints", "num_keypoints"})
_IMAGE_KEYS = frozenset({"id", "file_name", "width", "height", "license", "coco_url", "flickr_url", "date_captured"})


@dataclass(frozen=True, slots=True)
class _File:
    """One annotation file: its lists, keyed."""

    path: Path
    images: list[tuple[str, dict[str, Any]]]  # with the place of each
    annotations: dict[Any, list[tuple[str, dict[str, Any]]]]  # by image id
    names: dict[Any, str]  # of the categories


def matches(path: Path) -> bool:
    """A JSON file that begins as COCO does."""
    return holds(path, "coco")


def read(source: Source) -> Iterator[Example | SetAside]:
    """An image that the file lists without annotations has nothing to find; an image in no file is set aside."""
    kinds = kinds_of(source.path)
    files = [file for file, kind in kinds.items() if kind == "coco" or file == source.path]
    if not files:
        raise DataError(f"{source.path}: no COCO JSON below; give the file, or the folder that holds it")
    pictures = Pictures.of(source.path, source.image_folder)
    broken = False
    for path in files:
        try:
            content = read_json(path)
            faults: list[SetAside] = []
            file = _file(path, content, faults)
        except DataError as error:
            broken = True
            yield SetAside.of(path, error)
            continue
        yield from faults
        for place, image in file.images:
            yield from _read_image(pictures, file, place, image)
    if not broken:
        yield from pictures.unspoken()
    yield from beside(kinds, "coco")


def _file(path: Path, content: Any, faults: list[SetAside]) -> _File:
    if not isinstance(content, dict) or not isinstance(content.get("images"), list):
        raise DataError(f"{path}: has no list of images; COCO has images, annotations and categories")
    names = {
        category["id"]: str(category["name"]).strip()
        for _, category in _once(path, content, "categories", faults)
        if category.get("name")
    }
    images = _once(path, content, "images", faults)
    known = {image["id"] for _, image in images}
    annotations: dict[Any, list[tuple[str, dict[str, Any]]]] = defaultdict(list)
    for place, annotation in _once(path, content, "annotations", faults):
        image = annotation.get("image_id")
        if isinstance(image, int | str) and image in known:
            annotations[image].append((place, annotation))
        else:
            faults.append(SetAside(place, f"image_id {shown([image])} is in no list of images; mend it"))
    return _File(path, images, annotations, names)


def _once(path: Path, content: dict[str, Any], part: str, faults: list[SetAside]) -> list[tuple[str, dict[str, Any]]]:
    """The entries of a list, each with its place; one without an id, or whose id is taken, is set aside."""
    found: dict[Any, tuple[str, dict[str, Any]]] = {}
    listed = content.get(part, [])
    if not isinstance(listed, list):
        raise DataError(f"{path}: {part} is no list; COCO has lists of images, annotations and categories")
    for index, entry in enumerate(listed):
        place = f"{path}: {part}[{index}]"
        key = entry.get("id") if isinstance(entry, dict) else None
        if not isinstance(key, int | str) or isinstance(key, bool):
            faults.append(SetAside(place, "an entry without an id; write a number"))
        elif key in found:
            faults.append(SetAside(place, f"id {key} is taken by {found[key][0].removeprefix(f'{path}: ')}"))
        else:
            found[key] = place, entry
    return list(found.values())


def _read_image(pictures: Pictures, file: _File, place: str, entry: dict[str, Any]) -> Iterator[Example | SetAside]:
    try:
        image = pictures.find(place, str(entry.get("file_name") or ""), file.path)
        size = image_size(image)
        check_size(place, (entry.get("width"), entry.get("height")), size)
    except DataError as error:
        yield SetAside.of(place, error)
        return
    objects, faults = usable(_objects(file, file.annotations.get(entry["id"], []), size))
    yield from faults
    columns = {key: value for key, value in entry.items() if key not in _IMAGE_KEYS and isinstance(value, str)}
    yield pictures.example(image, Label(objects=objects, columns=columns), place, file.path)


def _objects(
    file: _File, annotations: list[tuple[str, dict[str, Any]]], size: Size
) -> Iterator[LabelledObject | SetAside]:
    for place, annotation in annotations:
        try:
            yield _object(file, place, annotation, size)
        except DataError as error:
            yield SetAside.of(place, error)


def _object(file: _File, place: str, annotation: dict[str, Any], size: Size) -> LabelledObject:
    category = annotation.get("category_id")
    name = file.names.get(category) if isinstance(category, int | str) else None
    if not name:
        known = nearest(str(category), map(str, file.names)) if file.names else "the file has no categories"
        raise DataError(f"{place}: category_id {shown([category])} is no category; {known}")
    attributes = _attributes(annotation)
    segmentation, box = annotation.get("segmentation"), annotation.get("bbox")
    if isinstance(segmentation, dict):
        return _masked(place, name, segmentation, size, attributes)
    if isinstance(segmentation, list) and segmentation:
        rings = segmentation if isinstance(segmentation[0], list) else [segmentation]
        return several_outlined(place, name, [_ring(place, name, ring) for ring in rings], size, attributes)
    if not box:
        raise DataError(f"{place}: {name!r} has no bbox and no segmentation; write bbox: x, y, width, height")
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
        raise DataError(f"{place}: {name!r} segmentation of {len(flat)} numbers; x and y alternate, so it is even")
    return list(zip(flat[::2], flat[1::2], strict=True))


def _masked(place: str, name: str, mask: dict[str, Any], size: Size, attributes: dict[str, Any]) -> LabelledObject:
    """A run-length mask: its bounds as the box, its outlines as polygons."""
    height, width = (int(side) for side in numbers(place, f"{name!r} mask size", mask.get("size"), 2))
    if (width, height) != size:
        raise DataError(f"{place}: {name!r} mask is {width}x{height}, its image {size[0]}x{size[1]}; mend its size")
    grid = _decoded(place, name, mask.get("counts"), size)
    down, across = grid.any(axis=1).nonzero()[0], grid.any(axis=0).nonzero()[0]
    if not len(down):
        raise DataError(f"{place}: {name!r} mask is empty; remove the annotation")
    corners = (across[0], down[0], across[-1] + 1, down[-1] + 1)
    box: Box = verified_box(place, name, [int(corner) for corner in corners], size)
    return LabelledObject(name, box, {**attributes, **_outlines(place, name, grid, size)})


def _decoded(place: str, name: str, counts: Any, size: Size) -> Any:  # (height, width) of bool
    from supervision import rle_to_mask

    remedy = f"{place}: {name!r} mask's counts do not fill {size[0]}x{size[1]}; write COCO run lengths"
    if isinstance(counts, list):
        runs = numbers(place, f"{name!r} mask's counts", counts)
        if min(runs, default=-1) < 0 or sum(runs) != size[0] * size[1]:
            raise DataError(remedy)
        counts = [int(run) for run in runs]
    elif not isinstance(counts, str):
        raise DataError(remedy)
    try:
        return rle_to_mask(counts, resolution_wh=size)
    except (ValueError, IndexError, AssertionError, OverflowError) as error:
        raise DataError(remedy) from error


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
