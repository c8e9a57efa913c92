"""How this process manages its memory."""

from __future__ import annotations

import atexit
import ctypes
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # malloc.h of glibc


def keep_freed_memory() -> None:
    """Let glibc keep freed memory for later allocations; no effect without glibc.

    By default, a large block is returned to the system when it is freed, and the next tensor of that size faults its
    pages in again. That took half the time of a vision tower on a CPU, and a tenth of a training step. In exchange, the
    process keeps its peak memory.
    """
    if libc := _glibc():
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)  # never; the largest positive number would return what exceeds 2 GB


def return_freed_memory() -> None:
    """Return freed memory to the system; only with glibc."""
    if libc := _glibc():
        libc.malloc_trim(0)


def return_freed_memory_if_scarce() -> None:
    """Return freed memory to the system if less than a quarter of the machine's is available.

    Batches of different lengths fragment what the process keeps, which then grows beyond the peak that it needs.
    """
    memory = psutil.virtual_memory()
    if memory.available < memory.total / 4:
        return_freed_memory()


def _glibc() -> ctypes.CDLL | None:
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    return libc if hasattr(libc, "mallopt") else None


@contextmanager
def large_imports() -> Iterator[None]:
    """Import large libraries without garbage collection, and exempt their objects from later collections.

    Collecting took a seventh of the service's import time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        atexit.register(gc.unfreeze)  # or extension modules report their objects as leaked
        gc.enable()
