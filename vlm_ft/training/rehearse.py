"""Before step 0: check that every row fits, and measure what the run will cost."""

from __future__ import annotations

import math
import os
import resource
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from datasets_vision.images import image_size
from datasets_vision.source import SetAside
from vlm_ft.allocator import return_freed_memory
from vlm_ft.answers.form import Form
from vlm_ft.bases.precision import Precision, autocast
from vlm_ft.conversation import SHARED, Batch, moved
from vlm_ft.data.cases import Case
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.lengths import Ruler
from vlm_ft.recipe import Training
from vlm_ft.training.collate import Collator
from vlm_ft.training.master_weights import master_weights
from vlm_ft.training.methods import Method
from vlm_ft.training.order import ByLength, computed
from vlm_ft.training.plan import Cost

GIB = 2**30
OFFLOAD = "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE"  # as accelerate launch passes on DeepSpeed's setting
TIMED_STEPS = 2  # after one warm-up step


@dataclass(frozen=True)
class Lengths:
    """The number of rows, the tokens of the longest one and of all, and the most text and image tokens of a row.

    `by_case` are the tokens of each case's prompt and longest answer; `most_images` is the most images of a case;
    `most_pixels` the most pixels of an image.
    """

    by_case: tuple[tuple[int, int], ...]
    rows: int
    longest: int
    total: int
    most_text_tokens: int
    most_image_tokens: int
    most_images: int
    most_pixels: int


def check_lengths(method: Method, form: Form, cases: Sequence[Case], ruler: Ruler) -> Lengths:
    """Measure every row as training will encode it, reading only the headers of its photos.

    Raises `DataError` naming the rows that are too long; rows are never cut.
    """
    found: list[tuple[int, int]] = []
    by_case: list[tuple[int, int]] = []
    too_long: list[str] = []
    images = pixels = 0
    for case in cases:
        sizes = [image_size(image) for image in case.example.images]
        images = max(images, len(sizes))
        pixels = max([pixels, *(math.prod(size) for size in sizes)])
        longest = 0, 0
        for row in method.rows(form, case, (), case.values):
            prompt, image_tokens = ruler.prompt(row.form, row.turns, sizes)
            answer = ruler.answer(row.form, row.turns, sizes, row.target) if row.target else 0
            longest = max(longest, (prompt, answer))
            found.append((prompt + answer, image_tokens))
            if prompt + answer > ruler.limit:
                too_long.append(f"{case.example.source or case.example.id} ({prompt + answer} tokens)")
        by_case.append(longest)
    if too_long:
        shown = ", ".join(too_long[:3]) + (f" and {len(too_long) - 3} more" if len(too_long) > 3 else "")
        raise DataError(
            f"{len(too_long)} rows exceed {ruler.limit} tokens",
            shown,
            "raise training.max_length, lower pixels.maximum, or shorten the texts (rows are never cut)",
        )
    return Lengths(
        by_case=tuple(by_case),
        rows=len(found),
        longest=max(tokens for tokens, _ in found),
        total=sum(tokens for tokens, _ in found),
        most_text_tokens=max(tokens - image_tokens for tokens, image_tokens in found),
        most_image_tokens=max(image_tokens for _, image_tokens in found),
        most_images=images,
        most_pixels=pixels,
    )


def take_out_undecided(collator: Collator) -> list[SetAside]:
    """Remove the cases whose answers have no supervised token from the collator, and return them."""
    method, conversation = collator.method, collator.conversation
    kept, aside = list[Case](), list[SetAside]()
    for case in collator.cases:
        if all(map(conversation.supervises, method.rows(collator.form, case, (), case.values))):
            kept.append(case)
        else:
            place = case.example.source or case.example.id
            aside.append(SetAside(place, "each field of its answer has a single option"))
    collator.cases = tuple(kept)
    return aside


