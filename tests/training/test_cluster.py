"""How many workers of a cluster train; `make soak` trains on one."""

from __future__ import annotations

import pytest

from vlm_ft.errors import RecipeError
from vlm_ft.training.cluster import _count


@pytest.mark.parametrize(
    ("workers", "gpus", "cpus", "count"), [(None, 4, 16, 4), (2, 4, 16, 2), (2, 0, 16, 2), (16, 0, 16, 16)]
)
def test_every_worker_has_a_gpu_if_there_are_any(workers: int | None, gpus: int, cpus: int, count: int) -> None:
    assert _count(workers, gpus, cpus) == count


@pytest.mark.parametrize(
    ("workers", "gpus", "message"),
    [
        (None, 0, "the cluster has no GPU; say how many"),
        (5, 4, "5 exceed the cluster's 4 GPUs; use fewer"),
        (17, 0, "17 exceed the cluster's 16 CPUs; use fewer"),
    ],
)
def test_a_cluster_that_is_too_small_is_refused(workers: int | None, gpus: int, message: str) -> None:
    """Ray would wait for more workers to join."""
    with pytest.raises(RecipeError, match=message):
        _count(workers, gpus, cpus=16)
