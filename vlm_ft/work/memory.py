"""`Need`: the memory that a job is expected to take, and whether this machine has it to spare."""

from __future__ import annotations

from typing import Self

import psutil

from vlm_ft.answers.kinds import Strict

PROCESS = 600_000_000
"""Bytes of a process without a base that are its own: the libraries' files are in memory once for all processes."""

GB = 1e9


class Need(Strict):
    """Bytes of this machine's memory and of its GPU's; 0 if unknown."""

    memory: int = 0
    gpu: int = 0

    @classmethod
    def of(cls, base: int, peak: int = 0) -> Self:
        """What a job on a base of so many bytes takes; `peak`: measured on this kind of device, 0 if it was not.

        Without a GPU, a peak is resident memory; with one, the memory of the tensors on it.
        """
        import torch

        if torch.cuda.is_available():
            from vlm_ft.training.memory import CUDA_CONTEXT

            return cls(memory=PROCESS + base, gpu=CUDA_CONTEXT + (peak or base))
        return cls(memory=peak or PROCESS + base)

    def lacking(self) -> str:
        """Why this machine cannot spare it now; "" if it can."""
        machine = psutil.virtual_memory()
        if self.memory > machine.available:
            return _reason("memory", self.memory, machine.available, machine.total)
        if not self.gpu:
            return ""
        import torch

        free, total = torch.cuda.mem_get_info()
        return _reason("GPU memory", self.gpu, free, total) if self.gpu > free else ""


def _reason(kind: str, needed: int, free: int, total: int) -> str:
    return f"needs about {needed / GB:.1f} GB of {kind}; {free / GB:.1f} of {total / GB:.1f} GB are free"
