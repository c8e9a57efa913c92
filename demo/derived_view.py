"""What follows from an answer, as HTML: the lines of an estimate, a priority with its reasons. All text is escaped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from demo.markup import section, table, words
from vlm_ft.answers.derivations.estimate import Estimate, Line, NotPriced
from vlm_ft.answers.derivations.priority import Priority


def derived_view(derived: Mapping[str, Mapping[str, Any]]) -> str:
    """A section for each derivation, in their order; "" where nothing follows."""
    return "".join(VIEWS[kind](values) for kind, values in derived.items())


def _estimate_view(values: Mapping[str, Any]) -> str:
    estimate = Estimate.model_validate(values)
    total = _span(estimate.low, estimate.high)
    if not estimate.lines:
        total = _span(0, 0) if estimate.complete else "not priced"
    partly = "" if estimate.complete or not estimate.lines else " <small>without what is not priced</small>"
    noted = any(line.note for line in estimate.lines)
    names = ("Part", "Damage", "Severity", "Labour", "Parts", *(["Note"] if noted else []))
    lines = _table(names, [_line(line)[: len(names)] for line in estimate.lines])
    return section(
        "Repair estimate",
        f"rate card {estimate.card}, version {estimate.version}",
        f'<p class="label">{escape(estimate.currency)} {total}{partly}</p>{lines}'
        + _list("Not priced", [_missing(entry) for entry in estimate.not_priced]),
    )


def _priority_view(values: Mapping[str, Any]) -> str:
    priority = Priority.model_validate(values)
    reasons = _table(
        ("Finding", "Calls for", "Because"),
        [(reason.finding, words(reason.priority), reason.reason) for reason in priority.reasons],
    )
    unsure = priority.priority == "unknown"
    banner = '<p class="banner ask"><strong>Ask a person.</strong> The table does not know every finding.</p>'
    return section(
        "Maintenance priority",
        f"table {priority.table}, version {priority.version}",
        f'<p class="label">{escape(words(priority.priority))}</p>{banner if unsure else ""}{reasons}',
    )


VIEWS: dict[str, Callable[[Mapping[str, Any]], str]] = {"estimate": _estimate_view, "priority": _priority_view}


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; "" where it would be empty."""
    return table(head, [map(escape, row) for row in rows]) if rows else ""


def _list(title: str, entries: Sequence[str]) -> str:
    if not entries:
        return ""
    rows = "".join(f"<li>{escape(entry)}</li>" for entry in entries)
    return f'<p class="rest">{escape(title)}:</p><ul class="expected">{rows}</ul>'


def _line(line: Line) -> tuple[str, ...]:
    named = [words(name) if name is not None else "not stated" for name in (line.part, line.kind, line.severity)]
    hours = f"{line.labour_hours:g} h × {line.labour_rate:g} = " if line.labour_hours and line.labour_rate else ""
    return (*named, hours + _span(line.labour_low, line.labour_high), _span(line.parts_low, line.parts_high), line.note)


def _missing(entry: NotPriced) -> str:
    named = " ".join(words(name) for name in (entry.severity, entry.kind, entry.part) if name is not None)
    return f"{named}: {entry.reason}" if named else entry.reason


def _span(low: float, high: float) -> str:
    """Money, rounded to units."""
    return f"{low:,.0f}" if round(low) == round(high) else f"{low:,.0f} to {high:,.0f}"
