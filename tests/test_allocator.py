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
