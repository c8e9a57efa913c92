"""A cluster answers every image exactly once, even if a worker is killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest

from vlm_ft.inference.engine import Engine
from vlm_ft.scoring.cluster import Cluster
from vlm_ft.scoring.score import score_folder

ray = pytest.importorskip("ray", reason="the extra [ray] is not installed")


@pytest.fixture(scope="module")
def local() -> Iterator[Any]:
    """A cluster of two CPUs on this machine."""
    root = str(Path(__file__).parents[2])
    environment = {"PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, runtime_env={"env_vars": environment})
    yield ray
    ray.shutdown()


@pytest.mark.filterwarnings("ignore::DeprecationWarning:ray", "ignore::FutureWarning:ray")
def test_every_image_is_answered_once_though_a_worker_dies(
    local: Any, run_of: Callable[..., Path], drawn: Callable[[Path, int], Path], tmp_path: Path
) -> None:
    adapter, folder = run_of("fast_vlm") / "adapter", drawn(tmp_path / "photos", 120)
    killed: list[int] = []

    def kill_one() -> None:
        deadline = time.monotonic() + 120
        while not killed and time.monotonic() < deadline:
            for process in psutil.process_iter(["cmdline"]):
                if "ray::" in " ".join(process.info["cmdline"] or []) and "Worker" in " ".join(process.info["cmdline"]):
                    time.sleep(0.5)
                    os.kill(process.pid, signal.SIGKILL)
                    killed.append(process.pid)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill_one)
    killer.start()
    cluster = Cluster(adapter, workers=2)
    report = score_folder(cluster, "trial", folder, tmp_path / "out.parquet", batch_size=8, adapter_folder=adapter)
    killer.join()
    assert killed
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert report.scored == len(rows) == len({row["path"] for row in rows}) == 120
    here = tmp_path / "here.parquet"
    score_folder(Engine.open([adapter]), "trial", folder, here, batch_size=8, adapter_folder=adapter)
    assert [row["kind"] for row in rows] == [row["kind"] for row in pq.read_table(here).to_pylist()]
