"""Write scenes as Pascal VOC and texts as JSONL, so that the same loaders read synthetic and real sets."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import SYNTHETIC_MARKER
from datasets_vision.placing import new_folder
from datasets_vision.synthetic.domains import DOMAINS, SIDE, Pictures, Texts
from datasets_vision.synthetic.scene import Scene, SceneObject

IMAGES, BOXES, MASKS, LABELS = "JPEGImages", "Annotations", "SegmentationObject", "labels.csv"
ROWS = "rows.jsonl"
MAX_SIDE = 8192
"""The largest side of a picture, in pixels."""


def write_set(domain: str, folder: Path, count: int, seed: int, size: int | None = None) -> Path:
    """Draw or write a set; the same arguments give the same bytes. Returns the folder.

    Pictures are written as Pascal VOC, texts as rows.jsonl. A marker file states that the set is synthetic, so that
    models trained on it can state it too. Raises `DataError` for an unknown domain, an impossible count, seed or size,
    and if the folder already contains files.
    """
    place = f"synthetic domain {domain!r}"
    if domain not in DOMAINS:
        raise DataError("", f"unknown {place}", nearest(domain, DOMAINS))
    if count < 1:
        raise DataError(place, f"{count} items", "give at least 1")
    if seed < 0:
        raise DataError(place, f"seed {seed} is negative", "give 0 or more")
    if size is not None and size > MAX_SIDE:
        raise DataError(place, f"{size} pixels per side", f"give at most {MAX_SIDE}")
    marker: dict[str, Any] = {"domain": domain, "count": count, "seed": seed}
    with new_folder(folder) as part:
        match DOMAINS[domain]:
            case Texts() if size is not None:
                raise DataError("", f"{place} consists of texts, not pictures", f"leave the size {size} out")
            case Texts() as texts:
                with (part / ROWS).open("w", encoding="utf-8", newline="\n") as file:
                    file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in texts.rows(count, seed))
            case Pictures() as pictures:
                marker["size"] = size or SIDE
                write_voc(part, pictures.scenes(count, seed, marker["size"]))
        (part / SYNTHETIC_MARKER).write_text(json.dumps(marker) + "\n", encoding="utf-8")
    return folder


def write_voc(folder: Path, drawn: Iterable[Scene]) -> None:
    """Write JPEGImages/*.png (lossless), Annotations/*.xml, SegmentationObject/*.png and labels.csv.

    labels.csv has file, class, surface and the scenes' own columns; class is "none" for a good part. An object's
    attributes are written as CVAT writes them.
    """
    for name in (IMAGES, BOXES, MASKS):
        (folder / name).mkdir()
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as table:
        labels = csv.writer(table, lineterminator="\n")
        for index, scene in enumerate(drawn):
            if index == 0:
                labels.writerow(("file", "class", "surface", *scene.columns))
            name = f"scene_{index:05d}"
            Image.fromarray(scene.image).save(folder / IMAGES / f"{name}.png")
            Image.fromarray(scene.mask).save(folder / MASKS / f"{name}.png")
            write_annotation(folder / BOXES / f"{name}.xml", f"{name}.png", scene.image, scene.objects)
            labels.writerow((f"{name}.png", scene.label, scene.surface, *scene.columns.values()))


def write_annotation(file: Path, picture: str, image: NDArray[np.uint8], objects: Iterable[SceneObject]) -> None:
    """Write the XML of one picture (H, W, 3); corners count from 1 and include the last pixel, as in the standard."""
    root = Element("annotation")
    SubElement(root, "filename").text = picture
    size = SubElement(root, "size")
    height, width, depth = image.shape
    for side, pixels in (("width", width), ("height", height), ("depth", depth)):
        SubElement(size, side).text = str(pixels)
    SubElement(root, "segmented").text = "1"
    for obj in objects:
        element = SubElement(root, "object")
        SubElement(element, "name").text = obj.name
        left, top, right, bottom = obj.box
        corners = SubElement(element, "bndbox")
        for corner, pixel in zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom), strict=True):
            SubElement(corners, corner).text = str(pixel)
        attributes = SubElement(element, "attributes") if obj.attributes else element
        for name, value in obj.attributes.items():
            attribute = SubElement(attributes, "attribute")
            SubElement(attribute, "name").text = name
            SubElement(attribute, "value").text = value
    indent(root)
    ElementTree(root).write(file, encoding="utf-8")
