"""The likelihood of supervised tokens, on which every method's loss is built."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional
from transformers import DynamicCache

from vlm_ft.bases.attention import Layers, behind
from vlm_ft.bases.families import TOKEN_TYPES, family_of
from vlm_ft.bases.features import feeding
from vlm_ft.bases.modes import inputs_of
from vlm_ft.bases.positions import positions_of
from vlm_ft.bases.shared_images import tower_once_per_image
from vlm_ft.conversation import (
    CHOICES,
    FEATURES,
    IGNORED,
    OWN_KEYS,
    SECOND,
    SHARED,
    SHARES,
    SHOWN,
    Batch,
    Conversation,
    Row,
    moved,
)
from vlm_ft.decoding.tokens import unpacked

BATCH = 16  # rows that are scored at once

Context = AbstractContextManager[Any]


def token_losses(model: Any, batch: Batch, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The cross-entropy of every supervised token in nats, and the index of its row, (supervised,) each.

    If the batch has choices, the softmax runs only over these: constrained decoding picks from them, and no capacity is
    spent on suppressing tokens that the grammar forbids anyway. A target may be split between two tokens. A prefix that
    all prompts share is computed once if the family supports it.
    """
    targets = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)  # the token after each position
    supervised = targets != IGNORED
    logits = _logits(model, batch, supervised).float() / temperature  # (supervised, vocabulary)
    if CHOICES in batch:
        logits = logits.masked_fill(~unpacked(batch[CHOICES], logits.shape[1]), float("-inf"))
    nats = functional.cross_entropy(logits, targets[supervised], reduction="none")
    if SHARES in batch:
        nats = nats.lerp(functional.cross_entropy(logits, batch[SECOND], reduction="none"), batch[SHARES])
    return nats, supervised.nonzero()[:, 0]


def log_likelihoods(model: Any, batch: Batch, temperature: float = 1.0) -> Tensor:
    """The total log-probability of each row's supervised tokens, (rows,)."""
    nats, rows = token_losses(model, batch, temperature)
    return nats.new_zeros(len(batch["labels"])).index_add(0, rows, -nats)


def scores_of(
    conversation: Conversation, rows: Sequence[Row], device: torch.device, score: Callable[[Batch], Tensor]
) -> list[float]:
    """The scores of rows with targets; `score` gives those of a batch of them, (rows,)."""
    found: list[float] = []
    for start in range(0, len(rows), BATCH):
        batch = moved(conversation.encode(rows[start : start + BATCH], supervised=True), device)
        with torch.inference_mode():
            found += score(batch).tolist()
    return found


def _logits(model: Any, batch: Batch, wanted: Tensor) -> Tensor:
    """The logits at the positions where `wanted` (rows, length) is True, (positions, vocabulary).

    The head runs only there. The tower runs once per distinct photo, or not at all if the batch has its features. A
    prefix that all rows share is computed once, unless activations are recomputed, which would fill the cache twice, or
    a wrapper expects one forward pass per step.
    """
    plain = _plain(model)
    family, kept = family_of(plain.config), wanted.any(0)  # (length,)
    inputs = {key: value for key, value in batch.items() if key not in OWN_KEYS}
    one_pass = hasattr(model, "module") or isinstance(model, FSDPModule) or plain.is_activation_checkpointing
    features: Context = feeding(plain, family, batch[FEATURES]) if FEATURES in batch else nullcontext({})
    tower: Context = nullcontext()
    if SHOWN in batch:
        tower = tower_once_per_image(plain, family, batch, batch[SHOWN].tolist())
    with features as vision, tower, _head_only_at(plain, wanted[:, kept]):
        inputs |= {**vision, "use_cache": False, "logits_to_keep": kept}
        ahead: Context = nullcontext()
        if SHARED in batch and not one_pass:
            positions, length = positions_of(model, family, inputs), batch[SHARED]
            ahead = behind([_prefix(model, inputs, length, positions)] * len(batch["labels"]))
            own = ("input_ids", "attention_mask", *TOKEN_TYPES)
            inputs |= {key: inputs[key][:, length:] for key in own if key in inputs}
            inputs |= {"position_ids": positions[..., length:], "logits_to_keep": kept[length:]}
        with ahead:
            return model(**inputs).logits[0]  # type: ignore[no-any-return]


def _prefix(model: Any, inputs: Batch, length: int, positions: Tensor) -> Layers:
    """The keys and values of the first `length` tokens, which are the same in all rows.

    Gradients flow back through them. The head is left out: autocast would convert its weights for nothing.
    """
    cache, head = DynamicCache(), model.get_output_embeddings()
    model.set_output_embeddings(nn.Identity())
    try:
        model(
            input_ids=inputs["input_ids"][:1, :length],
            position_ids=positions[..., :1, :length],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
    finally:
        model.set_output_embeddings(head)
    return [(layer.keys, layer.values) for layer in cache.layers]


@contextmanager
def _head_only_at(model: Any, wanted: Tensor) -> Iterator[None]:
    """Pass only the hidden states at these positions to the model's head, as if they were one row."""

    def gather(head: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (hidden,) = inputs  # (rows, kept, width)
        return (hidden[wanted][None],)

    handle = model.get_output_embeddings().register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()


def _plain(model: Any) -> Any:
    """The model without the wrappers of PEFT and of distributed training."""
    inner = getattr(model, "module", model)
    return inner.get_base_model() if hasattr(inner, "get_base_model") else inner


def last_hidden(model: Any, batch: Batch) -> Tensor:
    """The hidden state at the last token of each row, (rows, width); rows are padded right."""
    rows = torch.arange(len(batch["input_ids"]), device=batch["input_ids"].device)
    at = batch["attention_mask"].sum(1) - 1
    wanted = torch.zeros_like(batch["attention_mask"], dtype=torch.bool)
    wanted[rows, at] = True
    with inputs_of(_plain(model).get_output_embeddings()) as hidden:
        _logits(model, batch, wanted)
    return hidden[-1].reshape(len(rows), -1)
