"""Before step 0: does every row fit, and what will the run cost?"""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vlm_ft.conversation import Batch, Conversation, moved
from vlm_ft.errors import DataError
from vlm_ft.recipe import Training
from vlm_ft.training.collate import Collator
from vlm_ft.training.loss import answer_loss
from vlm_ft.training.methods import uses_bf16
from vlm_ft.training.plan import Cost

REHEARSED = 2  # steps that are timed, after one that warms up


@dataclass(frozen=True)
class Lengths:
    """Tokens of the longest row, and in all; text tokens and image tokens of the rows with the most.

    `refused`: rows whose answers the grammar does not take, learned whole.
    """

    rows: int
    longest: int
    total: int
    most_text_tokens: int
    most_image_tokens: int
    refused: int


def check_lengths(collators: Sequence[Collator], limit: int) -> Lengths:
    """Measure every row as training will read it. Raises `DataError` naming the rows that do not fit: none is cut."""
    rows = longest = total = most_text = most_image = refused = 0
    too_long: list[str] = []
    for collator in collators:
        for index, case in enumerate(collator.cases):
            rows += 1
            row = collator.row(index)
            refused += collator.conversation.refused(row)
            tokens, image_tokens = collator.conversation.lengths(row)
            longest, total = max(longest, tokens), total + tokens
            most_text, most_image = max(most_text, tokens - image_tokens), max(most_image, image_tokens)
            if tokens > limit:
                too_long.append(f"{case.example.source or case.example.id} ({tokens} tokens)")
    if too_long:
        shown = ", ".join(too_long[:3]) + (f" and {len(too_long) - 3} more" if len(too_long) > 3 else "")
        raise DataError(
            f"{len(too_long)} rows exceed {limit} tokens",
            shown,
            "raise training.max_length, lower pixels.maximum, or shorten the texts (rows are never cut)",
        )
    return Lengths(rows, longest, total, most_text, most_image, refused)


def measure(model: nn.Module, train: Collator, tune: Collator | None, settings: Training) -> Cost:
    """Time real forward and backward passes on rows from all over the set; no weight changes."""
    count = min(settings.batch_size, len(train.cases))
    features = [{"index": place * len(train.cases) // count} for place in range(count)]  # neighbours are alike
    model.train()
    steps: list[float] = []
    forwards: list[float] = []
    with torch.random.fork_rng():
        for _ in range(1 + REHEARSED):
            began = time.perf_counter()
            for _ in range(settings.accumulate):
                started = time.perf_counter()
                loss = _loss(model, train(features), train.conversation, settings.precision)
                forwards.append(_now() - started)
                loss.backward()  # type: ignore[no-untyped-call]
            steps.append(_now() - began)
            model.zero_grad(set_to_none=True)
    looks = math.ceil(len(tune.cases) / settings.batch_size) if tune is not None else 0
    return Cost(min(steps[1:]), looks * min(forwards[settings.accumulate :]), peak_memory())


def _now() -> float:
    """Seconds of a clock, with the GPU's work done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _loss(model: nn.Module, batch: Batch, conversation: Conversation, precision: str) -> Tensor:
    device = conversation.base.device
    with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision)):
        return answer_loss(model, moved(batch, device))


def peak_memory() -> int:
    """Bytes at the peak so far: of the GPU where there is one, else resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
