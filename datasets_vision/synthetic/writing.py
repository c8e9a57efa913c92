"""Write scenes as a Pascal VOC set, so that drawn and real pictures are read by the same loader."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal
from xml.etree.ElementTree import Element, ElementTree, SubElement, indent

import numpy as np
from PIL import Image

from datasets_vision.example import SYNTHETIC_MARKER
from datasets_vision.synthetic.objects import OBJECTS, object_scene
from datasets_vision.synthetic.scene import GOOD, Scene
from datasets_vision.synthetic.surfaces import KINDS, World, surface_scene
from vlm_ft.errors import DataError

Domain = Literal["product_defects", "object_identification"]
IMAGES, BOXES, MASKS, LABELS = "JPEGImages", "Annotations", "SegmentationObject", "labels.csv"


def scenes(domain: Domain, count: int, seed: int, world: World, size: int = 192) -> Iterator[Scene]:
    """`count` scenes in which every class comes as often as any other, good parts included.

    Scene i depends on the seed and i alone.
    """
    draw, names = {
        "product_defects": (surface_scene, [GOOD, *KINDS[world]]),
        "object_identification": (object_scene, [*OBJECTS[world]]),
    }[domain]
    for index in range(count):
        yield draw(np.random.default_rng((seed, index)), size, world, names[index % len(names)])


def write_set(domain: Domain, folder: Path, count: int, seed: int, world: World, size: int = 192) -> Path:
    """Draw and write a set; the same arguments give the same bytes. Returns the folder.

    A marker file says that these are drawings, so that what learns from them says so too. Raises `DataError`
    where the folder holds files already.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; give a new folder, or remove it first")
    write_voc(folder, scenes(domain, count, seed, world, size))
    drawn = {"domain": domain, "count": count, "seed": seed, "world": world, "size": size}
    (folder / SYNTHETIC_MARKER).write_text(json.dumps(drawn) + "\n", encoding="utf-8")
    return folder


def write_voc(folder: Path, drawn: Iterable[Scene], stem: str = "scene") -> Path:
    """Write JPEGImages/*.png (lossless), Annotations/*.xml, SegmentationObject/*.png and labels.csv.

    labels.csv has file, class and surface; class is "none" for a good part. Returns the folder.
    """
    for name in (IMAGES, BOXES, MASKS):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table, lineterminator="\n")
        rows.writerow(("file", "class", "surface"))
        for index, scene in enumerate(drawn):
            name = f"{stem}_{index:05d}"
            Image.fromarray(scene.image).save(folder / IMAGES / f"{name}.png")
            Image.fromarray(scene.mask).save(folder / MASKS / f"{name}.png")
            annotation(f"{name}.png", scene).write(folder / BOXES / f"{name}.xml", encoding="utf-8")
            rows.writerow((f"{name}.png", scene.label, scene.surface))
    return folder


def annotation(filename: str, scene: Scene) -> ElementTree[Element]:
    """The XML of one picture; corners count from 1 and include the last pixel, as the standard does."""
    root = Element("annotation")
    SubElement(root, "filename").text = filename
    size = SubElement(root, "size")
    for side, pixels in zip(("width", "height", "depth"), (*scene.mask.shape[::-1], 3), strict=True):
        SubElement(size, side).text = str(pixels)
    SubElement(root, "segmented").text = "1"
    for thing in scene.objects:
        element = SubElement(root, "object")
        SubElement(element, "name").text = thing.name
        left, top, right, bottom = thing.box
        corners = SubElement(element, "bndbox")
        for corner, pixel in zip(("xmin", "ymin", "xmax", "ymax"), (left + 1, top + 1, right, bottom), strict=True):
            SubElement(corners, corner).text = str(pixel)
    indent(root)
    return ElementTree(root)
