"""A base has an identity, and its published sampling settings do not reach constrained decoding."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from datasets_vision.example import Turn
from tests.forms import whole_form
from vlm_ft.bases.load import fingerprint, load_base, process_device
from vlm_ft.errors import ModelError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.tasks import TASKS

LEAKS = {"repetition_penalty": 1.5, "do_sample": True, "temperature": 2.0, "top_k": 3, "no_repeat_ngram_size": 2}


@pytest.mark.parametrize("name", ["qwen3_vl", "fast_vlm", "llama"])
def test_published_sampling_settings_change_no_answer(
    name: str, tiny_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_folder(name), tmp_path / name))
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **LEAKS}))
    form = whole_form(TASKS["legal_documents"]).narrow(("clause_type", "risk", "present"))
    requests = [Request(turns=(Turn("user", f"Clause {place}: the audit."),), form=form) for place in range(6)]
    plain, published = (Engine(load_base(str(place))) for place in (tiny_folder(name), folder))
    assert published.base.model.generation_config.repetition_penalty is None
    assert published.predict(requests) == plain.predict(requests)


def test_every_process_of_a_launch_has_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert process_device() == torch.device("cuda", 0)
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert process_device() == torch.device("cuda", 2)


def test_bases_without_safetensors_are_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"weights")
    with pytest.raises(ModelError, match="has no safetensors files"):
        fingerprint(str(tmp_path))
