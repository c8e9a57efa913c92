"""What the quickstart and the tour take and reach, as figures that the README quotes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vlm_ft.adapters import read_card
from vlm_ft.answers.metrics import LOWER_IS_BETTER
from vlm_ft.evaluation.results import main_figure
from vlm_ft.experiments.sheet import Sheet


def add_first_steps(
    sheet: Sheet,
    name: str,
    seconds: float,
    adapters: Sequence[Path],
    *,
    most: float | None = None,
    least: float | None = None,
) -> None:
    """Add the minutes until the app opens (goal: at most `most`), and each adapter's main figure (at least `least`)."""
    sheet.add(f"{name}: until the app opens", seconds / 60, most, "lower", "min")
    for card in map(read_card, adapters):
        if (found := main_figure(card)) is not None:
            field, metric, value = found
            better = "lower" if metric in LOWER_IS_BETTER else "higher"
            sheet.add(f"{name}: {card.name}, {field}.{metric}", value, least, better, "")
