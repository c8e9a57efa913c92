"""Before step 0: check that every row fits, and measure what the run will cost."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from datasets_vision.images import image_size
from vlm_ft.bases.precision import Precision, autocast
from vlm_ft.conversation import Batch, moved
from vlm_ft.data.cases import Case
from vlm_ft.errors import DataError
from vlm_ft.lengths import Ruler
from vlm_ft.recipe import Training
from vlm_ft.training.collate import Collator
from vlm_ft.training.plan import Cost

TIMED_STEPS = 2  # after one step to warm up


@dataclass(frozen=True)
class Lengths:
    """The number of rows, the tokens of the longest one and of all, and the most text and image tokens of a row.

    `most_images` is the most images of a case; `most_pixels` the most pixels that the base sees of an image.
    """

    rows: int
    longest: int
    total: int
    most_text_tokens: int
    most_image_tokens: int
    most_images: int
    most_pixels: int


def check_lengths(collator: Collator, cases: Sequence[Case], ruler: Ruler) -> Lengths:
    """Measure every row as training will encode it, reading only the headers of its photos.

    Raises `DataError` naming the rows that are too long; rows are never cut.
    """
    found: list[tuple[int, int]] = []
    too_long: list[str] = []
    images = pixels = 0
    for case in cases:
        sizes = [image_size(image) for image in case.example.images]
        images = max(images, len(sizes))
        pixels = max([pixels, *(math.prod(size) for size in sizes)])
        for row in collator.method.rows(collator.form, case, (), case.values):
            found.append(ruler.lengths(row.form, row.turns, sizes, row.target or ""))
            if found[-1][0] > ruler.limit:
                too_long.append(f"{case.example.source or case.example.id} ({found[-1][0]} tokens)")
    if too_long:
        shown = ", ".join(too_long[:3]) + (f" and {len(too_long) - 3} more" if len(too_long) > 3 else "")
        raise DataError(
            f"{len(too_long)} rows exceed {ruler.limit} tokens",
            shown,
            "raise training.max_length, lower pixels.maximum, or shorten the texts (rows are never cut)",
        )
    return Lengths(
        rows=len(found),
        longest=max(tokens for tokens, _ in found),
        total=sum(tokens for tokens, _ in found),
        most_text_tokens=max(tokens - image_tokens for tokens, image_tokens in found),
        most_image_tokens=max(image_tokens for _, image_tokens in found),
        most_images=images,
        most_pixels=min(pixels, ruler.most_pixels or pixels),
    )


def measure(model: nn.Module, train: Collator, tune: Collator | None, settings: Training) -> Cost:
    """Time real forward and backward passes on rows from across the set, without changing a weight.

    The model must be set up as for training, including activation checkpointing.
    """
    count = min(settings.batch_size, len(train.cases))
    features = [{"index": place * len(train.cases) // count} for place in range(count)]  # neighbours are similar
    model.train()
    steps: list[float] = []
    forwards: list[float] = []
    with torch.random.fork_rng():
        for _ in range(1 + TIMED_STEPS):
            began = time.perf_counter()
            for _ in range(settings.accumulate):
                started = time.perf_counter()
                loss = _loss(model, train, train(features), settings.precision)
                forwards.append(_now() - started)
                loss.backward()  # type: ignore[no-untyped-call]
            steps.append(_now() - began)
            model.zero_grad(set_to_none=True)
    tune_batches = math.ceil(len(tune.cases) / settings.batch_size) if tune is not None else 0
    return Cost(min(steps[1:]), tune_batches * min(forwards[settings.accumulate :]), peak_memory())


def _now() -> float:
    """The time in seconds, once the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _loss(model: nn.Module, collator: Collator, batch: Batch, precision: Precision) -> Tensor:
    device = next(model.parameters()).device
    with autocast(device, precision):
        return collator.method.loss(model, moved(batch, device), None)


def peak_memory() -> int:
    """Peak memory so far, in bytes: on the GPU if there is one, otherwise resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
