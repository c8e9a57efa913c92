"""The precision in which a model computes."""

from __future__ import annotations

import json
import math
import platform
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from filelock import FileLock

from datasets_vision.errors import DataError
from datasets_vision.placing import whole_file
from vlm_ft.bases.compact import home

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16"]

MIN_SPEEDUP = 1.2  # of bf16 over fp32; for less, a CPU keeps the precision of fp32
SHAPE = 1024, 1024, 1024  # rows, inner size and columns of the matrix product that is timed
TRIES = 5


def uses_bf16(precision: Precision) -> bool:
    """Whether to compute under bf16 autocast: if set to "bf16", or to "auto" on hardware that is faster with it."""
    import torch

    if precision != "auto":
        return precision == "bf16"
    return bool(torch.cuda.is_bf16_supported()) if torch.cuda.is_available() else _cpu_gains()


@cache
def _cpu_gains() -> bool:
    """Whether this CPU multiplies matrices faster in bf16: some have the instructions, but are slower with them.

    The answer is stored in the cache folder, so that all processes, a resumed run and the service agree.
    """
    import torch

    capable = torch.cpu.get_capabilities()
    if not (capable.get("avx512_bf16") or capable.get("amx_bf16")):
        return False
    file, name = home() / "bf16.json", f"{cpu_name()}{', AMX' if capable.get('amx_bf16') else ''}"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock")):
            known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
            if name not in known:
                known[name] = _is_faster()
                with whole_file(file) as part:
                    part.write_text(json.dumps(known), encoding="utf-8")
            return bool(known[name])
    except (OSError, ValueError, DataError):  # a folder that cannot be written, or a damaged file
        return _is_faster()


def _is_faster() -> bool:
    import torch

    rows, inner, columns = SHAPE
    best = dict.fromkeys((torch.float32, torch.bfloat16), math.inf)
    for _ in range(TRIES):
        for dtype in best:
            left, right = torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype)
            started = time.perf_counter()
            torch.nn.functional.linear(left, right)
            best[dtype] = min(best[dtype], time.perf_counter() - started)
    return best[torch.float32] > MIN_SPEEDUP * best[torch.bfloat16]


def cpu_name() -> str:
    """The processor's name if the system reports it, otherwise its architecture."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """The context for forward passes in this precision; weights keep their own."""
    import torch

    return torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(precision))
