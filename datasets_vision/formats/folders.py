"""Image folders: `class/*.jpg`, or `split/class/*.jpg`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets_vision.example import Example, Label
from datasets_vision.formats.contract import SPLIT_NAMES, SetAside, Source
from datasets_vision.images import IMAGE_SUFFIXES, find_images, image_size, natural_key
from vlm_ft.errors import DataError

_ANNOTATIONS = frozenset({".json", ".jsonl", ".xml", ".txt", ".yaml", ".yml", ".dcm"})
_PROSE = ("readme", "license", "licence", "notice")


def matches(path: Path) -> bool:
    """Images, and no file that may hold the annotations of another format."""
    if not path.is_dir() or next(find_images(path), None) is None:
        return False
    files = (file for file in path.rglob("*") if file.suffix.lower() in _ANNOTATIONS)
    return all(file.name.lower().startswith(_PROSE) for file in files)


def read(source: Source) -> Iterator[Example | SetAside]:
    """The class is the first folder (below the split's, if it has one); deeper folders only sort.

    An image without a class folder is usable only where `image_class` finds its class.
    """
    if not source.path.is_dir():
        raise DataError(f"{source.path}: not a folder of images; give the folder")
    source.require_columns(source.path, source.columns.values(), ())
    for path in sorted(source.path.rglob("*"), key=natural_key):
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
            yield _example(source, path)
        elif path.is_file():
            yield SetAside(str(path), f"not an image by its suffix {path.suffix!r}")


def _example(source: Source, path: Path) -> Example | SetAside:
    relative = path.relative_to(source.path)
    folders = list(relative.parent.parts)
    role = folders.pop(0) if folders and folders[0].lower() in SPLIT_NAMES else None
    if not folders and source.image_class is None:
        return SetAside(str(path), "in no class folder; move it into one, or give image_class")
    try:
        image_size(path)
    except DataError as error:
        return SetAside.of(path, error)
    return Example(
        id=relative.with_suffix("").as_posix(),
        images=(path,),
        label=Label(image_class=folders[0] if folders else None),
        source=str(path),
        role=role,
    )
