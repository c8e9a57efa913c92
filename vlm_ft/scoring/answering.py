"""Turns listed entries into rows of the table, one batch at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from vlm_ft.answers.prediction import Prediction
from vlm_ft.inference.request import Predictor, Request
from vlm_ft.scoring.ledger import Entry, Row
from vlm_ft.scoring.units import Decode, Opened, Photos, Texts, decoded_here, open_unit

In = TypeVar("In")
Out = TypeVar("Out")

READERS = 2
"""Threads that read and decode images while others are answered."""

ASKING = 2
"""Batches in progress: one is preprocessed while the other is answered."""

BATCH_PIXELS = 200_000_000
"""A batch holds no more decoded pixels than this (600 MB), plus one image."""


def answers_here(
    predictor: Predictor,
    source: Photos | Texts,
    entries: Iterable[Entry],
    adapter: str,
    batch_size: int,
    decode: Decode = decoded_here,
) -> Iterator[list[Row]]:
    """The rows of these entries, batch by batch, while the next ones are read, decoded and preprocessed."""
    opened = _in_order(lambda entry: open_unit(source.unit(entry), entry.digest, decode), entries, READERS, batch_size)
    ask = partial(answered, predictor=predictor, adapter=adapter)
    yield from _in_order(ask, _batches(opened, batch_size), ASKING, ASKING - 1)


def answered(batch: Sequence[Opened], predictor: Predictor, adapter: str) -> list[Row]:
    """The rows of a batch, in order."""
    asked = {item.path: item for item in batch if not item.error}
    requests = [Request(images=item.images, turns=item.turns, adapter=adapter) for item in asked.values()]
    answers = dict(zip(asked, predictor.predict(requests), strict=True)) if requests else {}
    rows = []
    for item in batch:
        width, height = item.images[0].size if item.images else (None, None)
        answer = Prediction.failed(item.error) if item.error else answers[item.path]
        rows.append(Row(item.path, item.digest, width, height, answer))
    return rows


def _in_order(work: Callable[[In], Out], items: Iterable[In], threads: int, ahead: int) -> Iterator[Out]:
    """The results in order; work on up to `ahead` items begins before their results are needed."""
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[Out]] = deque()
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _batches(opened: Iterable[Opened], size: int) -> Iterator[list[Opened]]:
    batch: list[Opened] = []
    pixels = 0
    for item in opened:
        batch.append(item)
        pixels += item.pixels
        if len(batch) >= size or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch
