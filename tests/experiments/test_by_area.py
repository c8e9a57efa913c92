"""Recall by area counts small and large objects separately, and compares whole and tiled photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from datasets_vision.source import Source
from vlm_ft.answers.kinds import Items
from vlm_ft.errors import DataError
from vlm_ft.experiments.by_area import quantile_bins, recall_by_area
from vlm_ft.experiments.tiled import Comparison, compare_tiling
from vlm_ft.recipe import Tiling
from vlm_ft.tasks import TASKS

KIND = TASKS["product_defects"].fields[2].kind
assert isinstance(KIND, Items)

SMALL, MEDIUM, LARGE = [0, 0, 20, 20], [100, 100, 160, 160], [300, 300, 600, 600]


def item(box: list[int], kind: str = "pit") -> dict[str, object]:
    return {"kind": kind, "box": box}


def test_each_size_has_its_own_recall():
    truths = [[item(SMALL), item(MEDIUM), item(LARGE)]] * 3 + [[item(SMALL)]]
    answers = [[item(MEDIUM), item(LARGE)], [item(LARGE)], [item(SMALL), item(MEDIUM, "scratch"), item(LARGE)], None]
    found = {row.name: row for row in recall_by_area(KIND, truths, answers, [(1000, 1000)] * 4)}
    assert {name: (row.found, row.objects) for name, row in found.items()} == {
        "small": (1, 4),
        "medium": (1, 3),
        "large": (3, 3),
    }
    assert all(row.low <= row.recall <= row.high for row in found.values())
    assert found["large"].low < 0.5  # three of three prove little
    unnamed = recall_by_area(KIND, truths, answers, [(1000, 1000)] * 4, named=False)
    assert [row.found for row in unnamed] == [1, 2, 3]


def test_the_area_is_in_pixels_of_the_photo():
    (small, medium, large) = recall_by_area(KIND, [[item(SMALL)]], [[]], [(4000, 3000)])
    assert [row.objects for row in (small, medium, large)] == [0, 1, 0]
    assert (small.recall, medium.recall) == (None, 0.0)


def test_quantiles_hold_equal_numbers():
    truths = [[item([0, 0, side, side]) for side in range(10, 110)]]
    bins = quantile_bins(truths, [(1000, 1000)], "box")
    assert [row.objects for row in recall_by_area(KIND, truths, truths, [(1000, 1000)], bins=bins)] == [25] * 4
    assert quantile_bins([[]], [(9, 9)], "box")


def test_whole_and_tiled_photos_are_compared(
    untrained_run_of: Callable[..., Path], drawings: Path, quiet: Console, tmp_path
):
    run = untrained_run_of("qwen3_vl", fields=["passed", "findings.kind", "findings.box"])
    source, tiling = Source(path=drawings, limit=3), Tiling(side=48, overlap=16)
    found = compare_tiling(run, source, tiling, tmp_path / "out", console=quiet)
    assert Comparison.model_validate_json((tmp_path / "out" / "tiling.json").read_text()) == found
    assert set(found.ways) == {"whole", "tiled"}
    for way in found.ways.values():
        assert sum(row.objects for row in way.coco) == found.objects
    assert "| seconds per photo |" in (tmp_path / "out" / "tiling.md").read_text()


def test_an_adapter_without_boxes_is_refused(run_of: Callable[..., Path], drawings: Path, quiet: Console, tmp_path):
    run = run_of("qwen3_vl")
    with pytest.raises(DataError, match="no requested field is a list with boxes"):
        compare_tiling(run, Source(path=drawings), Tiling(side=48, overlap=16), tmp_path, console=quiet)
