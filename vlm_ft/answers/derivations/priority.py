"""How soon maintenance is due, from the findings that an answer lists and a priority table."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field

from datasets_vision.example import BOX_SCALE, box_area
from vlm_ft.answers.derivations.names import ANY, covers, normalise
from vlm_ft.answers.derivations.result import Figure, Result, View, joined
from vlm_ft.answers.derivations.versioned import read_versioned
from vlm_ft.answers.kinds import Strict

Urgency = Literal["immediate", "before_next_flight", "next_check", "monitor"]
URGENCIES: tuple[Urgency, ...] = get_args(Urgency)
"""The most urgent first."""

NOTHING_FOUND, UNKNOWN = "nothing_found", "unknown"
FINDINGS, MAIN, ZONE = "findings", "kind", "location"
"""The fields used: the answer's findings, or else its main finding, and the location."""

NO_KINDS = ("", "none")


class PriorityRow(Strict):
    """The priority of a finding. `ANY` applies to every severity or zone, stated or not.

    `area_from`: the smallest share of the photo (0..1) that the finding's box must cover; 0 also applies without a box.
    """

    finding: str
    severity: str = ANY
    zone: str = ANY
    area_from: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    priority: Urgency
    reason: str

    @property
    def key(self) -> tuple[Any, ...]:
        """What the row applies to, normalised for comparison."""
        return normalise(self.finding), normalise(self.severity), normalise(self.zone), self.area_from


class Reason(Strict):
    """The priority of one finding, and why; `UNKNOWN` if no row of the table applies."""

    finding: str
    priority: Urgency | Literal["unknown"]
    reason: str


class Priority(Result):
    """The most urgent priority of an answer's findings.

    `unknown` if a finding that the table does not cover could be more urgent than all the others.
    """

    columns: ClassVar = {"priority": str, "priority_reasons": list[str]}

    table: str
    version: str
    notice: str
    priority: Urgency | Literal["nothing_found", "unknown"]
    reasons: tuple[Reason, ...]

    @property
    def definite(self) -> bool:
        return self.priority != UNKNOWN

    @property
    def text(self) -> str:
        return joined(self.priority)

    def cells(self) -> Sequence[Any]:
        return self.priority, [f"{entry.finding}: {entry.priority}, {entry.reason}" for entry in self.reasons]

    def view(self) -> View:
        return View(
            title="Maintenance priority",
            source=f"table {self.table}, version {self.version}",
            headline=self.text,
            warning="" if self.definite else "The table does not cover every finding.",
            head=("Finding", "Calls for", "Because"),
            rows=tuple((entry.finding, joined(entry.priority), entry.reason) for entry in self.reasons),
        )

    def agreement(self, given: Priority | None) -> float:
        """1 for the same priority, otherwise 0."""
        return float(given is not None and given.priority == self.priority)

    @classmethod
    def figures(cls, pairs: Sequence[tuple[Priority, Priority | None]]) -> Iterator[Figure]:
        """`accuracy`; a prediction of "unknown" is wrong."""
        yield Figure("priority", "accuracy", [true.agreement(given) for true, given in pairs], "share")


class PriorityTable(Strict):
    """Priorities by kind of finding, severity, zone and size; of the rows that apply, the most specific is used.

    The more of severity, zone and size a row states, the more specific it is; ties go to the most urgent row.
    """

    result: ClassVar = Priority

    kind: Literal["priority"] = "priority"
    name: str
    version: str
    notice: str = ""
    rows: tuple[PriorityRow, ...] = Field(min_length=1)

    def derivable(self, paths: Collection[str]) -> bool:
        """Whether answers with these field paths can be given a priority."""
        return f"{FINDINGS}.kind" in paths or MAIN in paths

    def derive(self, values: Mapping[str, Any]) -> Priority | None:
        """The priority of an answer; None if it states neither findings nor a main finding."""
        findings = _findings(values)
        if findings is None:
            return None
        reasons = tuple(self._reason(finding, values.get(ZONE)) for finding in findings)
        found = {reason.priority for reason in reasons}
        urgent = next((urgency for urgency in URGENCIES if urgency in found), None)
        priority: Any = urgent or NOTHING_FOUND
        if UNKNOWN in found and urgent != URGENCIES[0]:
            priority = UNKNOWN
        return Priority(table=self.name, version=self.version, notice=self.notice, priority=priority, reasons=reasons)

    def _reason(self, finding: Mapping[str, Any], zone: str | None) -> Reason:
        kind, share = str(finding.get("kind")), box_area(finding.get("box")) / BOX_SCALE**2
        matching = [
            row
            for row in self.rows
            if covers(row.finding, kind)
            and covers(row.severity, finding.get("severity"))
            and covers(row.zone, zone)
            and share >= row.area_from
        ]
        if not matching:
            why = f"table {self.name} {self.version} does not cover it; ask a person"
            return Reason(finding=kind, priority=UNKNOWN, reason=why)
        best = min(matching, key=lambda row: (-_specificity(row), URGENCIES.index(row.priority)))
        return Reason(finding=kind, priority=best.priority, reason=best.reason)


def read_priorities(path: Path) -> PriorityTable:
    """Read a priority table from a CSV file: ``# version:``, optionally ``# notice:``, the columns of `PriorityRow`.

    Raises `DataError` naming file and line.
    """
    heading, rows = read_versioned(path, PriorityRow, lambda row: row.key)
    return PriorityTable(name=path.stem, rows=tuple(row for _, row in rows), **heading.model_dump())


def _findings(values: Mapping[str, Any]) -> Sequence[Mapping[str, Any]] | None:
    """The listed findings, or the main finding if none are listed; None if neither is stated."""
    listed = values.get(FINDINGS)
    main = values.get(MAIN)
    if listed or main is None:
        return None if listed is None else list(listed)
    return [] if str(main).casefold() in NO_KINDS else [{"kind": main}]


def _specificity(row: PriorityRow) -> int:
    return (row.severity != ANY) + (row.zone != ANY) + (row.area_from > 0)
