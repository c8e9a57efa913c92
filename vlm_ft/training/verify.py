"""Check a finished run: trained weights moved, frozen ones did not, and the saved files reproduce the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vlm_ft.adapters import CONFIG
from vlm_ft.bases.fp32 import see_in_fp32
from vlm_ft.bases.load import Base
from vlm_ft.card_base import with_adapter
from vlm_ft.conversation import Conversation, Row, moved
from vlm_ft.errors import AdapterError

SAMPLED = 4096  # values of each tensor that are compared
TOLERANCES = {torch.float32: 1e-3}
"""The largest difference between logits, relative to the largest logit, of runs with different memory layouts."""
COARSE = 3e-2
"""The same for weights of 16 bits or fewer: 2**-8 at each of about a dozen successive roundings."""


@dataclass(frozen=True)
class Proof:
    """The record for the card: how many of the trained tensors moved, and the largest differences between logits.

    `probe_change`: between the saved adapter and the bare base; `reload_difference`: between it and the trained model.
    """

    tensors_moved: int
    tensors: int
    probe_change: float
    reload_difference: float


def checksum(model: nn.Module) -> Tensor:
    """Sums over the first values of every frozen parameter and every buffer, rounded to bf16, (tensors,).

    bitsandbytes rounds the biases of 4-bit layers to the dtype of their inputs, in place, at the first forward pass.
    """
    frozen = [p for p in model.parameters() if not p.requires_grad]
    sampled = map(_first_values, [*frozen, *model.buffers()])
    return torch.stack([(t.bfloat16() if t.is_floating_point() else t).double().sum().cpu() for t in sampled])


def trained_values(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the first values of every trained tensor; a copy of all values may take as much memory as the base."""
    return {name: _first_values(p).clone() for name, p in model.named_parameters() if p.requires_grad}


def _first_values(tensor: Tensor) -> Tensor:
    """The first values of the tensor, (values,); if FSDP has sharded it, of the tensor that its shards make up."""
    whole = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return whole.detach().flatten()[:SAMPLED]


@dataclass(frozen=True)
class Witness:
    """What is kept of the trained model once it is freed: the probe's logits, and how many of the tensors moved."""

    logits: Tensor
    moved: int
    tensors: int


def witness(
    model: nn.Module,
    folder: Path,
    conversation: Conversation,
    probe: Row,
    before: dict[str, Tensor],
    frozen: Tensor,
) -> Witness:
    """Check that trained tensors moved and frozen ones did not, and compute the logits after the probe's prompt.

    Raises `AdapterError` if no trained tensor moved, or a frozen one did.
    """
    parameters = dict(model.named_parameters())
    after = ((value, _first_values(parameters[name])) for name, value in before.items())
    moved_count = sum(not torch.equal(value.to(now), now) for value, now in after)
    if moved_count == 0:
        raise AdapterError(folder, f"training changed none of {len(before)} tensors", "check adapter and learning_rate")
    if not torch.equal(checksum(model), frozen):
        raise AdapterError(folder, "frozen weights changed during training", "do not use it, and report this")
    return Witness(probe_logits(model, conversation, probe), moved_count, len(before))


def verify(seen: Witness, folder: Path, conversation: Conversation, probe: Row, base: Base) -> Proof:
    """Compare the trained model with the saved one, loaded onto a fresh copy of the base.

    Raises `AdapterError` if the saved adapter changes nothing, or its logits differ from those of the trained model.
    """
    bare = probe_logits(base.model, conversation, probe)
    reloaded = probe_logits(load_saved(base, folder), conversation, probe)
    change, drift = float((reloaded - bare).abs().max()), float((reloaded - seen.logits).abs().max())
    if change == 0:
        raise AdapterError(folder, "loads, but does not change the probe's logits", "do not use it, and report this")
    tolerance = COARSE if base.quantized else TOLERANCES.get(base.dtype, COARSE)
    if drift > tolerance * max(1.0, float(seen.logits.abs().max())):
        raise AdapterError(folder, f"reloaded logits differ by {drift:.3g}", "do not use it, and report this")
    return Proof(seen.moved, seen.tensors, change, drift)


def load_saved(base: Base, folder: Path) -> nn.Module:
    """The model saved in the folder: the base with the adapter, or a whole model."""
    if (folder / CONFIG).is_file():
        return with_adapter(base.model, folder)  # type: ignore[no-any-return]
    model: nn.Module = type(base.model).from_pretrained(folder, dtype=base.dtype).to(base.device)
    see_in_fp32(model, base.family)
    return model


def probe_logits(model: nn.Module, conversation: Conversation, row: Row) -> Tensor:
    """The logits after the row's prompt, (vocabulary,), in float32."""
    model.eval()
    batch = moved(conversation.encode([row]), next(model.parameters()).device)
    with torch.inference_mode():
        logits: Tensor = model(**batch).logits
    return logits[0, -1].float().cpu()
