"""Checks of the labels: do they fit the form, can they be seen, do they contradict each other?"""

from __future__ import annotations

import json
from collections.abc import Iterator

from vlm_ft.data.checks.fault import Fault
from vlm_ft.data.checks.index import Index

MAX_SET_ASIDE = 0.10
"""The share of a set that may be set aside before it is an error."""
COMPARED = 50
"""The most labels of one picture or text to compare."""


def schema(index: Index) -> Iterator[Fault]:
    """Labels that do not fit the form."""
    for place, reason in index.rows("SELECT * FROM misfits"):
        remedy = "correct the label, map it with rename or values, or add it to the recipe's labels"
        yield Fault("error", place, f"the label does not fit the form: {reason}", remedy)


def boxes(index: Index) -> Iterator[Fault]:
    """Boxes that the loader set aside because they are empty or outside the image."""
    for place, problem, remedy in index.all_set_aside("box"):
        yield Fault("warning", place, f"set aside: {problem}", remedy or "draw the box again, or remove it")


def set_aside(index: Index) -> Iterator[Fault]:
    """Anything else that was set aside; an error if more than a tenth of the set was."""
    for place, problem, remedy in index.all_set_aside(""):
        yield Fault("warning", place, f"set aside: {problem}", remedy or "correct it, or leave it out of the set")
    count = index.one("SELECT count(*) FROM set_aside")
    if count > MAX_SET_ASIDE * (index.items + count):
        place = index.one("SELECT place FROM set_aside LIMIT 1")
        value = f"{count} of {index.items + count} set aside, more than {MAX_SET_ASIDE:.0%}"
        yield Fault("error", place, value, "is the format the right one? see vlm-ft data read")


def ids(index: Index) -> Iterator[Fault]:
    """Examples with the same id in two of the recipe's sources."""
    query = """SELECT items.id, place FROM items
        JOIN (SELECT id FROM items GROUP BY id HAVING count(*) > 1) AS twice ON items.id = twice.id ORDER BY items.id"""
    first = ("", "")
    for name, place in index.rows(query):
        if name == first[0]:
            yield Fault("error", place, f"id {name!r} is also in {first[1]}", "rename one of the files")
        else:
            first = (name, place)


def tiny_boxes(index: Index) -> Iterator[Fault]:
    """Boxes that the base's pixel budget shrinks to almost nothing."""
    query = """SELECT place, picture, word, boxes.width, boxes.height, box FROM boxes
        JOIN items ON items.number = item ORDER BY boxes.width * boxes.height"""
    for place, picture, word, width, height, box in index.rows(query):
        left, top, right, bottom = json.loads(box)
        value = f"{word}: the base sees it at {width:.1f} x {height:.1f} pixels"
        remedy = "raise pixels.maximum, cut large photos into tiles, or leave the box out"
        yield Fault("warning", place, value, remedy, (picture,), (left, top, right, bottom))


def conflicts(index: Index) -> Iterator[Fault]:
    """The same picture, or the same text without a picture, with labels that contradict each other."""
    query = "SELECT shown FROM items GROUP BY shown HAVING count(DISTINCT closed) > 1"
    for (shown,) in index.rows(query):
        items = index.rows("SELECT number, place, closed, images FROM items WHERE shown = ? LIMIT ?", shown, COMPARED)
        first, rest = items.fetchone(), items.fetchall()
        for number, place, closed, images in rest:
            field = _contradicted(json.loads(first[2]), json.loads(closed))
            if field is None:
                continue
            value, first_value = (_short(json.loads(entry)[field]) for entry in (closed, first[2]))
            what = "the same picture" if images else "the same text"
            problem = f"{field} is {value}; {what} in {first[1]} has {first_value}"
            remedy = "decide which is right, and remove or correct the other"
            yield Fault("warning", place, problem, remedy, index.pictures_of(number, first[0]))
            break


def _contradicted(one: dict[str, object], two: dict[str, object]) -> str | None:
    """The first field that both state with different values."""
    return next((field for field in one if field in two and one[field] != two[field]), None)


def _short(value: object) -> str:
    if isinstance(value, list):
        value = [json.loads(row) for row in value]
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def lengths(index: Index) -> Iterator[Fault]:
    """Rows with more tokens than the base or the recipe allows."""
    if index.limit is None:
        return
    query = """SELECT place, tokens, image_tokens FROM lengths JOIN items ON number = item
        WHERE tokens > ? ORDER BY tokens DESC"""
    for place, tokens, image_tokens in index.rows(query, index.limit):
        value = f"{tokens} tokens, {image_tokens} of them image tokens; the limit is {index.limit}"
        remedy = "shorten the text, lower pixels.maximum, or raise training.max_length"
        yield Fault("error", place, value, remedy)