def measure(model: nn.Module, train: Collator, tune: Collator | None, settings: Training) -> Cost:
    """Time real forward and backward passes on typical batches, after one on the longest, without changing any weight.

    The model must be set up as for training, including activation checkpointing. Raises `RecipeError` if there is too
    little memory for a batch, or for the moments of AdamW, which the first step adds to the peak. A CPU's memory is
    checked before the longest batch too, since the system ends a process that takes too much.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    before = peak_memory()
    try:
        with master_weights(model, settings.precision):
            shortest, longest, *typical = _batches(train.order(settings))
            long = train(longest)
            if not torch.cuda.is_available() and "input_ids" in long:  # otherwise, answers are yet to be sampled
                _check_longest(model, train, settings, train(shortest), train(typical[0]), long)
            steps, forwards = _timed(model, train, settings, long, typical)
            added = moment_bytes(model)
    except torch.OutOfMemoryError as error:
        problem = f"{settings.batch_size} rows do not fit into the GPU's memory"
        raise RecipeError("training.batch_size", problem, "lower it, and raise training.accumulate instead") from error
    peak, usable = peak_memory(), usable_memory()
    used = peak if peak > before else _resident()  # an earlier peak says nothing about these steps
    if used + added > usable:
        problem = f"a step takes {used / GIB:.2f} GiB, and AdamW {added / GIB:.2f}, of {usable / GIB:.2f} available"
        raise RecipeError("training", problem, "train fewer weights (adapter), or lower batch_size")
    tune_batches = math.ceil(len(tune.cases) / settings.batch_size) if tune is not None else 0
    return Cost(statistics.mean(steps), tune_batches * statistics.mean(forwards), peak + added)


def _check_longest(
    model: nn.Module, train: Collator, settings: Training, short: Batch, usual: Batch, long: Batch
) -> None:
    """Raise `RecipeError` if the longest batch would not fit into a CPU's memory.

    What the backward pass needs grows linearly with a batch's positions; the shortest and a typical batch show how.
    """
    model.train()
    needed = list[int]()
    with torch.random.fork_rng():
        for batch in (short, usual):
            with saved_for_backward() as saved:
                batch_loss(model, train, batch, settings.precision)
            needed.append(sum(saved.values()))
    grown, steps = needed[1] - needed[0], _positions(usual) - _positions(short)
    slope = grown / steps if steps > 0 else needed[1] / _positions(usual)
    return_freed_memory()  # so that it counts as available
    expected = needed[1] + slope * (_positions(long) - _positions(usual))
    available = psutil.virtual_memory().available
    if expected > available:
        problem = f"the longest batch takes about {expected / GIB:.1f} GiB, of {available / GIB:.1f} available"
        remedy = "lower it and raise training.accumulate, or set training.batch_by: tokens"
        raise RecipeError("training.batch_size", problem, remedy)


def _positions(batch: Batch) -> int:
    rows, width = batch["input_ids"].shape
    return computed(rows, width, int(batch.get(SHARED, 0)))


@contextmanager
def saved_for_backward() -> Iterator[dict[int, int]]:
    """The bytes of each storage that the forward passes within keep for the backward pass, by its address."""
    saved = dict[int, int]()

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor.detach()  # an output would hold the node that holds it, forever

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        yield saved


def _timed(
    model: nn.Module, train: Collator, settings: Training, longest: Batch, typical: Sequence[Sequence[int]]
) -> tuple[list[float], list[float]]:
    """The seconds of each step on typical batches and of each of its forward passes, after a step on the longest."""
    model.train()
    steps: list[float] = []
    forwards: list[float] = []
    with torch.random.fork_rng():
        for _ in range(settings.accumulate):
            batch_loss(model, train, longest, settings.precision).backward()  # type: ignore[no-untyped-call]
        model.zero_grad(set_to_none=True)
        for cases in typical:
            began = _now()
            for _ in range(settings.accumulate):
                started = time.perf_counter()
                loss = batch_loss(model, train, train(cases), settings.precision)
                forwards.append(_now() - started)
                loss.backward()  # type: ignore[no-untyped-call]
            steps.append(_now() - began)
            model.zero_grad(set_to_none=True)
    return steps, forwards


def _batches(order: ByLength) -> list[list[int]]:
    """The shortest batch, the longest, which takes the most memory, and those whose lengths are nearest to the mean."""
    batches = order.batches()
    mean = statistics.mean(map(order.tokens, batches))
    typical = sorted(batches, key=lambda batch: abs(order.tokens(batch) - mean))
    return [min(batches, key=order.tokens), max(batches, key=order.tokens), *(typical * TIMED_STEPS)[:TIMED_STEPS]]


def _now() -> float:
    """The time in seconds, once the GPU has finished its work."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def batch_loss(model: nn.Module, collator: Collator, batch: Batch, precision: Precision) -> Tensor:
    """The method's loss of a batch from the collator, on the model's device and in this precision."""
    device = next(model.parameters()).device
    with autocast(device, precision):
        return collator.method.loss(model, moved(batch, device), None)


def moment_bytes(model: nn.Module) -> int:
    """The bytes of AdamW's two moments on the device of this process.

    FSDP and DeepSpeed divide them among all processes, or offload them.
    """
    if parse_flag_from_env("FSDP_OFFLOAD_PARAMS") or os.environ.get(OFFLOAD, "none") != "none":
        return 0
    whole = 2 * sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    divided = any(map(parse_flag_from_env, ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")))
    return whole // (PartialState().num_processes if divided else 1)


def usable_memory() -> int:
    """Bytes that this process has and can still get: on the GPU if there is one, otherwise in the machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved()
    return int(psutil.virtual_memory().available) + _resident()


def _resident() -> int:
    return int(psutil.Process().memory_info().rss)


def peak_memory() -> int:
    """Peak memory so far, in bytes: on the GPU if there is one, otherwise resident in this process."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
