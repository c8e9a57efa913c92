"""Photos with a mask of the same size: `a.jpg` beside `a.png`, or `images/a.jpg` and `masks/a.png`.

Reading decodes the masks, since they hold the objects, but not the photos. A mask with values above 127 is binary with
soft edges: 128 and above (in 16 bits, half the maximum) is object. In other masks, values are class numbers.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from datasets_vision.errors import BoxError, DataError, cause
from datasets_vision.example import Example, Label, LabelledObject, normalised_box
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.roles import IMAGE_FOLDERS, role_of_folder, role_of_folders
from datasets_vision.images import image_size
from datasets_vision.walk import IMAGE_SUFFIXES, walk

if TYPE_CHECKING:
    import numpy as np

MIN_AREA = 9
"""Pixels; a smaller component is a stray speck and is set aside."""

_MASK_FOLDERS = ("masks", "mask", "ground_truth", "groundtruth", "gt")
_MODES = frozenset({"1", "L", "P", "I;16"})
_DEFECT_FREE = re.compile(
    r"(?:^|[_\- ])(?:good|ok|free|normal|no|none|healthy|sound|defect-?free)(?:$|[_\- ])", re.IGNORECASE
)
_SERIES = re.compile(r"exp[0-9]+_num_([0-9]+)$")  # one tile in several exposures, with neighbouring numbers
_SERIES_GAP = 200  # in the magnetic tile set, numbers of one tile are 10 to 160 apart, tiles over 1000


@dataclass(frozen=True, slots=True)
class _Set:
    """The images and masks below a folder, distinguished by their names."""

    root: Path
    images: list[Path] = field(default_factory=list)
    masks: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    beside: dict[tuple[Path, str], Path] = field(default_factory=dict)  # folder and stem of the image -> its mask
    parallel: dict[tuple[Path, Path, str], Path] = field(default_factory=dict)
    """(Path above a folder of masks, path below it, stem) -> the mask."""

    @classmethod
    def of(cls, root: Path) -> Self:
        data_set, files = cls(root), list(walk(root))
        photos = {(file.parent, file.stem) for file in files if file.suffix.lower() in IMAGE_SUFFIXES - {".png"}}
        for file in files:
            folders, stem = file.relative_to(root).parts[:-1], file.stem.removesuffix("_mask")
            depth = next((place for place, part in enumerate(folders) if part.lower() in _MASK_FOLDERS), None)
            if file.suffix.lower() not in IMAGE_SUFFIXES:
                data_set.others.append(file)
            elif file.suffix.lower() != ".png":
                data_set.images.append(file)
            elif depth is not None:
                data_set.masks.append(file)
                data_set.parallel.setdefault((Path(*folders[:depth]), Path(*folders[depth + 1 :]), stem), file)
            elif stem != file.stem or (file.parent, stem) in photos:
                data_set.masks.append(file)
                data_set.beside.setdefault((file.parent, stem), file)
            else:
                data_set.images.append(file)
        return data_set

    def mask_of(self, image: Path) -> Path | None:
        """The mask beside an image, else in a folder of masks beside any of the folders that contain the image."""
        if mask := self.beside.get((image.parent, image.stem)):
            return mask
        parts = image.relative_to(self.root).parts[:-1]
        keys = ((Path(*parts[:depth]), Path(*parts[depth + 1 :]), image.stem) for depth in range(len(parts) + 1))
        return next((self.parallel[key] for key in keys if key in self.parallel), None)


def matches(path: Path) -> bool:
    """A photo with a plausible mask: of the photo's size, with few distinct values."""
    data_set = _Set.of(path)
    pairs = ((mask, image) for image in data_set.images if (mask := data_set.mask_of(image)) is not None)
    first = next(pairs, None)
    return first is not None and _looks_like_a_mask(*first)


def read(source: Source) -> Iterator[Example | SetAside]:
    """One object per connected component (eight neighbours), named after its image's class (else "object").

    The class is the first folder that names neither a split nor images. An empty mask means that there are no
    objects, unless the class says otherwise. Pictures such as `exp1_num_7` and `exp2_num_9` show the same tile and form
    a group.
    """
    source.require_columns(source.path, source.columns.values(), ())
    data_set = _Set.of(source.path)
    for file in data_set.others:
        yield SetAside(str(file), f"{file.suffix!r} is not an image suffix")
    series, used = _series(data_set.images), set()
    for image in data_set.images:
        mask = data_set.mask_of(image)
        used.add(mask)
        yield from or_set_aside(image, _example(source.path, image, mask, series))
    for mask in data_set.masks:
        if mask not in used:
            yield SetAside(str(mask), "a mask without its image", "put the image beside it")


