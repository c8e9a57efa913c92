"""Everything before step 0: read the data, load the base, check the lengths of the rows, attach the adapter."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from accelerate.utils import parse_flag_from_env

from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.precision import uses_bf16
from vlm_ft.bases.value_head import add_value_head
from vlm_ft.conversation import SHARED, Conversation
from vlm_ft.data.cases import Case, Dataset, class_words, load
from vlm_ft.data.checks import inspect
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.lengths import Ruler
from vlm_ft.recipe import Recipe, Training
from vlm_ft.training.attach import Attached, attach, part_rates
from vlm_ft.training.collate import Collator
from vlm_ft.training.master_weights import leave_casts_to_autocast
from vlm_ft.training.methods import Method, method_of
from vlm_ft.training.order import square_root_visits
from vlm_ft.training.projector import has_closed_values
from vlm_ft.training.rehearse import Lengths, check_lengths, take_out_undecided


@dataclass(frozen=True)
class Prepared:
    """A run that is ready to start.

    `rates` are the learning rates of the parts; `fresh` loads a new copy of the base from disk.
    """

    dataset: Dataset
    base: Base
    attached: Attached
    train: Collator
    tune: Collator | None
    lengths: Lengths
    rates: Mapping[str, float]
    fresh: Callable[[], Base]

    @property
    def conversation(self) -> Conversation:
        """Encodes the rows of the run."""
        return self.train.conversation

    @property
    def method(self) -> Method:
        """The training method."""
        return self.train.method


def prepare(
    recipe: Recipe, splits_file: Path | None = None, *, check: bool = False, known: Dataset | None = None
) -> Prepared:
    """Read the data, load the base, check every row's length, and attach the adapter.

    `known`: the data, if already read. With `check`, errors in the data (`vlm_ft.data.checks`) are raised before the
    base is loaded. Raises `RecipeError` for settings that exclude each other, or that FSDP or DeepSpeed does not allow.
    """
    method = method_of(recipe)
    _check_launch(recipe, method)
    dataset = known or load(recipe, splits_file)
    if check:
        inspect(dataset, recipe.name).stop_at_errors()
    method.require(dataset.cases["train"])
    if method.compares and recipe.augment != "none":
        raise RecipeError("augment", f"{method.name} compares replies to the same photos", "leave it out")
    fresh = base_loader(recipe)
    base = fresh()
    training = recipe.training
    conversation = Conversation(base.reader, training.loss_on)
    dataset = replace(dataset, form=dataset.form.with_boxes(base.boxes))

    def collator(cases: Sequence[Case], preset: str) -> Collator:
        return Collator(conversation, dataset.form, cases, preset, training.seed, method)

    train = collator(dataset.cases["train"], recipe.augment)
    tune = collator(dataset.cases["tune"], "none")
    if dropped := len(dataset.cases["train"]) - len(train.cases):
        note = f"{dropped} training examples have nothing that method {method.name} learns from"
        dataset = replace(dataset, notes=(*dataset.notes, note))
    dataset = _without_undecided(dataset, train, tune)
    lengths = check_lengths(method, dataset.form, [*train.cases, *tune.cases], Ruler(base.reader, training.max_length))
    train.lengths, tune_lengths = lengths.by_case[: len(train.cases)], lengths.by_case[len(train.cases) :]
    if training.balance:
        train.visits = square_root_visits([class_words(case.values, dataset.form) for case in train.cases])
    if training.batch_by == "tokens" and not (_uses_checkpointing(training) or torch.distributed.is_initialized()):
        train.shared = _shared(train)
    by_length = sorted(zip(tune_lengths, tune.cases, strict=True), key=lambda pair: sum(pair[0]))
    tune.cases = tuple(case for _, case in by_length)
    attached = attach(
        base, recipe.adapter, training.seed, checkpointing=_uses_checkpointing(training), start=recipe.from_adapter
    )
    if base.device.type == "cpu" and uses_bf16(training.precision) and base.dtype == torch.float32:
        leave_casts_to_autocast(attached.model)
    rates = part_rates(attached, base, recipe.adapter, training, fitted=has_closed_values(dataset.form))
    return Prepared(dataset, base, attached, train, tune if tune.cases else None, lengths, rates, fresh)


def _without_undecided(dataset: Dataset, train: Collator, tune: Collator) -> Dataset:
    """Set aside the cases that nothing can be learned from. Raises `DataError` if none is left for training."""
    aside = [*take_out_undecided(train), *take_out_undecided(tune)]
    if not train.cases:
        raise DataError(aside[0].place, aside[0].problem, f"train other fields ({len(aside)} such rows)")
    return replace(dataset, set_aside=(*dataset.set_aside, *aside))


def _shared(train: Collator) -> int:
    """The tokens at the start of every prompt that a batch computes only once, by two cases of each form."""
    first, last = dict[str, int](), dict[str, int]()
    for index, case in enumerate(train.cases):
        form = train.form.narrow(case.values).fingerprint
        first.setdefault(form, index)
        last[form] = index
    batch = train(sorted({*first.values(), *last.values()}))
    return min([int(batch.get(SHARED, 0)), *(prompt for prompt, _ in train.lengths)])


def _check_launch(recipe: Recipe, method: Method) -> None:
    """Raise `RecipeError` for a recipe that FSDP or DeepSpeed, as set up by `accelerate launch`, cannot train."""
    sharded = parse_flag_from_env("ACCELERATE_USE_FSDP")
    if sharded and method.samples:
        raise RecipeError("method", f"{method.name} samples answers, which FSDP does not allow", "use DeepSpeed")
    if sharded and recipe.quantize is not None:
        raise RecipeError("quantize", "FSDP does not shard quantized weights", "leave it out, or launch without FSDP")
    if os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3":
        raise RecipeError("zero_stage", "3 shards the weights, which vlm_ft saves from one GPU", "use 2, or FSDP")


def base_loader(recipe: Recipe) -> Callable[[], Base]:
    """A function that loads a new copy of the recipe's base on each call."""

    def fresh() -> Base:
        gc.collect()  # an earlier copy may still hold GPU memory
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        base = load_base(
            recipe.base,
            revision=recipe.revision,
            dtype=recipe.dtype,
            attention=recipe.attention,
            quantize=recipe.quantize,
            limits=recipe.limits,
        )
        if recipe.method == "reward":
            add_value_head(base.model)
        return base

    return fresh


def workers(settings: Training, dataset: Dataset) -> int:
    """The number of processes that decode and augment: the recipe's, or up to four if there are photos and cores."""
    if settings.workers is not None:
        return settings.workers
    photos = any(case.example.images for case in dataset.cases["train"])
    return min(4, (os.cpu_count() or 1) // 2) if photos else 0


def _uses_checkpointing(settings: Training) -> bool:
    return torch.cuda.is_available() if settings.checkpointing is None else settings.checkpointing
