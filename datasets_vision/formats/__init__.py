"""The annotation formats that can be read, one module each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.formats import (
    chat,
    coco,
    cvat,
    dialogues,
    dicom,
    folders,
    huggingface,
    label_studio,
    labelme,
    masks,
    multiple_choice,
    pairs,
    parquet,
    preferences,
    records,
    reviews,
    spans,
    tables,
    via,
    voc,
    yolo,
)
from datasets_vision.formats.annotation_files import has_kind
from datasets_vision.formats.contract import Format
from datasets_vision.formats.drafts import Drafting, json_drafts
from datasets_vision.formats.json_files import first_objects
from datasets_vision.walk import IMAGE_SUFFIXES, UNREAD_SUFFIXES, skipped_folders, suffix_of, walk, walked_once

_ROWS = frozenset({"text", "image"})
_FOLDER = frozenset({"image_folder"})


def _json_records(is_one: Callable[[dict[str, Any]], object], draft: Drafting) -> Format:
    """A format of JSON or JSON lines, recognised by the first record."""
    return Format(lambda path: any(map(is_one, first_objects(path))), partial(json_drafts, draft=draft), _ROWS)


FORMATS: dict[str, Format] = {
    "reviews": Format(reviews.matches, reviews.read),
    "huggingface": Format(huggingface.matches, huggingface.read, _ROWS, named=True),
    "cvat": Format(cvat.matches, cvat.read, _FOLDER),
    "coco": Format(partial(has_kind, kind="coco"), coco.read, _FOLDER),
    "via": Format(partial(has_kind, kind="via"), via.read, _FOLDER | {"named_by"}),
    "label_studio": Format(partial(has_kind, kind="label_studio"), label_studio.read, _FOLDER | {"text"}),
    "labelme": Format(partial(has_kind, kind="labelme"), labelme.read, _FOLDER),
    "voc": Format(voc.matches, voc.read, folder=True),
    "pairs": Format(pairs.matches, pairs.read, folder=True),
    "masks": Format(masks.matches, masks.read, folder=True),
    "yolo": Format(yolo.matches, yolo.read, folder=True),
    "dicom": Format(dicom.matches, dicom.read, frozenset({"frames", "window"}), folder=True),
    "folders": Format(folders.matches, folders.read, folder=True),
    "preferences": _json_records(preferences.form_of, preferences.draft),
    "chat": _json_records(chat.is_conversation, chat.draft),
    "multiple_choice": _json_records(multiple_choice.is_question, multiple_choice.draft),
    "spans": _json_records(spans.is_annotated, spans.draft),
    "dialogues": Format(dialogues.matches, dialogues.read, frozenset({"text"})),
    "parquet": Format(parquet.matches, parquet.read, _ROWS),
    "tables": Format(tables.matches, tables.read, _ROWS),
    "records": Format(records.matches, records.read, _ROWS | {"record"}),
}
"""By name, in the order in which they are tried: more specific ones first."""


REMEDIES = {
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"), "unpack it, and give the folder"),
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "save the table as CSV"),
    **dict.fromkeys(UNREAD_SUFFIXES, "convert the photos to JPEG or PNG"),
}
"""What to do about files that no format reads, by suffix."""


def detect(path: Path, photo_column: bool = False) -> str:
    """The name of the format of the files at `path`; if none matches, raises DataError with file counts by suffix.

    With `photo_column`, only formats that can name photos in a column are tried.
    """
    known = {name: form for name, form in FORMATS.items() if "image" in form.options or not photo_column}
    with walked_once(path):
        for name, form in known.items():
            if (path.is_dir() or not form.folder) and form.matches(path):
                return name
        suffixes = Counter(suffix_of(file.name) or "(no suffix)" for file in walk(path))
        remedy = f"set format to one of: {', '.join(known)}"
        if (other := folders.labels_elsewhere(path)) is not None and next(walk(path, IMAGE_SUFFIXES), None) is not None:
            remedy = f"move {other.relative_to(path)} out of the photos' folders if it labels none, or {remedy}"
        elif known_suffix := next((suffix for suffix in suffixes if suffix in REMEDIES), None):
            remedy = REMEDIES[known_suffix]
        elif not suffixes:
            remedy = "put the photos, tables or annotations in it"
        elif all(file.is_file() and file.stat().st_size == 0 for file in walk(path)):
            remedy = "all files have 0 bytes, so export or copy them again"
        raise DataError(path, f"unknown format ({_file_counts(path, suffixes)})", remedy)


def _file_counts(path: Path, suffixes: Counter[str]) -> str:
    counts = [f"{count} {suffix}" for suffix, count in suffixes.most_common(6)]
    skipped = Counter(reason.replace(" are ", ", which are ") for _, reason in skipped_folders(path))
    counts += [f"{count} {kind}" for kind, count in skipped.items()]
    return ", ".join(counts) or "no files"
