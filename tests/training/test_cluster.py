"""The number of workers, and errors for a missing or too small cluster; `make soak` trains on a real one."""

from __future__ import annotations

import sys
from unittest.mock import Mock

import pytest

from vlm_ft.cluster import connected
from vlm_ft.errors import RecipeError
from vlm_ft.training.cluster import _count


@pytest.mark.parametrize(
    ("workers", "gpus", "cpus", "count"), [(None, 4, 16, 4), (2, 4, 16, 2), (2, 0, 16, 2), (16, 0, 16, 16)]
)
def test_every_worker_has_a_gpu_if_there_are_any(workers: int | None, gpus: int, cpus: int, count: int) -> None:
    assert _count(workers, gpus, cpus) == count


def test_a_cluster_that_cannot_be_reached_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Mock(init=Mock(side_effect=ConnectionError("no node at\nnowhere:6379")))
    for name in ("ray", "ray.data", "ray.exceptions", "ray.train", "ray.train.torch"):
        monkeypatch.setitem(sys.modules, name, broken)
    with pytest.raises(
        RecipeError, match=r"--cluster: cannot be reached or started \(no node at nowhere:6379\); check"
    ):
        connected()


@pytest.mark.parametrize(
    ("workers", "gpus", "message"),
    [
        (None, 0, "the cluster has no GPU; say how many"),
        (5, 4, "5 is more than the cluster's 4 GPUs; use fewer"),
        (17, 0, "17 is more than the cluster's 16 CPUs; use fewer"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(workers: int | None, gpus: int, message: str) -> None:
    """Ray would wait for more workers to join."""
    with pytest.raises(RecipeError, match=message):
        _count(workers, gpus, cpus=16)
