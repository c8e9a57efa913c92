"""Write scenes as Pascal VOC and texts as JSONL, so that the same loaders read synthetic and real sets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from PIL import Image

from datasets_vision.errors import DataError
from datasets_vision.example import SYNTHETIC_MARKER
from datasets_vision.placing import new_folder
from datasets_vision.synthetic.domains import DOMAINS, Pictures, Texts
from datasets_vision.synthetic.scene import Scene

IMAGES, BOXES, MASKS, LABELS = "JPEGImages", "Annotations", "SegmentationObject", "labels.csv"
ROWS = "rows.jsonl"
SIDE, MAX_SIDE = 192, 8192
"""Pixels of a picture's side: the default, and the limit."""


def scenes(domain: str, count: int, seed: int, size: int = SIDE) -> Iterator[Scene]:
    """`count` scenes; all classes, including good parts, are requested equally often.

    Scene i depends only on the seed and i. Raises `DataError` for a domain of texts.
    """
    drawn = _domain(domain)
    if not isinstance(drawn, Pictures):
        raise DataError("", f"synthetic domain {domain!r} consists of texts, not pictures", "it has no scenes")
    for index in range(count):
        yield drawn.scene(np.random.default_rng((seed, index)), size, drawn.classes[index % len(drawn.classes)])


def rows(domain: str, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """`count` rows of a domain of texts, each a JSON object; row i depends only on the seed and i."""
    written = _domain(domain)
    if not isinstance(written, Texts):
        raise DataError("", f"synthetic domain {domain!r} consists of pictures, not texts", "it has no rows")
    for index in range(count):
        yield written.row(np.random.default_rng((seed, index)), index)


def write_set(domain: str, folder: Path, count: int, seed: int, size: int | None = None) -> Path:
    """Draw or write a set; the same arguments give the same bytes. Returns the folder.

    Pictures are written as Pascal VOC, texts as rows.jsonl. A marker file says that the set is synthetic, so that
    models trained on it can say so too. Raises `DataError` for an unknown domain, or if the folder already contains
    files.
    """
    marker: dict[str, Any] = {"domain": domain, "count": count, "seed": seed}
    if seed < 0:
        raise DataError(f"synthetic domain {domain!r}", f"seed {seed}", "give 0 or more")
    if size is not None and isinstance(_domain(domain), Texts):
        raise DataError(
            "", f"synthetic domain {domain!r} consists of texts, not pictures", f"leave the size {size} out"
        )
    size = size or SIDE
    if size > MAX_SIDE:
        raise DataError(f"synthetic domain {domain!r}", f"{size} pixels per side", f"give at most {MAX_SIDE}")
    with new_folder(folder) as part:
        if isinstance(_domain(domain), Texts):
            write_rows(part, rows(domain, count, seed))
        else:
            write_voc(part, scenes(domain, count, seed, size))
            marker["size"] = size
        (part / SYNTHETIC_MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
    return folder


def _domain(name: str) -> Pictures | Texts:
    if name not in DOMAINS:
        raise DataError("", f"unknown synthetic domain {name!r}", f"known: {', '.join(DOMAINS)}")
    return DOMAINS[name]


def write_rows(folder: Path, written: Iterable[dict[str, Any]]) -> Path:
    """Write rows.jsonl, one JSON object per line. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ROWS).open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in written)
    return folder


def write_voc(folder: Path, drawn: Iterable[Scene], stem: str = "scene") -> Path:
    """Write JPEGImages/*.png (lossless), Annotations/*.xml, SegmentationObject/*.png and labels.csv.

    labels.csv has file, class, surface and the scenes' own columns; class is "none" for a good part. An object's
    attributes are written as CVAT writes them. Returns the folder.
    """
    first, drawn = _peeked(drawn)
    for name in (IMAGES, BOXES, MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as table:
        labels = csv.writer(table, lineterminator="\n")
        labels.writerow(("file", "class", "surface", *first.columns))
        for index, scene in enumerate(drawn):
            name = f"{stem}_{index:05d}"
            Image.fromarray(scene.image).save(folder / IMAGES / f"{name}.png")
            Image.fromarray(scene.mask).save(folder / MASKS / f"{name}.png")
            annotation(f"{name}.png", scene).write(folder / BOXES / f"{name}.xml", encoding="utf-8")
            labels.writerow((f"{name}.png", scene.label, scene.surface, *scene.columns.values()))
    return folder


def _peeked(drawn: Iterable[Scene]) -> tuple[Scene, Iterator[Scene]]:
    """The first scene, for the header of the table, and all scenes."""
    scenes = iter(drawn)
    first = next(scenes, None)
    if first is None:
        raise DataError("", "a synthetic set without scenes", "ask for at least one")
    return first, chain((first,), scenes)


def annotation(filename: str, scene: Scene) -> ElementTree[Element]:
    """The XML of one picture; corners count from 1 and include the last pixel, as in the standard."""
    root = Element("annotation")
    SubElement(root, "filename").text = filename
    size = SubElement(root, "size")
    for side, pixels in zip(("width", "height", "depth"), (*scene.mask.shape[::-1], 3), strict=True):
        SubElement(size, side).text = str(pixels)
    SubElement(root, "segmented").text = "1"
    for obj in scene.objects:
        element = SubElement(root, "object")
        SubElement(element, "name").text = obj.name
        left, top, right, bottom = obj.box
        corners = SubElement(element, "bndbox")
        for corner, pixel in zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom), strict=True):
            SubElement(corners, corner).text = str(pixel)
        if obj.attributes:
            _write_attributes(SubElement(element, "attributes"), obj.attributes)
    indent(root)
    return ElementTree(root)


def _write_attributes(parent: Element, attributes: Mapping[str, str]) -> None:
    for name, value in attributes.items():
        attribute = SubElement(parent, "attribute")
        SubElement(attribute, "name").text = name
        SubElement(attribute, "value").text = value
