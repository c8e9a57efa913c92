"""The precision that a model computes in."""

from __future__ import annotations

import math
import time
from functools import cache
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]


WORTH_BF16 = 1.2  # times faster, for which a CPU gives up the precision of fp32
SHAPE = 1024, 1024, 1024  # of the matrices that are multiplied to find out
TRIES = 5


def uses_bf16(precision: Precision) -> bool:
    """Whether to compute under bf16 autocast: if set to "bf16", or to "auto" on hardware that is faster with it."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    return bool(torch.cuda.is_bf16_supported()) if torch.cuda.is_available() else _cpu_gains()


@cache
def _cpu_gains() -> bool:
    """Whether this CPU multiplies matrices faster in bf16: some have its instructions, but are slower with them."""
    import torch

    capable = torch.cpu.get_capabilities()
    if not (capable.get("avx512_bf16") or capable.get("amx_bf16")):
        return False
    rows, inner, columns = SHAPE
    best = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    for _ in range(TRIES):
        for dtype in best:
            left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best[dtype] = min(best[dtype], time.perf_counter() - started)
    return best[torch.float32] > WORTH_BF16 * best[torch.bfloat16]


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context for forward passes in this precision; weights keep their own."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision))
