"""After training: did the adapter move, did the base stay, does the stored adapter do what the trained one does?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn

from vlm_ft.conversation import Conversation, Row, moved
from vlm_ft.errors import AdapterError

SAMPLED = 4096  # values of each base parameter that go into the checksum
TOLERANCE = 1e-3  # of a logit: two runs of the same arithmetic on other memory layouts


def checksum(model: nn.Module) -> Tensor:
    """(parameters,) sums over the first values of every parameter that is no adapter's."""
    frozen = [parameter for name, parameter in model.named_parameters() if "lora_" not in name]
    return torch.stack([p.detach().flatten()[:SAMPLED].double().sum().cpu() for p in frozen])


def adapter_state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the adapter's tensors."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if "lora_" in name}


def verify(
    model: PeftModel, folder: Path, conversation: Conversation, probe: Row, before: dict[str, Tensor], base_sum: Tensor
) -> dict[str, Any]:
    """What the card keeps as proof; the probe's logits are of its last prompt token.

    Raises `AdapterError` where no adapter tensor moved, the base changed, or the stored adapter answers otherwise
    than the trained one. Leaves `model`'s base without adapters.
    """
    after = adapter_state(model)
    moved = sum(not torch.equal(before[name], after[name]) for name in before)
    if moved == 0:
        raise AdapterError(f"adapter {folder}", f"training moved none of {len(before)} tensors", "check scope and rate")
    if not torch.equal(checksum(model), base_sum):
        raise AdapterError(f"adapter {folder}", "the base's weights changed in training", "do not use it, report this")
    trained = probe_logits(model, conversation, probe)
    base = model.unload()
    bare = probe_logits(base, conversation, probe)
    reloaded_model = PeftModel.from_pretrained(base, str(folder))
    reloaded = probe_logits(reloaded_model, conversation, probe)
    reloaded_model.unload()
    change, drift = float((reloaded - bare).abs().max()), float((reloaded - trained).abs().max())
    if change == 0:
        raise AdapterError(f"adapter {folder}", "loads but changes no logit of the probe", "do not use it, report this")
    if drift > TOLERANCE * max(1.0, float(trained.abs().max())):
        raise AdapterError(f"adapter {folder}", f"reloaded logits differ by {drift:.3g}", "do not use it, report this")
    return {"tensors_moved": moved, "tensors": len(before), "probe_change": change, "reload_difference": drift}


def probe_logits(model: nn.Module, conversation: Conversation, row: Row) -> Tensor:
    """(vocabulary,) logits after the row's prompt, in float32."""
    model.eval()
    batch = moved(conversation.encode([row]), conversation.base.device)
    with torch.inference_mode():
        logits: Tensor = model(**batch).logits
    return logits[0, -1].float().cpu()
