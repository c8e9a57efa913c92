"""How this process takes memory from the system."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for what is allocated next; elsewhere, nothing changes.

    By default a large block returns to the system when it is freed, and the next tensor of that size pays for its pages
    again. That took half the time of a vision tower on a CPU and a tenth of a training step.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        if hasattr(libc, "mallopt"):
            libc.mallopt(M_MMAP_MAX, 0)
            libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
