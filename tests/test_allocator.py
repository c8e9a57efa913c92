"""Freed memory is kept, and the garbage collector is off while libraries are imported, and only then."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys

import pytest

from vlm_ft.allocator import large_imports

END_OF_THE_HEAP = """
import ctypes
from vlm_ft.allocator import keep_freed_memory

keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
libc.malloc.argtypes, libc.free.argtypes, libc.sbrk.argtypes = [ctypes.c_size_t], [ctypes.c_void_p], [ctypes.c_ssize_t]
block = libc.malloc(5 << 29)  # 2.5 GB, which is never written to
before = libc.sbrk(0)
libc.free(block)
print(libc.sbrk(0) == before)
"""

FRAGMENTED = """
import psutil, torch
from vlm_ft import allocator

def resident():
    return psutil.Process().memory_info().rss

allocator.keep_freed_memory()
blocks = [torch.ones(1 << 20) for _ in range(100)]  # 4 MiB each
pinned = blocks[::10]
before = resident()
del blocks
memory = psutil.virtual_memory()
for available in (memory.total, memory.total // 5):
    psutil.virtual_memory = lambda: memory._replace(available=available)
    allocator.return_freed_memory_if_scarce()
    print(round((before - resident()) / (1 << 22)))
"""


def test_the_garbage_collector_is_off_during_imports() -> None:
    with large_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count()
    gc.unfreeze()


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the memory is not managed by glibc")
def test_gigabytes_of_freed_memory_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", END_OF_THE_HEAP], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the memory is not managed by glibc")
def test_freed_memory_between_blocks_in_use_is_returned_where_it_is_scarce() -> None:
    """Ninety of a hundred blocks are freed, and those in use lie among them."""
    done = subprocess.run([sys.executable, "-c", FRAGMENTED], capture_output=True, text=True, check=True)
    plenty, scarce = map(int, done.stdout.split())
    assert plenty < 5
    assert scarce == pytest.approx(90, abs=5)
