"""A worker of a cluster answers like an engine; `make soak` runs a cluster, and kills a worker."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from tests.scoring.conftest import drawn
from vlm_ft.answers.prediction import Prediction
from vlm_ft.inference.engine import Engine
from vlm_ft.scoring.answering import answers_here
from vlm_ft.scoring.cluster import _ENTRY, _batches, _Worker
from vlm_ft.scoring.ledger import Row
from vlm_ft.scoring.units import Photos


def test_a_worker_answers_like_an_engine(run_of: Callable[..., Path], tmp_path: Path) -> None:
    adapter = run_of("fast_vlm") / "adapter"
    source = Photos(drawn(tmp_path / "photos", 5), by_case=False, outputs=())
    (source.folder / "broken.png").write_bytes(b"none")
    entries = list(source.entries())
    (batch,) = _batches(entries, 8)
    table = _Worker(source, adapter, None, "trial", 8)(pa.Table.from_pylist(batch, schema=_ENTRY))
    rows = [Row(**{**row, "prediction": Prediction.from_json(row["prediction"])}) for row in table.to_pylist()]
    (expected,) = answers_here(Engine.open([adapter]), source, entries, "trial", 8)
    assert len(rows) == 6
    for row, wanted in zip(rows, expected, strict=True):
        assert replace(row, prediction=wanted.prediction) == wanted
        assert (row.prediction.values, row.prediction.error) == (wanted.prediction.values, wanted.prediction.error)
