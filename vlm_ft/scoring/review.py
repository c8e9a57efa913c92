"""A page of the answers that a person should review.

Failed answers come first, then, by class, those to inputs unlike the training data, and the least certain ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from datasets_vision.placing import whole_file
from vlm_ft.adapters import Card
from vlm_ft.answers.confidence import closed_fields, joint_probability
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction, option_name
from vlm_ft.errors import DataError
from vlm_ft.pages import data_url, rendered
from vlm_ft.scoring.ledger import Row
from vlm_ft.scoring.units import Decode, decoded_here

MAX_ENTRIES = 300
"""The maximum number of entries on a page; the table has them all."""

SIDE = 320  # pixels of a thumbnail's longer side
QUALITY = 75
FAILED = "no answer"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the page: its path, its picture as a data URI, why it is listed, and what was answered."""

    path: str
    picture: str
    reason: str
    fields: tuple[tuple[str, str, str], ...]  # name, value, probability


@dataclass(frozen=True, slots=True)
class Section:
    """The entries of one class."""

    name: str
    entries: tuple[Entry, ...]


def write_review(
    page: Path, card: Card, rows: Iterable[Row], folder: Path | None, decode: Decode = decoded_here
) -> None:
    """Write a page of the rows that a person should review.

    `folder` contains the photos; it is None for texts. Raises `DataError` if the page cannot be written.
    """
    asked = sorted((row for row in rows if row.prediction.decision != "answer"), key=lambda row: _order(card.form, row))
    sections = [
        Section(name, tuple(_entry(row, folder, decode) for row in members))
        for name, members in groupby(asked[:MAX_ENTRIES], key=lambda row: _class(card.form, row.prediction))
    ]
    text = rendered(
        "vlm_ft.scoring", "review.html.j2", card=card, sections=sections, total=len(asked), most=MAX_ENTRIES
    )
    with whole_file(page) as part:
        part.write_text(text, encoding="utf-8", errors="replace")


def _class(form: Form, prediction: Prediction) -> str:
    """The value of the first closed field."""
    if prediction.error is not None:
        return FAILED
    name = next(iter(closed_fields(form)), "")
    return option_name(prediction.values[name]) if name in prediction.fields else ""


def _order(form: Form, row: Row) -> tuple[bool, str, float, float, str]:
    """A sort key: failures first, then by class, the strangest and then the least certain first."""
    prediction = row.prediction
    strange, sure = prediction.strange or 0.0, joint_probability(closed_fields(form), prediction)
    kind = _class(form, prediction)
    return kind != FAILED, kind, -max(strange, 1.0), 1.0 if sure is None else sure, row.path


def _entry(row: Row, folder: Path | None, decode: Decode) -> Entry:
    prediction = row.prediction
    fields = tuple(_fields(prediction))
    return Entry(row.path, _picture(row, folder, decode), prediction.error or prediction.reason, fields)


def _fields(prediction: Prediction) -> Iterator[tuple[str, str, str]]:
    for name, entry in prediction.fields.items():
        shown = f"{len(entry.value)} listed" if isinstance(entry.value, list) else option_name(entry.value)
        yield name, shown, "" if entry.probability is None else f"{entry.probability:.0%}"


def _picture(row: Row, folder: Path | None, decode: Decode) -> str:
    """A thumbnail; "" if there is none, or if the row is a folder of photos."""
    if folder is None or row.width is None or not (folder / row.path).is_file():
        return ""
    try:
        (photo,) = decode([folder / row.path])
    except DataError:  # the file has changed since it was scored
        return ""
    photo.thumbnail((SIDE, SIDE))
    return data_url(photo, QUALITY)
