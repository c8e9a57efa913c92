"""The constant part of a batch's prompts, computed once.

Rows of one form share a prefix (role, instruction, schema). It runs once, and all rows share its keys and values;
gradients flow back through them. Loss and gradient are those of the plain batch, up to the order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn import functional
from transformers import DynamicCache

from vlm_ft.bases.families import TOKEN_TYPES, family_of, image_token_of
from vlm_ft.bases.positions import positions_of

WORTH_SHARING = 16  # tokens: for fewer, the extra pass costs more than it saves


def shared_length(model: Any, batch: dict[str, Any]) -> int:
    """The number of leading tokens of a supervised, right-padded batch that can be computed once; 0 for none.

    These tokens are the same in every row, precede any image, and predict no supervised token.
    """
    ids = batch["input_ids"]  # (batch, length)
    if len(ids) < 2 or not shares(model):
        return 0
    predicts = functional.pad(batch["labels"][:, 1:] >= 0, (0, 1)).any(0)  # where the head runs
    alike = (ids == ids[:1]).all(0) & batch["attention_mask"].bool().all(0) & ~predicts
    alike &= ids[0] != image_token_of(model.config)
    length = int(alike.long().cumprod(0).sum())
    return length if length >= WORTH_SHARING else 0


def shares(model: Any) -> bool:
    """Whether this model's rows can continue from shared keys and values in training.

    They cannot if activations are recomputed (the cache would be filled twice), or inside a wrapper that expects one
    forward pass per step.
    """
    if hasattr(model, "module") or isinstance(model, FSDPModule) or getattr(model, "is_gradient_checkpointing", False):
        return False
    return reusable(model.config)


def reusable(config: Any) -> bool:
    """Whether the keys and values of a prefix are valid for every prompt that begins with it.

    They are not if the family attends to later tokens or keeps other state, or if any layer lacks full attention.
    """
    layers = getattr(config.get_text_config(), "layer_types", None) or ()
    return family_of(config).prefix_reuse and all(kind == "full_attention" for kind in layers)


def forward_after_prefix(model: Any, inputs: dict[str, Any], length: int, logits_to_keep: Tensor) -> Any:
    """Like ``model(**inputs, logits_to_keep=...)``, for right-padded rows whose first `length` tokens are the same.

    `logits_to_keep`, (row length,), is True where the head runs, which must not be at shared positions.
    """
    rows = len(inputs["input_ids"])
    positions = positions_of(model, family_of(model.config), inputs)
    cache = DynamicCache()
    with _headless(model):
        model(
            input_ids=inputs["input_ids"][:1, :length],
            position_ids=positions[..., :1, :length],
            use_cache=True,
            past_key_values=cache,
            logits_to_keep=1,
        )
    for layer in cache.layers:
        layer.keys, layer.values = (kept.expand(rows, -1, -1, -1) for kept in (layer.keys, layer.values))
    rest = {key: value[:, length:] if key in ("input_ids", *TOKEN_TYPES) else value for key, value in inputs.items()}
    return model(
        **rest,
        position_ids=positions[..., length:],
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=logits_to_keep[length:],
    )


@contextmanager
def _headless(model: Any) -> Iterator[None]:
    """Leave out the head, whose weights autocast would convert for nothing: the prefix predicts no supervised token."""
    head = model.get_output_embeddings()
    model.set_output_embeddings(nn.Identity())
    try:
        yield
    finally:
        model.set_output_embeddings(head)
