"""JSON lists, dicts keyed by id, JSON lines and XML records; each record is one text with its values as columns."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from datasets_vision.formats.contract import Source, or_set_aside
from datasets_vision.formats.drafts import Draft, Drafts, json_drafts
from datasets_vision.formats.json_files import first_objects, json_files
from datasets_vision.formats.xml_files import record_tag, xml_drafts
from datasets_vision.walk import files_of


def matches(path: Path) -> bool:
    """A JSON file whose first record is an object, or XML."""
    return next(first_objects(path), None) is not None or next(files_of(path, ".xml"), None) is not None


def read(source: Source) -> Iterator[Drafts]:
    """The template `text` turns a record's columns into its text; the role is the split that a file's name states.

    The column of a nested value is its names joined by dots (`meta.year`). A list is one column with a line per member;
    each member also has a column with its position (`target.0`). Likewise, a list of objects has one column per name
    (`authors.name`, `authors.0.name`). All values are text; null and missing values are empty.

    In XML, the columns of an item are the texts and attributes of its own parts (`Question`, `Question.qid`), and
    those of the elements around it, prefixed with the root's name (`Document.Focus`).
    """
    others = list(files_of(source.path, ".xml"))
    if not others or next(json_files(source.path), None) is not None:
        yield from json_drafts(source, lambda _, entry, record: Draft.of(entry, {}))
    tag = source.record or record_tag(others)
    for path in others:
        yield Drafts(path, or_set_aside(path, xml_drafts(path, tag)))
