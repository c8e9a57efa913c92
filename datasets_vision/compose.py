"""Compose large scenes from real labelled photos: small objects in a wide picture, with exact boxes.

The background is real too: the largest areas of the photos outside all boxes, mirrored and tiled. A scene is a montage:
it has the texture and the defects of real photos, but also seams and repeats that no camera produces. Use results on
scenes only to compare detection strategies; they say nothing about a real plant.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from datasets_vision.dicom import MAX_PIXELS
from datasets_vision.errors import DataError
from datasets_vision.example import Example, box_area
from datasets_vision.images import open_image
from datasets_vision.placing import new_folder
from datasets_vision.synthetic.scene import SceneObject
from datasets_vision.synthetic.writing import write_annotation
from datasets_vision.tiles import Crop, in_pixels

Raster = NDArray[np.uint8]
"""RGB, (height, width, 3)."""

_MIN_SIDE = 32  # pixels of a background or a scene
_BACKGROUND_PHOTOS = 24  # photos searched for backgrounds
_QUALITY = 92  # of the JPEG files
_MAX_SCALE = 100  # largest factor by which a photo may be scaled
_TRIES = 60  # attempts to find a free place before a photo is left out


@dataclass(frozen=True, slots=True)
class ComposedScene:
    """One scene and its objects."""

    image: Raster
    objects: tuple[SceneObject, ...]


def compose(
    examples: Sequence[Example],
    count: int,
    *,
    size: tuple[int, int] = (4000, 3000),
    photos: int = 12,
    scale: tuple[float, float] = (0.4, 1.0),
    seed: int = 0,
) -> Iterator[ComposedScene]:
    """`count` scenes of `size` (width, height), each with up to `photos` separate photos scaled within `scale`.

    Scene i depends only on the seed and i. Raises DataError for invalid settings, if no example has exactly one photo
    and objects, or if a photo is larger than the scene.
    """
    usable = [example for example in examples if len(example.images) == 1 and example.label.objects]
    if not usable:
        raise DataError("compose", "no example has exactly one photo and boxes", "use a recipe with such examples")
    if not 0 < scale[0] <= scale[1] <= _MAX_SCALE:
        remedy = f"give two numbers above 0 and up to {_MAX_SCALE}, the smaller first"
        raise DataError("compose", f"invalid scale range {scale[0]} to {scale[1]}", remedy)
    if min(size) < _MIN_SIDE or size[0] * size[1] > MAX_PIXELS:
        remedy = f"give sides of at least {_MIN_SIDE}, and at most {MAX_PIXELS} pixels in all"
        raise DataError("compose", f"the scene size {size[0]}x{size[1]} is out of range", remedy)
    if seed < 0:
        raise DataError("compose", f"seed {seed} is negative", "give 0 or more")
    grounds = _backgrounds(usable, seed)
    for index in range(count):
        yield _scene(usable, grounds, size, photos, scale, np.random.default_rng((seed, index)))


def write_scenes(folder: Path, scenes: Iterator[ComposedScene]) -> int:
    """Write JPEGImages/*.jpg and Annotations/*.xml (Pascal VOC); returns the number of scenes.

    Raises DataError if the folder already contains files.
    """
    count = 0
    with new_folder(folder) as part:
        for name in ("JPEGImages", "Annotations"):
            (part / name).mkdir()
        for count, scene in enumerate(scenes, 1):
            stem = f"wide_{count:04d}"
            Image.fromarray(scene.image).save(part / "JPEGImages" / f"{stem}.jpg", quality=_QUALITY, subsampling=0)
            write_annotation(part / "Annotations" / f"{stem}.xml", f"{stem}.jpg", scene.image, scene.objects)
    return count


def _scene(
    examples: Sequence[Example],
    grounds: Sequence[Raster],
    size: tuple[int, int],
    photos: int,
    scale: tuple[float, float],
    random: np.random.Generator,
) -> ComposedScene:
    image = _tiled(grounds[int(random.integers(len(grounds)))], size, random)
    taken: list[Crop] = []
    objects: list[SceneObject] = []
    for place in random.permutation(len(examples))[:photos]:
        example = examples[place]
        photo = _scaled(example, float(random.uniform(*scale)), size)
        spot = _free_place(photo.shape[1], photo.shape[0], size, taken, random)
        if spot is None:
            continue
        left, top = spot
        height, width = photo.shape[:2]
        image[top : top + height, left : left + width] = photo
        taken.append((left, top, left + width, top + height))
        objects += _placed(example, left, top, (width, height))
    return ComposedScene(image, tuple(objects))


def _scaled(example: Example, factor: float, size: tuple[int, int]) -> Raster:
    photo = open_image(example.images[0])
    width, height = (max(8, round(side * factor)) for side in photo.size)
    if width > size[0] or height > size[1]:
        problem = f"{width}x{height} does not fit into a scene of {size[0]}x{size[1]}"
        raise DataError(example.source, problem, "scale it down")
    return np.asarray(photo.resize((width, height), Image.Resampling.LANCZOS)).copy()


def _placed(example: Example, left: int, top: int, size: tuple[int, int]) -> Iterator[SceneObject]:
    for obj in example.label.objects or ():
        if obj.box is not None:
            x0, y0, x1, y1 = (round(side) for side in in_pixels(obj.box, size))
            box = (left + x0, top + y0, left + max(x1, x0 + 1), top + max(y1, y0 + 1))
            yield SceneObject(obj.name, box, material="")


def _free_place(
    width: int, height: int, size: tuple[int, int], taken: Sequence[Crop], random: np.random.Generator
) -> tuple[int, int] | None:
    for _ in range(_TRIES):
        left, top = int(random.integers(size[0] - width + 1)), int(random.integers(size[1] - height + 1))
        if all(left >= x1 or left + width <= x0 or top >= y1 or top + height <= y0 for x0, y0, x1, y1 in taken):
            return left, top
    return None


def _backgrounds(examples: Sequence[Example], seed: int) -> list[Raster]:
    """The largest areas without boxes in some photos; if there are none, noise in the mean colour of one photo."""
    random = np.random.default_rng((seed, 0, 0))
    chosen = [examples[place] for place in random.permutation(len(examples))[:_BACKGROUND_PHOTOS]]
    found = []
    for example in chosen:
        photo = np.asarray(open_image(example.images[0]))
        left, top, right, bottom = _free_area(example, photo.shape[1], photo.shape[0])
        if min(right - left, bottom - top) >= _MIN_SIDE:
            found.append(photo[top:bottom, left:right])
    if found:
        return sorted(found, key=lambda ground: -ground.size)[: max(1, len(found) // 2)]
    photo = np.asarray(open_image(chosen[0].images[0]), dtype=float)
    grain = random.normal(photo.mean((0, 1)), photo.std((0, 1)) / 2, (128, 128, 3))
    return [np.clip(grain, 0, 255).astype(np.uint8)]


def _free_area(example: Example, width: int, height: int) -> Crop:
    """The largest area outside all boxes, in pixels: left of them, above, right or below."""
    boxes = [in_pixels(obj.box, (width, height)) for obj in example.label.objects or () if obj.box is not None]
    left, top = (int(min((box[side] for box in boxes), default=0)) for side in (0, 1))
    right, bottom = (ceil(max((box[side] for box in boxes), default=0)) for side in (2, 3))
    areas = [(0, 0, left, height), (0, 0, width, top), (right, 0, width, height), (0, bottom, width, height)]
    return max(areas, key=box_area)


def _tiled(ground: Raster, size: tuple[int, int], random: np.random.Generator) -> Raster:
    """Fill a scene with a background, mirrored at every seam, from a random offset."""
    height, width = ground.shape[:2]
    pair = np.concatenate([ground, ground[:, ::-1]], axis=1)
    block = np.concatenate([pair, pair[::-1]], axis=0)
    rolled = np.roll(block, (int(random.integers(2 * height)), int(random.integers(2 * width))), axis=(0, 1))
    repeats = (-(-size[1] // (2 * height)), -(-size[0] // (2 * width)), 1)
    return np.asarray(np.tile(rolled, repeats)[: size[1], : size[0]]).copy()
