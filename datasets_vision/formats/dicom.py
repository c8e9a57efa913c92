"""Folders of DICOM files: `class/*.dcm`, `split/class/*.dcm`, with `labels.csv` as in image folders.

No tag that may name a person is passed on: ids are hashes of the path, and groups are hashes of the PatientID. These
are only pseudonyms: anyone who knows the paths and the patients can identify them. Only `TAGS` can be used as columns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_vision.dicom import check_window, damaged_tags, frame_count, header, is_dicom, is_grey
from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, Picture, View
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.folders import LabelTable, class_and_role
from datasets_vision.images import image_size
from datasets_vision.walk import walk

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = ("Modality", "BodyPartExamined", "ViewPosition", "Laterality")
"""Tags that `Source.columns` may name: they describe what is shown, not the patient."""

_ROUNDS = 20_000  # of hashing a PatientID, to make trying all short ids slow


def matches(path: Path) -> bool:
    """A folder with a DICOM file somewhere below it."""
    return any(map(is_dicom, walk(path)))


def read(source: Source) -> Iterator[Example | SetAside]:
    """One example per file, or per frame with `frames: each`; the class is the first folder, below a split's if any."""
    table = source.model_copy(update={"columns": {k: v for k, v in source.columns.items() if v not in TAGS}})
    labels = LabelTable.of(table)
    yield from labels.faults
    for path in walk(source.path):
        if is_dicom(path):
            relative = path.relative_to(source.path)
            cells = labels.take(relative) or labels.take(relative.with_suffix(""))
            yield from or_set_aside(path, _examples(source, path, cells))
        elif path != labels.path:
            yield SetAside(str(path), "not a DICOM file")
    yield from labels.unused()


def patient_group(dataset: Dataset) -> str:
    """A pseudonym of the patient, or of the study if there is no PatientID; "" if there is neither."""
    for tag in ("PatientID", "StudyInstanceUID"):
        if value := str(dataset.get(tag) or "").strip():
            return f"{tag.removesuffix('ID').lower()}-{_pseudonym(value)}"
    return ""


def _examples(source: Source, path: Path, cells: dict[str, str]) -> Iterator[Example]:
    """The examples of a file; raises DataError if it cannot be shown, or if its class would name the patient."""
    image_class, role = class_and_role(source, path, cells)
    with damaged_tags(path):
        dataset = header(path)
        image_size(path)
        window = source.window if is_grey(dataset) else None
        if window is not None:
            check_window(path, dataset, window)
        if image_class and _names_person(image_class, dataset):
            raise DataError(path, "its class folder has the patient's name or id", "name folders by class")
        frames = frame_count(path, dataset)
        group = patient_group(dataset)
        tags = {tag: str(dataset.get(tag) or "").strip() for tag in TAGS if tag in source.columns.values()}
    encoded = path.relative_to(source.path).as_posix().encode("utf-8", "surrogateescape")  # same id on every machine
    key = f"scan-{hashlib.sha256(encoded).hexdigest()[:16]}"
    pictures: dict[str, Picture]
    match source.frames:
        case "each":
            pictures = {f"{key}/{frame}": View(path, frame, window) for frame in range(frames)}
        case "middle":
            pictures = {key: View(path, frames // 2, window)}
        case "first":
            pictures = {key: path if window is None else View(path, 0, window)}
    label = Label(image_class, columns={**cells, **tags})
    for name, picture in pictures.items():
        yield Example(name, images=(picture,), label=label, group=group or key, source=str(path), role=role)


def _names_person(name: str, dataset: Dataset) -> bool:
    """Whether a folder is named after the patient, as in exports by patient; the name must not become a class."""
    written = _letters(name)
    if (number := _letters(str(dataset.get("PatientID") or ""))) and number == written:
        return True
    names = [_letters(word) for word in re.split(r"[\^=\s]+", str(dataset.get("PatientName") or ""))]
    family = next((part for part in names if len(part) > 1), "")
    return bool(family) and family in written and all(part in written for part in names)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


@lru_cache(maxsize=1 << 16)
def _pseudonym(value: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", value.encode(), b"vlm_ft patient group", _ROUNDS).hex()[:16]
