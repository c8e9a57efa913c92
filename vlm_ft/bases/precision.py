"""The precision that a model computes in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]


def uses_bf16(precision: Precision) -> bool:
    """Whether to compute under bf16 autocast: if set to "bf16", or to "auto" on hardware that multiplies in bf16."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capable = torch.cpu.get_capabilities()
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context for forward passes in this precision; weights keep their own."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision))
