"""The precision that "auto" chooses is the faster one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vlm_ft.bases import precision

FAST, SLOW = 0.01, 0.04  # seconds


@pytest.fixture(autouse=True)
def empty_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("VLM_FT_HOME", str(tmp_path))
    precision._cpu_gains.cache_clear()
    yield
    precision._cpu_gains.cache_clear()


@pytest.mark.parametrize(
    ("capable", "seconds", "expected"), [(True, FAST, True), (True, SLOW, False), (False, FAST, False)]
)
def test_a_cpu_computes_in_bf16_if_that_is_faster(
    capable: bool, seconds: float, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def linear(left: torch.Tensor, right: torch.Tensor) -> Any:
        time.sleep(seconds if left.dtype == torch.bfloat16 else (FAST + SLOW) / 2)

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": capable})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.nn.functional, "linear", linear)
    assert precision.uses_bf16("auto") == expected
    assert precision.uses_bf16("bf16")
    assert not precision.uses_bf16("fp32")
    precision._cpu_gains.cache_clear()  # as in another process, which is not timed again
    monkeypatch.setattr(torch.nn.functional, "linear", lambda *given: pytest.fail("timed again"))
    assert precision.uses_bf16("auto") == expected
