"""The faults that the checks find, and the report on them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from datasets_vision.example import Box
from vlm_ft.errors import DataError

Severity = Literal["error", "warning"]
MAX_STORED = 1000
"""The most faults of one check that are stored in full; all are counted."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its place, the problem (`value`) and the remedy, with the pictures and the box that show it."""

    severity: Severity
    place: str
    value: str
    remedy: str
    pictures: tuple[str, ...] = ()
    box: Box | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.value}; {self.remedy}"

    def within(self, folder: Path) -> Fault:
        """The fault with paths shortened by the function `within`."""
        place, value, remedy = (within(folder, text) for text in (self.place, self.value, self.remedy))
        return replace(self, place=place, value=value, remedy=remedy)


@dataclass
class Finding:
    """All faults that one check found; `faults` keeps MAX_STORED of them, errors before warnings."""

    check: str
    title: str
    errors: int = 0
    warnings: int = 0
    faults: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Count a fault, and store it while there is room; an error displaces the last warning."""
        if fault.severity == "error":
            self.errors += 1
            place = sum(kept.severity == "error" for kept in self.faults)
            self.faults.insert(place, fault)
        else:
            self.warnings += 1
            self.faults.append(fault)
        del self.faults[MAX_STORED:]

    @property
    def total(self) -> int:
        return self.errors + self.warnings


@dataclass(frozen=True)
class Report:
    """What the checks found in a recipe's data.

    `roles`: examples by role. `classes`: field -> name -> role -> examples. `lengths` is None if rows were not
    measured for a base.
    """

    recipe: str
    roles: Mapping[str, int]
    findings: tuple[Finding, ...]
    classes: Mapping[str, Mapping[str, Mapping[str, int]]]
    lengths: Lengths | None = None

    @property
    def errors(self) -> int:
        """Faults that stop training."""
        return sum(finding.errors for finding in self.findings)

    @property
    def warnings(self) -> int:
        """Faults that are reported but do not stop training."""
        return sum(finding.warnings for finding in self.findings)

    def within(self, folder: Path) -> Report:
        """The report with paths shortened by the function `within`, except those by which pictures are opened."""
        findings = (replace(each, faults=[fault.within(folder) for fault in each.faults]) for each in self.findings)
        return replace(self, findings=tuple(findings))

    def stop_at_errors(self) -> None:
        """Raise `DataError` with the first error, if the data have any."""
        errors = (fault for finding in self.findings for fault in finding.faults if fault.severity == "error")
        if (first := next(errors, None)) is not None:
            more = f" (all {self.errors} errors: vlm-ft data check {self.recipe})" if self.errors > 1 else ""
            raise DataError(first.place, f"{first.value}{more}", f"{first.remedy}; to train anyway, add --no-check")

    def as_json(self) -> str:
        """The report as JSON: counts of all faults, and the text of the first MAX_STORED of each check."""
        content: dict[str, Any] = {
            "recipe": self.recipe,
            "errors": self.errors,
            "warnings": self.warnings,
            "roles": dict(self.roles),
            "checks": [asdict(finding) for finding in self.findings],
            "classes": self.classes,
            "lengths": asdict(self.lengths) if self.lengths else None,
        }
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


@dataclass(frozen=True, slots=True)
class Lengths:
    """Token counts of the measured rows: histograms of all tokens and of image tokens, as (most tokens, rows).

    `limit` is the most tokens that a row may have.
    """

    limit: int
    measured: int
    longest: int
    tokens: tuple[tuple[int, int], ...]
    image_tokens: tuple[tuple[int, int], ...]


def within(folder: Path, text: str) -> str:
    """The text with paths relative to the data set's folder, for readers on other machines."""
    return text.replace(f"{folder}/", "").replace(str(folder), folder.name)
