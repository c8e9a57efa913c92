"""Supervised fine-tuning: the cross-entropy of the answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.conversation import CHOICES, IGNORED, SECOND, SHARES, SUPERVISION, Batch, Row
from vlm_ft.data.cases import Case
from vlm_ft.decoding.prefix import forward_after_prefix, shared_length
from vlm_ft.decoding.tokens import narrowed
from vlm_ft.errors import DataError
from vlm_ft.training.methods.method import Images, Method


def _rows(form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
    """One row: a prompt that asks for the observed fields, and their answer."""
    asked = form.narrow(values)
    return (Row(asked, case.example.turns, tuple(images), asked.target(values)),)


def answer_loss(model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
    """The cross-entropy of the supervised tokens, in nats, summed and divided by `count`, by default their number.

    If the batch has choices, the softmax runs over these alone: constrained decoding picks from them, and no capacity
    is spent on suppressing tokens that the grammar forbids anyway. A target may be shared between two tokens. The head
    runs only at positions that some row of the batch supervises. A prefix that all prompts share is computed once if
    the family supports it.
    """
    inputs = {key: value for key, value in batch.items() if key not in SUPERVISION}
    targets = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)  # the token after each position
    supervised = targets != IGNORED
    heads = supervised.any(0)  # (length,)
    if shared := shared_length(model, batch):
        logits = forward_after_prefix(model, inputs, shared, heads).logits
    else:
        logits = model(**inputs, use_cache=False, logits_to_keep=heads).logits  # (batch, heads, vocabulary)
    chosen = narrowed(logits[supervised[:, heads]].float(), batch.get(CHOICES))  # (supervised, vocabulary)
    surprise = functional.cross_entropy(chosen, targets[supervised], reduction="none")
    if SHARES in batch:
        surprise = surprise.lerp(functional.cross_entropy(chosen, batch[SECOND], reduction="none"), batch[SHARES])
    return surprise.sum() / torch.as_tensor(supervised.sum() if count is None else count).clamp(min=1)


def _require(cases: Sequence[Case]) -> None:
    if not any(case.values for case in cases):
        raise DataError("method sft", "no training example states an answer", "check the labels")


SFT = Method(name="sft", rows=_rows, loss=answer_loss, require=_require)
