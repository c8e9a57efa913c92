"""A report as a terminal table, as JSON, and as one HTML page with pictures."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.example import BOX_SCALE, picture_of
from datasets_vision.images import open_image
from datasets_vision.placing import whole_file
from vlm_ft.data.checks import BINS
from vlm_ft.data.checks.fault import Fault, Finding, Report
from vlm_ft.errors import DataError
from vlm_ft.pages import data_url, rendered

if TYPE_CHECKING:
    from rich.console import Console

IN_TERMINAL = 3  # faults of each check
ON_PAGE = 60  # faults of each check
WITH_PICTURES = 24  # of those, shown with their pictures
THUMBNAIL = 200  # pixels of the longer side
JPEG_QUALITY = 75


def write(report: Report, folder: Path) -> Path:
    """Write `check.json` and `check.html`, and return the page; the folder is created if missing."""
    page = folder / "check.html"
    for file, text in ((folder / "check.json", report.as_json()), (page, html(report))):
        with whole_file(file) as part:
            part.write_text(text, encoding="utf-8", errors="backslashreplace")
    return page


def print_report(report: Report, console: Console) -> None:
    """Print what was found: a table of the checks, then the first faults of each."""
    from rich.table import Table

    roles = ", ".join(f"{role} {count}" for role, count in report.roles.items())
    console.print(f"[bold]{report.recipe}[/]: {roles}")
    table = Table("check", "errors", "warnings", "what it found")
    for finding in report.findings:
        if finding.total:
            cells = (finding.check, str(finding.errors or ""), str(finding.warnings or ""), finding.title)
            table.add_row(*cells, style="red" if finding.errors else "yellow")
    if table.row_count:
        console.print(table)
    for finding in report.findings:
        for fault in finding.faults[:IN_TERMINAL]:
            style = "red" if fault.severity == "error" else "yellow"
            console.print(f"{finding.check}: {fault}", style=style, markup=False)
        if finding.total > IN_TERMINAL:
            console.print(f"  … and {finding.total - IN_TERMINAL} more", style="dim")
    clean = [finding.check for finding in report.findings if not finding.total]
    if clean:
        console.print(f"nothing found by: {', '.join(clean)}")
    if report.lengths:
        lengths = report.lengths
        console.print(
            f"tokens: the longest of {lengths.measured} measured rows has {lengths.longest} of {lengths.limit}"
        )
    console.print(f"{report.errors} errors, {report.warnings} warnings", style="bold red" if report.errors else "bold")


def html(report: Report) -> str:
    """One self-contained page; pictures are inlined, and all text is escaped."""
    histograms = report.lengths and {
        "all tokens": list(_bars(report.lengths.tokens)),
        "image tokens": list(_bars(report.lengths.image_tokens)),
    }
    return rendered(
        "vlm_ft.data.checks",
        "check.html.j2",
        report=report,
        sections=[(finding, list(_entries(finding))) for finding in report.findings if finding.total],
        clean=[finding for finding in report.findings if not finding.total],
        histograms=histograms,
    )


@dataclass(frozen=True)
class Entry:
    """A fault on the page, with its thumbnails (data URIs), and its box as percentages of the first one."""

    fault: Fault
    thumbnails: tuple[str, ...]
    box: tuple[float, float, float, float] | None


def _entries(finding: Finding) -> Iterator[Entry]:
    for number, fault in enumerate(finding.faults[:ON_PAGE]):
        pictures = fault.pictures if number < WITH_PICTURES else ()
        box = None
        if fault.box is not None and pictures:
            left, top, right, bottom = (100 * side / BOX_SCALE for side in fault.box)
            box = (left, top, right - left, bottom - top)
        yield Entry(fault, tuple(found for picture in pictures if (found := thumbnail(picture))), box)


@cache
def thumbnail(picture: str) -> str | None:
    """A thumbnail of the picture as a data URI; None if the picture cannot be read."""
    try:
        image = open_image(picture_of(picture))
    except DataError:
        return None
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    return data_url(image, JPEG_QUALITY)


def _bars(histogram: tuple[tuple[int, int], ...]) -> Iterator[dict[str, Any]]:
    """The bars of a chart: each bin's label, its number of rows, and its width in per cent of the widest."""
    most = max(count for _, count in histogram) or 1
    for high, count in histogram:
        label = f"≤ {high:,}" if high < BINS[-1] else "more"
        yield {"label": label, "count": count, "width": round(100 * count / most, 1)}