def _example(root: Path, path: Path, mask: Path | None, series: list[int]) -> Iterator[Example | SetAside]:
    folders = path.relative_to(root).parent
    named = (part for part in folders.parts if not role_of_folder(part) and part.lower() not in IMAGE_FOLDERS)
    image_class = next(named, None)
    size = image_size(path)
    if mask is None and not (image_class and _DEFECT_FREE.search(image_class)):
        raise DataError(path, "no mask for this image", f"put {path.stem}.png beside it or into masks")
    objects, specks = ((), 0) if mask is None else _objects(mask, size, image_class or "object")
    known: tuple[LabelledObject, ...] | None = objects
    if specks:
        yield SetAside(str(mask), f"specks of fewer than {MIN_AREA} pixels: {specks}")
        known = objects or None
    elif not objects and image_class and not _DEFECT_FREE.search(image_class):
        yield SetAside(
            str(mask), f"an empty mask, though its class is {image_class!r}, so its objects count as unlabelled"
        )
        known = None
    role, group = role_of_folders(folders), _group(path.stem, series)
    yield Example.of_photo(path, root, Label(image_class, known), mask or path, role, group)


def _objects(mask: Path, size: tuple[int, int], name: str) -> tuple[tuple[LabelledObject, ...], int]:
    """The objects in a mask, and the number of specks that were left out."""
    from scipy import ndimage

    values = _values(mask, size)
    width, height = size
    objects: list[LabelledObject] = []
    specks = 0
    for number, kind in _layers(values):
        labels, _ = ndimage.label(kind, [[1, 1, 1]] * 3)
        for label, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
            area = int((labels[rows, columns] == label).sum())
            if area < MIN_AREA:
                specks += 1
                continue
            box = normalised_box(columns.start, rows.start, columns.stop, rows.stop, width, height)
            objects.append(LabelledObject(name, box, {"area": area} | number))
    return tuple(objects), specks


def _layers(values: np.ndarray[Any, Any]) -> Iterator[tuple[dict[str, int], np.ndarray[Any, Any]]]:
    """The attributes and pixels of each class; the attributes are {"value": number} if there are several classes."""
    import numpy as np

    if values.max(initial=0) > 127:
        yield {}, values >= (128 if values.dtype == np.uint8 else (int(values.max()) + 1) // 2)
        return
    kinds = [int(value) for value in np.unique(values) if value]
    for kind in kinds:
        yield {"value": kind} if len(kinds) > 1 else {}, values == kind


def _values(mask: Path, size: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The values of a mask, (height, width); raises DataError if it is unreadable or of another size than `size`."""
    import numpy as np
    from PIL import Image

    stated = image_size(mask)
    if stated != size:
        raise BoxError(
            mask, f"is {stated[0]}x{stated[1]}, but its image is {size[0]}x{size[1]}", "make them the same size"
        )
    try:
        with Image.open(mask) as image:
            values = np.asarray(image if image.mode in _MODES else image.convert("L"))
            return values.astype(np.uint16 if image.mode == "I;16" else np.uint8)
    except (OSError, SyntaxError, ValueError) as error:
        raise BoxError(mask, f"truncated or damaged mask ({cause(error)})", "save it again") from error


def _looks_like_a_mask(mask: Path, image: Path) -> bool:
    import numpy as np
    from PIL import Image

    try:
        values = _values(mask, image_size(image))
        with Image.open(mask) as opened:
            if opened.mode not in _MODES:
                return False
    except (DataError, OSError):
        return False
    counts = np.sort(np.unique(values, return_counts=True)[1])
    return bool(counts[-8:].sum() >= 0.95 * values.size)


def _series(images: Iterable[Path]) -> list[int]:
    """The first number of each series, in ascending order."""
    found = (_SERIES.search(image.stem) for image in images)
    numbers = sorted({int(match[1]) for match in found if match})
    pairs = zip([-math.inf, *numbers], numbers, strict=False)
    return [number for before, number in pairs if number - before > _SERIES_GAP]


def _group(stem: str, series: list[int]) -> str:
    found = _SERIES.search(stem)
    return f"series {series[bisect_right(series, int(found[1])) - 1]}" if found else ""
