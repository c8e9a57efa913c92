"""The folder in which reviewers' verdicts on an adapter's answers are stored: `reviews.jsonl` and `photos`.

Each line is one verdict: `case` (the same photos and text have the same), `photos` (file names), `text`, `answer` (what
the adapter said, by field), `verdict` (accepted, corrected or rejected) and `correct` (the corrected fields).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.example import Example, Label, Turn
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.json_files import Entry, entries
from datasets_vision.images import image_size

LINES = "reviews.jsonl"
PHOTOS = "photos"

ROLE = "reviewed"
"""The role of its examples, for `splits.source`."""

_KEYS = ("case", "photos", "text", "answer", "verdict")


def matches(path: Path) -> bool:
    """A folder with `reviews.jsonl`, or that file."""
    return _file(path).is_file()


def read(source: Source) -> Iterator[Example | SetAside]:
    """Each reviewed case once, by its last verdict.

    An accepted answer states the fields, as does a corrected one, which is also preferred to the answer that the
    adapter gave. A rejected answer is only disliked.
    """
    file = _file(source.path)
    last: dict[Any, Entry] = {}
    for entry in entries(file):
        if isinstance(entry, SetAside):
            yield entry
        elif not isinstance(entry.value, dict) or any(key not in entry.value for key in _KEYS):
            yield SetAside(entry.place, f"lacks one of {', '.join(_KEYS)}", "restore or remove the line")
        else:
            last[str(entry.value["case"])] = entry
    for case, entry in last.items():
        yield from or_set_aside(entry.place, _example(file.parent / PHOTOS, case, entry))


def _file(path: Path) -> Path:
    return path if path.name == LINES else path / LINES


def _example(folder: Path, case: str, entry: Entry) -> Iterator[Example]:
    record = entry.value
    if not isinstance(record["photos"], list) or not isinstance(record["answer"], dict):
        raise DataError("", "photos is not a list, or answer is not an object", "restore or remove the line")
    photos = tuple(folder / Path(str(name)).name for name in record["photos"])
    for photo in photos:
        image_size(photo)
    text = str(record["text"] or "")
    yield Example(
        id=case,
        turns=(Turn("user", text),) if text else (),
        images=photos,
        label=Label(columns=_columns(record)),
        source=entry.place,
        role=ROLE,
    )


def _columns(record: dict[str, Any]) -> dict[str, Any]:
    answer, correct = record["answer"], record.get("correct")
    match record["verdict"]:
        case "accepted":
            return {**answer, "completion": answer, "liked": True}
        case "rejected":
            return {"completion": answer, "liked": False}
        case "corrected" if isinstance(correct, dict) and correct:
            return {**correct, "chosen": correct, "rejected": answer}
    raise DataError("", f"verdict {record['verdict']!r} without corrected fields", "correct the line, or remove it")
