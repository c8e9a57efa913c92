"""The log of a scoring job shows how far it is, without growing with the number of photos."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from vlm_ft.scoring import progress
from vlm_ft.scoring.progress import MOST_LINES, last_printed, printed
from vlm_ft.scoring.score import Progress


def test_what_is_printed_can_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    out = io.StringIO()
    show = printed(Console(file=out))
    assert last_printed("loading\n") is None
    for done in range(0, 100_001, 16):
        show(Progress(done, 100_000, 0, 3.5))
        assert last_printed(out.getvalue()) is not None
    assert last_printed(out.getvalue()) == (100_000, 100_000)
    assert len(out.getvalue().splitlines()) <= MOST_LINES + 2


def test_few_lines_are_printed_within_a_short_time() -> None:
    out = io.StringIO()
    show = printed(Console(file=out))
    for done in range(11):
        show(Progress(done, 10, 0, 3.5))
    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == ["scored 0 of 10", "scored 10 of 10"]
