"""A cluster answers every image once, even if a worker is killed, and trains like one process.

Run it with ``pytest tests/soak/cluster.py``.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from tests.soak.scoring import drawn
from tests.training.processes import (
    PROCESSES,
    check,
    fail_in_the_second,
    recipes_of,
    train_noting_writes,
    written_files,
)
from vlm_ft.errors import DataError
from vlm_ft.inference.engine import Engine
from vlm_ft.recipe import Recipe
from vlm_ft.scoring.cluster import Cluster
from vlm_ft.scoring.ledger import Ledger
from vlm_ft.scoring.score import score_folder
from vlm_ft.training.cluster import on_workers

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A cluster of two CPUs on this machine."""
    root = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    yield ray
    ray.shutdown()


def test_every_image_is_answered_once_even_if_a_worker_dies(
    local: Any,
    run_of: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    adapter, folder = run_of("fast_vlm") / "adapter", drawn(tmp_path / "photos", 120)
    recorded: list[str] = []
    killed: list[int] = []
    record = Ledger.record

    def noted(self: Ledger, rows: Any) -> None:
        rows = list(rows)
        recorded.extend(row.path for row in rows)
        record(self, rows)
        if not killed:
            killed.append(kill_a_worker())

    monkeypatch.setattr(Ledger, "record", noted)
    cluster = Cluster(adapter, workers=2)
    report = score_folder(cluster, "trial", folder, tmp_path / "out.parquet", batch_size=8, adapter_folder=adapter)
    assert killed
    assert len(recorded) == len(set(recorded)) == report.scored == 120
    monkeypatch.setattr(Ledger, "record", record)
    here = tmp_path / "here.parquet"
    score_folder(Engine.open([adapter]), "trial", folder, here, batch_size=8, adapter_folder=adapter)
    tables = [pq.read_table(file).to_pylist() for file in (tmp_path / "out.parquet", here)]
    assert [row["kind"] for row in tables[0]] == [row["kind"] for row in tables[1]]


def test_two_workers_train_like_one_process_and_only_the_first_writes(
    local: Any, recipe_of: Callable[..., Recipe], tmp_path: Path
) -> None:
    files, out = written_files(recipes_of(recipe_of, tmp_path, accumulate=1), tmp_path), tmp_path / "runs"
    on_workers(partial(train_noting_writes, out, files), PROCESSES)
    check(recipes_of(recipe_of, tmp_path, PROCESSES), out)


def test_an_error_of_one_worker_ends_all_of_them(local: Any) -> None:
    with pytest.raises(DataError, match=r"photo\.png: 0 bytes; copy it again"):
        on_workers(fail_in_the_second, PROCESSES)


def kill_a_worker() -> int:
    """Send SIGKILL to one of the answering processes, which are descendants of this one; returns its PID."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "Worker" in " ".join(process.cmdline()) and "ray::" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                return int(process.pid)
    raise AssertionError("no worker is running")
