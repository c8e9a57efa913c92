"""Folders of DICOM files: `class/*.dcm`, `split/class/*.dcm`, with `labels.csv` as in image folders.

No tag that may name a person is passed on: ids are hashes of the path, and groups are hashes of the PatientID. These
are only pseudonyms: anyone who knows the paths and the patients can identify them. Only `TAGS` can be used as columns.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_vision.dicom import check_window, damaged_tags, frame_count, header, is_dicom, is_grey
from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, Picture, View, Window
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.folders import LABELS, Labels
from datasets_vision.formats.roles import role_and_folders
from datasets_vision.images import image_size
from datasets_vision.walk import walk

if TYPE_CHECKING:
    from pydicom import Dataset

TAGS = ("Modality", "BodyPartExamined", "ViewPosition", "Laterality")
"""Tags that `Source.columns` may name: they describe what is shown, not the patient."""

_ROUNDS = 20_000  # of hashing a PatientID, to make trying all short ids slow


def matches(path: Path) -> bool:
    """A folder with a DICOM file somewhere below it."""
    return path.is_dir() and any(is_dicom(file) for file in walk(path))


def read(source: Source) -> Iterator[Example | SetAside]:
    """One example per file, or per frame with `frames: each`; the class is the first folder, below a split's if any."""
    if not source.path.is_dir():
        raise DataError(source.path, "not a folder of DICOM files", "give the folder")
    table = source.model_copy(update={"columns": {k: v for k, v in source.columns.items() if v not in TAGS}})
    labels = Labels.of(table)
    yield from labels.faults
    for path in walk(source.path):
        if is_dicom(path):
            relative = path.relative_to(source.path)
            yield from _examples(source, path, labels.take(relative) or labels.take(relative.with_suffix("")))
        elif path != labels.path:
            yield SetAside(str(path), "not a DICOM file")
    yield from labels.left()


def patient_group(dataset: Dataset) -> str:
    """A pseudonym of the patient, or of the study if there is no PatientID; "" if there is neither."""
    for tag in ("PatientID", "StudyInstanceUID"):
        if value := str(dataset.get(tag) or "").strip():
            return f"{tag.removesuffix('ID').lower()}-{_pseudonym(value)}"
    return ""


def _examples(source: Source, path: Path, cells: dict[str, str]) -> Iterator[Example | SetAside]:
    relative = path.relative_to(source.path)
    role, folders = role_and_folders(relative.parent)
    if not folders and not cells and source.image_class is None:
        yield SetAside(str(path), "not in a class folder", f"move it into one, or give image_class or {LABELS}")
        return
    try:
        facts = _facts(source, path, folders[0] if folders else "")
    except DataError as error:
        yield SetAside.of(path, error)
        return
    written = cells.pop("class", "") if not folders else ""
    label = Label(folders[0] if folders else written or None, columns={**cells, **facts.columns})
    encoded = relative.as_posix().encode("utf-8", "surrogateescape")  # the same id on every machine
    key = f"scan-{hashlib.sha256(encoded).hexdigest()[:16]}"
    for frame, picture in _pictures(source, path, facts):
        name = key if frame is None else f"{key}/{frame}"
        yield Example(name, images=(picture,), label=label, group=facts.group or key, source=str(path), role=role)


@dataclass(frozen=True, slots=True)
class _Facts:
    """The facts read from a file's tags."""

    frames: int
    window: Window | None
    group: str
    columns: dict[str, str]


def _facts(source: Source, path: Path, folder: str) -> _Facts:
    """Read a file's facts; raises DataError if it cannot be shown, or if its class `folder` names the patient."""
    with damaged_tags(path):
        dataset = header(path)
        image_size(path)
        window = source.window if is_grey(dataset) else None
        if window is not None:
            check_window(path, dataset, window)
        if folder and _names_person(folder, dataset):
            raise DataError(path, "its class folder has the patient's name or id", "name folders by class")
        return _Facts(frame_count(path, dataset), window, patient_group(dataset), _tags(source, dataset))


def _pictures(source: Source, path: Path, facts: _Facts) -> Iterator[tuple[int | None, Picture]]:
    """(frame, picture); the frame is None if a file gives one example."""
    match source.frames:
        case "each":
            return ((frame, View(path, frame, facts.window)) for frame in range(facts.frames))
        case "middle":
            return iter([(None, View(path, facts.frames // 2, facts.window))])
        case _:
            return iter([(None, path if facts.window is None else View(path, 0, facts.window))])


def _tags(source: Source, dataset: Dataset) -> dict[str, str]:
    asked = [tag for tag in TAGS if tag in source.columns.values()]
    return {tag: str(dataset.get(tag) or "").strip() for tag in asked}


def _names_person(folder: str, dataset: Dataset) -> bool:
    """Whether a folder is named after the patient, as in exports by patient; such a name must not become a class."""
    written = _letters(folder)
    if (number := _letters(str(dataset.get("PatientID") or ""))) and number == written:
        return True
    names = [_letters(word) for word in re.split(r"[\^=\s]+", str(dataset.get("PatientName") or ""))]
    family = next((name for name in names if len(name) > 1), "")
    return bool(family) and family in written and all(name in written for name in names)


def _letters(text: str) -> str:
    return "".join(letter for letter in text.casefold() if letter.isalnum())


@lru_cache(maxsize=1 << 16)
def _pseudonym(value: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", value.encode(), b"vlm_ft patient group", _ROUNDS).hex()[:16]
