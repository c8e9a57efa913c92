"""The loss of supervised training: how surprising the right tokens are among those that could be written."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from trl import SFTTrainer

from vlm_ft.conversation import CHOICES, IGNORED, Batch
from vlm_ft.decoding.grammar import narrowed


def answer_loss(model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
    """The cross-entropy of the supervised tokens, in nats, summed and divided by `count`, by default their number.

    Where the batch has choices, the probability is shared among them alone: that is what constrained decoding picks
    from, and nothing is spent on pushing down what the grammar forbids anyway. The head runs only where a row of the
    batch is supervised.
    """
    inputs = {key: value for key, value in batch.items() if key not in ("labels", CHOICES)}
    targets = functional.pad(batch["labels"][:, 1:], (0, 1), value=IGNORED)  # the token after each position
    supervised = targets != IGNORED
    heads = supervised.any(0)  # (length,)
    logits = model(**inputs, use_cache=False, logits_to_keep=heads).logits  # (batch, heads, vocabulary)
    chosen = narrowed(logits[supervised[:, heads]].float(), batch.get(CHOICES))  # (supervised, vocabulary)
    total = functional.cross_entropy(chosen, targets[supervised], reduction="sum")
    return total / torch.as_tensor(supervised.sum() if count is None else count).clamp(min=1)


class AnswerTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer under `answer_loss`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.model_accepts_loss_kwargs = True  # else some families' steps are means of their parts' means

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The mean over the supervised tokens of all rows of a step, whatever their parts and processes."""
        loss = answer_loss(model, inputs, num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # their gradients are averaged
        return loss
