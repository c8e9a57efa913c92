"""The garbage collector rests while libraries are imported, and only then."""

from __future__ import annotations

import gc

from vlm_ft.allocator import large_imports


def test_the_garbage_collector_rests_during_imports() -> None:
    with large_imports():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count()
    gc.unfreeze()
