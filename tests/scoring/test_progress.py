"""The progress of scoring is printed and kept for other processes, without growing with the number of photos."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from vlm_ft.scoring import progress
from vlm_ft.scoring.progress import MOST_TIMES, read_progress, shown
from vlm_ft.scoring.score import Progress


def test_what_is_kept_can_be_read_at_any_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    for name, terminal in (("printed", False), ("drawn", True)):
        file = tmp_path / name
        assert read_progress(file) is None
        with shown(Console(file=io.StringIO(), force_terminal=terminal), file) as show:
            for done in (0, 3, 10):
                show(Progress(done, 10, 1, 3.5))
                assert read_progress(file) == Progress(done, 10, 1, 3.5)
    assert {path.name for path in tmp_path.iterdir()} == {"printed", "drawn"}


def test_many_photos_print_no_more_lines_than_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.0)
    out = io.StringIO()
    with shown(Console(file=out)) as show:
        for done in range(0, 100_001, 16):
            show(Progress(done, 100_000, 0, 3.5))
    assert MOST_TIMES / 2 < len(out.getvalue().splitlines()) <= MOST_TIMES + 2


def test_few_lines_are_printed_within_a_short_time() -> None:
    out = io.StringIO()
    with shown(Console(file=out)) as show:
        for done in range(11):
            show(Progress(done, 10, 0, 3.5))
    assert [line.split(",")[0] for line in out.getvalue().splitlines()] == ["scored 0 of 10", "scored 10 of 10"]
