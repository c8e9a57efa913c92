"""Photos with a mask of the same size: `a.jpg` beside `a.png`, or `images/a.jpg` and `masks/a.png`.

Masks are decoded while reading, since they hold the objects; photos are not. A mask with values above 127 is binary
with soft edges: 128 and above (in 16 bits, half the maximum) is object. In other masks, values are class numbers.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.errors import BoxError, DataError, cause
from datasets_vision.example import Example, Label, LabelledObject, normalised_box
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.roles import role_of_folder, role_of_folders
from datasets_vision.images import IMAGE_SUFFIXES, image_size
from datasets_vision.walk import walk

if TYPE_CHECKING:
    import numpy as np

MIN_AREA = 9
"""Pixels; a smaller component is a stray speck and is set aside."""

_MASK_FOLDERS = ("masks", "mask", "ground_truth", "groundtruth", "gt")
_IMAGE_FOLDERS = frozenset({"images", "imgs", "image", "img", "photos", "jpegimages"})
_MODES = frozenset({"1", "L", "P", "I;16"})
_DEFECT_FREE = re.compile(
    r"(?:^|[_\- ])(?:good|ok|free|normal|no|none|healthy|sound|defect-?free)(?:$|[_\- ])", re.IGNORECASE
)
_SERIES = re.compile(r"exp[0-9]+_num_([0-9]+)$")  # one tile in several exposures, with neighbouring numbers
_SERIES_GAP = 200  # in the magnetic tile set, numbers of one tile are 10 to 160 apart, tiles over 1000


def matches(path: Path) -> bool:
    """A photo with a plausible mask: of the photo's size, with few distinct values."""
    if not path.is_dir():
        return False
    mask_of.cache_clear()
    for image in walk(path):
        if image.suffix.lower() in IMAGE_SUFFIXES and (mask := mask_of(path, image)) is not None:
            return _looks_like_a_mask(mask, image)
    return False


def read(source: Source) -> Iterator[Example | SetAside]:
    """One object per connected component (eight neighbours), named after its image's class (else "object").

    The class is the first folder that names neither a split nor images. An empty mask means that there are no
    objects, unless the class says otherwise. Pictures such as `exp1_num_7` and `exp2_num_9` show the same tile and form
    a group.
    """
    if not source.path.is_dir():
        raise DataError(source.path, "not a folder of images and masks", "give the folder")
    source.require_columns(source.path, source.columns.values(), ())
    mask_of.cache_clear()
    series = _series(source.path)
    for path in walk(source.path):
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            yield SetAside(str(path), f"{path.suffix!r} is not an image suffix")
        elif not _is_mask(source.path, path):
            yield from _example(source.path, path, series)
        elif not _has_image(source.path, path):
            yield SetAside(str(path), "a mask without its image", "put the image beside it")


@lru_cache(maxsize=4096)
def mask_of(root: Path, image: Path) -> Path | None:
    """The file with an image's mask, found by its name; None if there is none."""
    if _is_mask(root, image):
        return None
    names = (f"{image.stem}.png", f"{image.stem}_mask.png")
    beside = [image.with_name(name) for name in names]
    parts = image.parent.relative_to(root).parts
    for depth in range(len(parts) + 1):
        above, below = root.joinpath(*parts[:depth]), parts[depth + 1 :]
        for folder in _mask_folders(above):
            beside += [folder.joinpath(*below, name) for name in names]
    return next((mask for mask in beside if mask != image and mask.is_file()), None)


@lru_cache(maxsize=256)
def _mask_folders(folder: Path) -> tuple[Path, ...]:
    return tuple(folder / name for name in _MASK_FOLDERS if (folder / name).is_dir())


def _is_mask(root: Path, path: Path) -> bool:
    """Whether a file is a mask, by name alone: in a mask folder, called a mask, or beside a photo of another format."""
    if path.suffix.lower() != ".png":
        return False
    folders = {part.lower() for part in path.relative_to(root).parts[:-1]}
    if path.stem.endswith("_mask") or folders & set(_MASK_FOLDERS):
        return True
    return any(photo != path for photo in _beside(path, path.stem))


def _beside(path: Path, stem: str) -> Iterator[Path]:
    for suffix in sorted(IMAGE_SUFFIXES - {".png"}):
        for written in (suffix, suffix.upper()):
            if (photo := path.with_name(stem + written)).is_file():
                yield photo


def _has_image(root: Path, mask: Path) -> bool:
    """Whether a mask has its image, beside it or in a folder parallel to the mask's."""
    stem = mask.stem.removesuffix("_mask")
    if next(_beside(mask, stem), None) or (stem != mask.stem and mask.with_name(f"{stem}.png").is_file()):
        return True
    parts = mask.parent.relative_to(root).parts
    place = next((number for number, part in enumerate(parts) if part.lower() in _MASK_FOLDERS), None)
    if place is None:
        return False
    above, below = root.joinpath(*parts[:place]), parts[place + 1 :]
    folders = [above.joinpath(*below)]
    folders += [
        folder.joinpath(*below) for folder in above.iterdir() if folder.is_dir() and folder.name != parts[place]
    ]
    return any(
        (folder / f"{stem}.png").is_file() or next(_beside(folder / mask.name, stem), None) is not None
        for folder in folders
    )


def _example(root: Path, path: Path, series: array[int]) -> Iterator[Example | SetAside]:
    image_class, role = _folders(root, path)
    mask = mask_of(root, path)
    try:
        size = image_size(path)
        if mask is None and not (image_class and _DEFECT_FREE.search(image_class)):
            raise DataError(path, "no mask for this image", f"put {path.stem}.png beside it or into masks")
        objects, specks = ((), 0) if mask is None else _objects(mask, size, image_class or "object")
    except DataError as error:
        yield SetAside.of(path, error)
        return
    known: tuple[LabelledObject, ...] | None = objects
    if specks:
        yield SetAside(str(mask), f"specks of less than {MIN_AREA} pixels: {specks}")
        known = objects or None
    elif not objects and image_class and not _DEFECT_FREE.search(image_class):
        yield SetAside(str(mask), f"an empty mask, though its class is {image_class!r}: its objects are unlabelled")
        known = None
    relative = path.relative_to(root)
    yield Example(
        id=relative.with_suffix("").as_posix(),
        images=(path,),
        label=Label(image_class=image_class, objects=known),
        group=_group(path.stem, series),
        source=str(mask or path),
        role=role,
    )


def _folders(root: Path, path: Path) -> tuple[str | None, str | None]:
    """(class, role) from the folders; each is None if no folder states it."""
    folders = path.relative_to(root).parent
    named = (part for part in folders.parts if not role_of_folder(part) and part.lower() not in _IMAGE_FOLDERS)
    return next(named, None), role_of_folders(folders)


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


def _series(root: Path) -> array[int]:
    """The first number of each series, in ascending order."""
    found = (_SERIES.search(path.stem) for path in walk(root))
    numbers = array("q", sorted({int(match[1]) for match in found if match and len(match[1]) < 18}))
    return array("q", (number for place, number in enumerate(numbers) if _starts_series(numbers, place)))


def _starts_series(numbers: array[int], place: int) -> bool:
    return place == 0 or numbers[place] - numbers[place - 1] > _SERIES_GAP


def _group(stem: str, series: array[int]) -> str:
    found = _SERIES.search(stem)
    if found is None or len(found[1]) >= 18:
        return ""
    return f"series {series[bisect_right(series, int(found[1])) - 1]}"
