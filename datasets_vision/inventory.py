"""Read each data set below a folder once: its format, its items, and what was set aside and why."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datasets_vision.errors import DataError, cause, one_line, problem_of
from datasets_vision.example import Example
from datasets_vision.formats import detect
from datasets_vision.source import Source, stream

MANIFEST = "manifest.json"

OPTIONS: dict[str, dict[str, Any]] = {
    "bitext_csv": {"text": "{instruction}"},
    "dicom_samples": {"image_class": "^(.*)$"},  # no labels: the file name serves as the class
    "excavator_work_orders_csv": {"text": "{OriginalShorttext}"},
    "logs_faa_omin": {"text": "{narrative}"},
    "logs_maintnet": {"text": "{PROBLEM}"},
    "medquad_xml": {"text": "{Question}"},
    "obd_codes_csv": {"text": "{code}"},
    "pubmedqa_json": {"text": "{QUESTION}"},
    "repair_cost_rules": {"text": "{Car_Type} {Part} {Damage_Type} {Severity}"},
    "scitldr_jsonl": {"text": "{source}"},
}
"""Source options by data set name, for facts that the files do not reveal: mostly which column has the text."""

STATED = {"medquad_xml": 2137}
"""Item counts by data set name, for manifests that count something else (here documents, not questions)."""

HEADER = """| set | format | items | stated | agrees | objects | set aside | reasons |
| --- | --- | ---: | ---: | --- | ---: | ---: | --- |"""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_KINDS, _FURTHER = 1000, "other reasons"  # how many kinds are counted separately


@dataclass(frozen=True, slots=True)
class Entry:
    """One listed data set: its path, and how many items it should have (None if not stated)."""

    name: str
    path: Path
    stated: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The result of reading one set; `error` is set if the whole set is unusable.

    `reasons`: how often each kind of reason occurred (numbers ignored), and its first occurrence in full.
    """

    entry: Entry
    format: str = ""
    items: int = 0
    objects: int = 0
    set_aside: int = 0
    reasons: tuple[tuple[int, str], ...] = ()
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Whether every stated item was read or set aside; if no count is stated, whether the set can be read."""
        if self.error or self.entry.stated is None:
            return not self.error
        return self.items <= self.entry.stated <= self.items + self.set_aside

    def row(self, reasons: int = 3) -> str:
        """The set's row in the table under HEADER, with at most `reasons` kinds of reasons."""
        counted = [f"{count} × {text}" for count, text in self.reasons[:reasons]]
        if len(self.reasons) > reasons:
            counted.append(f"reasons not shown: {len(self.reasons) - reasons}")
        stated = "" if self.entry.stated is None else str(self.entry.stated)
        verdict = "yes" if self.agrees else "NO"
        cells = [self.entry.name, self.format, str(self.items), stated, verdict, str(self.objects), str(self.set_aside)]
        cells.append(self.error or "; ".join(counted))
        return f"| {' | '.join(one_line(cell).replace('|', '/') for cell in cells)} |"


def entries(root: Path) -> list[Entry]:
    """The sets in manifest.json (a list of {path, items}), else every folder directly below `root`.

    Raises DataError if the list cannot be read or there is no set.
    """
    listed = root / MANIFEST
    if listed.is_file():
        return _listed(listed)
    if not root.is_dir():
        raise DataError(root, "no such folder", "give the folder of the sets")
    found = [Entry(path.name, path) for path in sorted(root.iterdir()) if path.is_dir()]
    if not found:
        raise DataError(root, "contains no folders", "give the folder of the sets")
    return found


def read_sets(root: Path) -> Iterator[Record]:
    """Read every set of `root` in turn."""
    for entry in entries(root):
        yield read_set(entry)


def read_set(entry: Entry) -> Record:
    """Read one set as a stream; only counts and the first reasons are kept in memory."""
    name, items, objects = "", 0, 0
    kinds: Counter[str] = Counter()
    first: dict[str, str] = {}  # kind -> the first reason of that kind
    try:
        if not os.path.exists(entry.path):
            raise DataError(entry.path, "no such file or folder", "correct the list of sets")
        source = Source(path=entry.path, **OPTIONS.get(entry.path.name, {}))
        name = source.format or detect(entry.path, photo_column=source.image is not None)
        for item in stream(source):
            if isinstance(item, Example):
                items += 1
                objects += len(item.label.objects or ())
                continue
            kind = _NUMBER.sub("#", item.reason)[:200]
            if kind not in first:
                kind, text = (kind, item.reason) if len(first) < _KINDS else (_FURTHER, _FURTHER)
                first.setdefault(kind, text)
            kinds[kind] += 1
    except DataError as error:
        return Record(entry, name, error=str(error))
    except OSError as error:
        reason = f"cannot be read ({error.strerror or error}); check its permissions"
        return Record(entry, name, error=f"{entry.path}: {reason}")
    except ValidationError as error:
        return Record(entry, name, error=f"{entry.name}: {problem_of(error.errors()[0])}; correct the set's options")
    reasons = tuple((count, first[kind]) for kind, count in kinds.most_common())
    return Record(entry, name, items, objects, kinds.total(), reasons)


def _listed(path: Path) -> list[Entry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"not readable as JSON ({cause(error)})", "correct it") from error
    if not isinstance(content, list) or not content:
        raise DataError(path, "not a list of sets", "write [{path, items}, ...]")
    found = []
    for number, given in enumerate(content, 1):
        if not isinstance(given, dict) or not isinstance(given.get("path"), str):
            raise DataError(path, f"set {number} has no path", "write {path, items}")
        place = path.parent / given["path"]
        stated = STATED.get(place.name, given.get("items"))
        found.append(Entry(given["path"], place, stated if isinstance(stated, int) else None))
    return found
