"""The photos to review first are uncertain, and unlike each other and the training data."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from datasets_vision.images import find_images
from vlm_ft.errors import DataError
from vlm_ft.scoring.first import MIN_WEIGHT, farthest_first
from vlm_ft.scoring.run import score

NONE = np.zeros((0, 8), dtype=np.float32)


def clusters(count: int, members: int) -> np.ndarray:
    """Photos of `count` kinds, in turn, with small differences within a kind."""
    kinds = np.tile(np.eye(8, dtype=np.float32)[:count], (members, 1))
    return kinds + np.random.default_rng(0).normal(0, 0.01, kinds.shape).astype(np.float32)


def test_each_kind_comes_once_before_any_comes_twice() -> None:
    features = clusters(5, 6)
    chosen = farthest_first(features, np.ones(30), NONE, 10)
    assert {place % 5 for place in chosen[:5]} == set(range(5))
    assert len(set(chosen)) == len(chosen) == 10


def test_the_most_uncertain_of_a_kind_is_chosen() -> None:
    features, weights = clusters(3, 4), np.full(12, MIN_WEIGHT)
    weights[[3, 7, 11]] = 0.5  # one of each kind
    assert sorted(farthest_first(features, weights, NONE, 3)) == [3, 7, 11]


def test_kinds_that_training_has_seen_come_last() -> None:
    features = clusters(4, 2)
    chosen = farthest_first(features, np.ones(8), features[:2] * 7, 8)
    assert {place % 4 for place in chosen[:2]} == {2, 3}


def test_copies_are_not_chosen() -> None:
    features = np.repeat(clusters(3, 1), 5, axis=0)
    assert len(farthest_first(features, np.ones(15), NONE, 10)) == 3
    assert farthest_first(NONE, np.ones(0), clusters(3, 1), 10) == []


def test_a_folder_without_labels_is_put_in_order(
    run_of: Callable[..., Path], drawings: Path, tmp_path: Path, quiet: Console
) -> None:
    photos = tmp_path / "photos"
    shutil.copytree(drawings / "JPEGImages", photos / "new")
    (photos / "cut.png").write_bytes(b"no image")
    for photo in sorted(photos.rglob("scene*.png"))[:3]:
        shutil.copy(photo, photos / f"again {photo.name}")
    shutil.copy(photo, photos / os.fsdecode(b"caf\xe9.png"))  # a name that is not UTF-8
    run, first = run_of("fast_vlm"), tmp_path / "first.txt"
    score(photos, run, tmp_path / "scores.csv", first=first, console=quiet)
    chosen = first.read_text().splitlines()
    assert len(chosen) == len(set(chosen)) > 3
    assert {photos / path for path in chosen} <= set(find_images(photos)) - {photos / "cut.png"}
    names = [Path(path).name.removeprefix("again ") for path in chosen]
    assert len(names) == len(set(names))
    with pytest.raises(DataError, match="needs single photos"):
        score(photos, run, tmp_path / "cases.csv", first=first, by_case=True, console=quiet)
