"""Compute answers on a Ray cluster, with one engine in each worker.

Only the process that started the run writes the ledger, so an image whose worker dies is retried and still gets one
row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from vlm_ft.adapters import Card, read_card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.cluster import connected, cpus, gpus
from vlm_ft.errors import AdapterError, cause
from vlm_ft.scoring.answering import answered
from vlm_ft.scoring.ledger import Entry, Row
from vlm_ft.scoring.units import Photos, Texts, open_unit

if TYPE_CHECKING:
    from vlm_ft.inference.engine import Engine

_ENTRY = pa.schema([("path", pa.string()), ("content", pa.binary()), ("digest", pa.string())])
_ROW = pa.schema(
    [
        ("path", pa.string()),
        ("digest", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("prediction", pa.string()),
    ]
)


@dataclass(frozen=True)
class Cluster:
    """The workers of a Ray cluster, for the adapter in `folder`: the cluster that RAY_ADDRESS names, or a local one.

    `workers` is their number; by default one per GPU, or one per CPU if there are none. Folders must be reachable from
    every worker under the same path.
    """

    folder: Path
    base: str | None = None
    workers: int | None = None

    @cached_property
    def cards(self) -> Mapping[str, Card]:
        """The card of the adapter, by its name."""
        card = read_card(self.folder)
        return {card.name: card}

    def answers(
        self, source: Photos | Texts, entries: Iterable[Entry], adapter: str, batch_size: int
    ) -> Iterator[list[Row]]:
        """The rows of these entries, a batch at a time, in the order in which they are finished.

        Raises `AdapterError` if a worker cannot load the adapter, or repeatedly fails on an image.
        """
        tables = [pa.Table.from_pylist(rows, schema=_ENTRY) for rows in _batches(entries, batch_size)]
        if not tables:
            return
        ray = connected()
        found = gpus(ray)
        workers = min(self.workers or found or cpus(ray), len(tables))
        answers = ray.data.from_arrow(tables).map_batches(
            _Worker,
            fn_constructor_args=(source, self.folder.resolve(), _absolute(self.base), adapter, batch_size),
            batch_size=batch_size,
            batch_format="pyarrow",
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_gpus=1 if found else None,
        )
        try:
            for table in answers.iter_batches(batch_size=None, batch_format="pyarrow"):
                columns = table.to_pylist()
                yield [Row(**{**row, "prediction": Prediction.from_json(row["prediction"])}) for row in columns]
        except ray.exceptions.RayError as error:
            remedy = "check that every worker reaches the adapter, its base and the photos under the same paths"
            raise AdapterError(f"adapter {self.folder}", f"a worker failed ({cause(error)})", remedy) from error


def _absolute(base: str | None) -> str | None:
    """A base's folder as an absolute path, since each worker runs in its own folder; a name is unchanged."""
    return str(Path(base).resolve()) if base is not None and Path(base).is_dir() else base


class _Worker:
    """Answers entries with its own engine."""

    def __init__(self, source: Photos | Texts, folder: Path, base: str | None, adapter: str, batch_size: int) -> None:
        from vlm_ft.inference.engine import Engine

        self._source, self._adapter = source, adapter
        self._engine: Engine = Engine.open([folder], base=base, batch_size=batch_size)

    def __call__(self, entries: pa.Table) -> pa.Table:
        """The rows of these entries."""
        units = [(self._source.unit(Entry(stamp=None, **entry)), entry["digest"]) for entry in entries.to_pylist()]
        rows = answered([open_unit(unit, known) for unit, known in units], self._engine, self._adapter)
        columns = [(row.path, row.digest, row.width, row.height, row.prediction.to_json()) for row in rows]
        return pa.Table.from_pylist([dict(zip(_ROW.names, each, strict=True)) for each in columns], schema=_ROW)


def _batches(entries: Iterable[Entry], size: int) -> Iterator[list[dict[str, Any]]]:
    """The entries as Ray's blocks; one worker answers each."""
    source = iter(entries)
    while batch := list(islice(source, size)):
        yield [{"path": entry.path, "content": entry.content, "digest": entry.digest} for entry in batch]
