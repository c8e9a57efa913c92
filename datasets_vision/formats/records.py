"""JSON lists, dicts keyed by id, JSON lines and XML records; each record is one text, its values its columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets_vision.example import Example
from datasets_vision.formats.contract import SetAside, Source
from datasets_vision.formats.drafts import Draft, examples_of
from datasets_vision.formats.flat import flat, leaves_of
from datasets_vision.formats.json_files import entries, first_objects, json_files
from datasets_vision.formats.xml_files import record_tag, xml_drafts, xml_files
from vlm_ft.errors import DataError


def matches(path: Path) -> bool:
    """A JSON file whose first record is an object, or XML."""
    return next(first_objects(path), None) is not None or bool(xml_files(path))


def read(source: Source) -> Iterator[Example | SetAside]:
    """Records as texts by the template `text` over their columns; the role is a split's name that ends a file's.

    A nested value has its names joined by dots (`meta.year`). A list has a line for each of its members, and
    each member is a column for the asking by its position (`target.0`); a list of objects has a column a name
    likewise (`authors.name`, `authors.0.name`). All values are texts; null and what is missing are empty.

    In XML, an item has the texts and attributes of its own parts (`Question`, `Question.qid`), and what stands
    around it after the root's name (`Document.Focus`).
    """
    found = list(json_files(source.path))
    for path in found:
        yield from examples_of(source, path, _drafts(path))
    others = xml_files(source.path)
    tag = source.record or record_tag(others)
    for path in others:
        yield from examples_of(source, path, xml_drafts(path, tag or ""))
    if not found and not others:
        raise DataError(f"{source.path}: no JSON, JSON-lines or XML file; give one, or the folder of some")


def _drafts(path: Path) -> Iterator[Draft | SetAside]:
    for entry in entries(path):
        if isinstance(entry, SetAside):
            yield entry
        elif not isinstance(entry.value, dict) or not entry.value:
            yield SetAside(entry.place, f"not an object with keys but {str(entry.value)[:40]!r}; write one a record")
        else:
            yield _draft(entry.place, entry.name, entry.value)


def _draft(place: str, name: str, value: dict[str, object]) -> Draft | SetAside:
    try:
        cells, more = flat(leaves_of(value))
    except RecursionError:
        return SetAside(place, "values nested too deep; flatten them")
    return Draft(name, place, cells, more)
