"""Recognise the files of the annotation formats, and find the images that they annotate."""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import takewhile
from pathlib import Path, PureWindowsPath
from typing import Any

from datasets_vision.errors import DataError, ImageError
from datasets_vision.example import Example, Label
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.roles import role_of_folders, role_of_stem
from datasets_vision.formats.text_files import head_of
from datasets_vision.walk import IMAGE_SUFFIXES, UNREAD_SUFFIXES, files_of, folded, walk

KeyPath = tuple[str, ...]
"""A key preceded by the keys that lead to it; "[]" marks a list."""

_ANNOTATION_FOLDERS = frozenset({"annotations", "labels", "json", "jsons"})
_COCO = {
    ("annotations", "[]", "category_id"),
    ("annotations", "[]", "bbox"),
    ("annotations", "[]", "segmentation"),
    ("images", "[]", "file_name"),
    ("categories", "[]", "supercategory"),
}
_LABEL_STUDIO = {("[]", "annotations"), ("[]", "predictions"), ("[]", "completions")}
_MAX_SAMPLED = 8  # files read per folder to recognise its format
_DEPTH = 5
_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*+)(?:"|\Z)(\s*:)?|[{}\[\]]', re.DOTALL)


def has_kind(path: Path, kind: str) -> bool:
    """Whether a JSON file at or below `path` is of this kind; only the first few of each folder are checked."""
    seen: Counter[Path] = Counter()
    for file in files_of(path, ".json"):
        seen[file.parent] += 1
        if seen[file.parent] <= _MAX_SAMPLED and json_kind(file) == kind:
            return True
    return False


@lru_cache(maxsize=4096)
def _key_paths(path: Path, _changed: int, _size: int) -> frozenset[KeyPath]:
    """The key paths in the first part of a JSON file, which is not parsed as a whole."""
    found: set[KeyPath] = set()
    lead: list[str] = []  # for each open container: "[]" for a list, else the last key read
    for token in _TOKEN.finditer(head_of(path)):
        match token[0][0]:
            case "{" | "[" as opening:
                lead.append("[]" if opening == "[" else "")
            case "}" | "]":
                if lead:
                    lead.pop()
            case _ if token[2] and lead and len(lead) <= _DEPTH:
                lead[-1] = token[1]
                found.add(tuple(lead))
    return frozenset(found)


def json_kind(path: Path) -> str | None:
    """Which annotation format a JSON file has, by the keys in its first part."""
    status = path.stat()
    keys = _key_paths(path, status.st_mtime_ns, status.st_size)
    if not _COCO.isdisjoint(keys):
        return "coco"
    if {("shapes",), ("imagePath",)} <= keys or ("shapes", "[]", "points") in keys:
        return "labelme"
    if ("[]", "data") in keys and not _LABEL_STUDIO.isdisjoint(keys):
        return "label_studio"
    if ("_via_img_metadata",) in keys or {key[1] for key in keys if len(key) == 2} >= {"filename", "regions"}:
        return "via"
    return None


def sorted_by_kind(path: Path, *read: str | None) -> tuple[list[Path], list[SetAside]]:
    """The JSON files of the kinds to read, or the one given as the path; those of other kinds are set aside."""
    kinds = {file: json_kind(file) for file in files_of(path, ".json")}
    files = [file for file, kind in kinds.items() if kind in read or file == path]
    others = [
        SetAside(
            str(file), f"contains {kind} annotations, but the set was read as {read[0]}", "give this file as the path"
        )
        for file, kind in kinds.items()
        if kind not in (None, *read)
    ]
    return files, others


@dataclass(slots=True)
class Pictures:
    """The images of a set: finds those that annotations name, and reports those that no annotation names."""

    root: Path
    found: dict[str, Path]  # by normalised path, in natural order
    named: dict[str, list[Path]]  # by name and by stem, folded
    referenced: set[Path] = field(default_factory=set)
    broken: bool = False
    """An annotation file could not be read, so it is unknown which images it names."""

    @classmethod
    def of(cls, path: Path, folder: Path | None = None) -> Pictures:
        """The images below `folder`; by default the set's folder, or its parent if it has annotations and no images.

        Raises DataError if `folder` does not exist.
        """
        if folder is not None and not folder.is_dir():
            raise DataError(folder, "no such folder of images", "correct image_folder")
        root = folder or (path if path.is_dir() else path.parent)
        in_parent = folder is None and root.name.lower() in _ANNOTATION_FOLDERS
        if in_parent and next(walk(root, IMAGE_SUFFIXES), None) is None:
            root = Path(os.path.normpath(root / ".."))
        named: dict[str, list[Path]] = defaultdict(list)
        found = {os.path.normpath(image): image for image in walk(root, IMAGE_SUFFIXES)}
        for image in found.values():
            named[folded(image.name)].append(image)
            named[folded(image.stem)].append(image)
        return cls(root, found, named)

    def find(self, name: str, annotation: Path) -> Path:
        """Find an image by its path from the annotation's folder or the root, else the nearest with that name or stem.

        Images with another role than the annotation's are ignored. Raises DataError, without a place, if none is found,
        or if several are equally near.
        """
        if not name.strip():
            raise DataError("", "names no image", "write its file name")
        written = PureWindowsPath(name.strip())
        for folder in (annotation.parent, self.root):
            exact = self.found.get(os.path.normpath(folder / written.as_posix()))
            if exact is not None:
                return self._mark_named(exact)
        by_name = self.named.get(folded(written.name)) or self.named.get(folded(written.stem), [])
        role = self.role(None, annotation)
        fitting = [image for image in by_name if role is None or self.role(image) in (None, role)]
        nearness = {image: _nearness(image, written, annotation) for image in fitting}
        best = max(nearness.values(), default=None)
        nearest = [image for image in fitting if nearness[image] == best]
        if not nearest:
            raise missing_image(name.strip(), "put it beside the annotations")
        if len(nearest) > 1:
            problem = f"{written.name!r} is ambiguous: {nearest[0]} or {nearest[1]}"
            raise DataError("", problem, "write the image's path")
        return self._mark_named(nearest[0])

    def role(self, image: Path | None, annotation: Path | None = None) -> str | None:
        """The role as the source writes it, from the image's folders, else from the annotation's folders or name."""
        for path in filter(None, (image, annotation)):
            if stated := role_of_folders(Path(os.path.relpath(path.parent, self.root))):
                return stated
        return role_of_stem(annotation.stem) if annotation else None

    def example(self, image: Path, label: Label, place: str, annotation: Path, role: str | None = None) -> Example:
        """An example of one image, with the given or detected role; its id is the image's path without the suffix."""
        return Example.of_photo(image, self.root, label, place, role or self.role(image, annotation))

    def unreferenced(self) -> Iterator[SetAside]:
        """Set aside the images that `find` never returned, unless a broken file may have named them."""
        yield from unread_photos(self.root)
        for image in () if self.broken else self.found.values():
            if image not in self.referenced:
                yield SetAside(str(image), "no annotation for this image")

    def _mark_named(self, image: Path) -> Path:
        self.referenced.add(image)
        return image


def read_files(
    source: Source,
    files: Sequence[Path],
    title: str,
    read: Callable[[Pictures, Path], Iterator[Example | SetAside]],
) -> Iterator[Example | SetAside]:
    """The examples that `read` finds in each annotation file, then the images that no file names.

    A file for which `read` raises DataError is set aside. Raises DataError if there are no files; `title` names them.
    """
    if not files:
        raise DataError(source.path, f"no {title} found", "give the file, or the folder that contains it")
    pictures = Pictures.of(source.path, source.image_folder)
    for path in files:
        try:
            yield from read(pictures, path)
        except DataError as error:
            pictures.broken = True
            yield SetAside.of(path, error)
    yield from pictures.unreferenced()


def missing_image(name: str, remedy: str) -> ImageError:
    """The error for an annotation whose image is missing, or is of a kind that is not read."""
    if PureWindowsPath(name).suffix.lower() in UNREAD_SUFFIXES:
        remedy = "convert it to JPEG or PNG, under the same name"
    return ImageError("", f"its image {name[:120]!r} is missing", remedy)


def unread_photos(root: Path) -> Iterator[SetAside]:
    """Set aside the photos of kinds that are not read."""
    for file in walk(root, UNREAD_SUFFIXES):
        yield SetAside(str(file), f"{file.suffix!r} is not an image suffix", "convert the photo to JPEG or PNG")


def check_size(stated: tuple[Any, Any], size: tuple[int, int]) -> None:
    """Raise DataError, without a place, if a size is stated and differs from the image's."""
    try:
        width, height = (int(float(side or 0)) for side in stated)
    except (TypeError, ValueError, OverflowError):
        return
    if width > 0 and height > 0 and (width, height) != size:
        remedy = "correct the size and the boxes"
        if (height, width) == size:
            remedy = "if its EXIF orientation rotates it, save it upright and draw the boxes again"
        raise DataError("", f"states {width}x{height}, but its image is {size[0]}x{size[1]}", remedy)


def _nearness(image: Path, written: PureWindowsPath, annotation: Path) -> tuple[int, int]:
    """How many of the last parts match the written path, and how many folders are shared with the annotation."""
    fit = _common_length(image.parts[::-1], written.parts[::-1])
    return fit, _common_length(image.parent.parts, annotation.parent.parts)


def _common_length(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """The length of the common prefix."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
