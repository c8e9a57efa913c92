"""The sets below a folder, each read once: its format, its items, and what was set aside and why."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datasets_vision.errors import DataError, cause, one_line
from datasets_vision.example import Example
from datasets_vision.formats import detect
from datasets_vision.source import Source, stream

MANIFEST = "manifest.json"

OPTIONS: dict[str, dict[str, Any]] = {
    "bitext_csv": {"text": "{instruction}"},
    "dicom_samples": {"image_class": "^(.*)$"},  # they have no labels: the file's name stands in for one
    "excavator_work_orders_csv": {"text": "{OriginalShorttext}"},
    "logs_faa_omin": {"text": "{narrative}"},
    "logs_maintnet": {"text": "{PROBLEM}"},
    "medquad_xml": {"text": "{Question}"},
    "obd_codes_csv": {"text": "{code}"},
    "pubmedqa_json": {"text": "{QUESTION}"},
    "repair_cost_rules": {"text": "{Car_Type} {Part} {Damage_Type} {Severity}"},
    "scitldr_jsonl": {"text": "{source}"},
}
"""By a set's name, what its files do not show by themselves: mostly which column is the text."""

STATED = {"medquad_xml": 2137}
"""By a set's name, its items where the manifest counts something else: here question/answer pairs, not documents."""

HEAD = """| set | format | items | stated | agrees | objects | set aside | reasons |
| --- | --- | ---: | ---: | --- | ---: | ---: | --- |"""

_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_REASONS = 1000  # distinct kinds of reasons that are counted apart


@dataclass(frozen=True, slots=True)
class Entry:
    """One set as its list names it: where it lies, and how many items it should have (None: not stated)."""

    name: str
    path: Path
    stated: int | None = None


@dataclass(frozen=True, slots=True)
class Reason:
    """A kind of reason (numbers left out), how often it came up, and the first time in full."""

    count: int
    place: str
    text: str


@dataclass(frozen=True, slots=True)
class Record:
    """What reading one set gave; `roles` counts items by the source's own word; `error` refused it as a whole."""

    entry: Entry
    format: str = ""
    items: int = 0
    objects: int = 0
    roles: Mapping[str, int] = field(default_factory=dict)
    set_aside: int = 0
    reasons: tuple[Reason, ...] = ()
    error: str = ""

    @property
    def agrees(self) -> bool:
        """Every item that is stated was read, or set aside with its reason; with none stated, that it reads."""
        if self.error or self.entry.stated is None:
            return not self.error
        return self.items <= self.entry.stated <= self.items + self.set_aside

    def row(self, reasons: int = 3) -> str:
        """A line of the table whose head is HEAD, with the first so many kinds of reasons."""
        counted = [f"{reason.count} × {reason.text}" for reason in self.reasons[:reasons]]
        if len(self.reasons) > reasons:
            counted.append(f"{len(self.reasons) - reasons} more kinds")
        stated = "" if self.entry.stated is None else str(self.entry.stated)
        verdict = "yes" if self.agrees else "NO"
        cells = [self.entry.name, self.format, str(self.items), stated, verdict, str(self.objects), str(self.set_aside)]
        return (
            "| "
            + " | ".join(one_line(cell).replace("|", "/") for cell in (*cells, self.error or "; ".join(counted)))
            + " |"
        )


def entries(root: Path) -> list[Entry]:
    """The sets of manifest.json (a list of {path, items}), else every folder right below `root`.

    Raises DataError where the list cannot be read or there is no set.
    """
    listed = root / MANIFEST
    if listed.is_file():
        return _listed(listed)
    if not root.is_dir():
        raise DataError(root, "no such folder", "give the folder of the sets")
    found = [Entry(path.name, path) for path in sorted(root.iterdir()) if path.is_dir()]
    if not found:
        raise DataError(root, "no folder below", "give the folder of the sets")
    return found


def take(root: Path, options: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Record]:
    """Every set of `root`, read in turn; `options` by the set's name are settings of a Source, over OPTIONS."""
    chosen = {**OPTIONS, **(options or {})}
    for entry in entries(root):
        yield record(entry, chosen.get(entry.path.name, {}))


def record(entry: Entry, options: Mapping[str, Any]) -> Record:
    """One set, read as a stream: nothing of it is held but counts and the first reasons."""
    name, items, objects, set_aside = "", 0, 0, 0
    roles: Counter[str] = Counter()
    reasons: dict[str, Reason] = {}
    try:
        if not os.path.exists(entry.path):
            raise DataError(entry.path, "no such file or folder", "correct the list of sets")
        source = Source(path=entry.path, **options)
        name = source.format or detect(entry.path, photo_column=source.image is not None)
        for item in stream(source):
            if isinstance(item, Example):
                items += 1
                objects += len(item.label.objects or ())
                roles[item.role or ""] += 1
                continue
            set_aside += 1
            kind = _NUMBER.sub("#", item.reason)[:200]
            if kind in reasons or len(reasons) < _REASONS:
                first = reasons.get(kind, Reason(0, item.place, item.reason))
                reasons[kind] = Reason(first.count + 1, first.place, first.text)
    except DataError as error:
        return Record(entry, name, error=str(error))
    except OSError as error:
        return Record(
            entry, name, error=f"{entry.path}: cannot be read ({error.strerror or error}); check its permissions"
        )
    except ValidationError as error:
        return Record(entry, name, error=f"{entry.name}: {error.errors()[0]['msg']}; correct the set's options")
    ordered = sorted(reasons.values(), key=lambda reason: -reason.count)
    return Record(entry, name, items, objects, dict(sorted(roles.items())), set_aside, tuple(ordered))


def _listed(path: Path) -> list[Entry]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(path, f"no JSON that can be read ({cause(error)})", "correct it") from error
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
