"""A published shape with random weights works like any other base."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from tests.forms import form_of
from vlm_ft.answers.kinds import Choice
from vlm_ft.bases import published
from vlm_ft.bases.hub import HUB_BASES, HubBase
from vlm_ft.bases.load import load_base
from vlm_ft.bases.published import PROCESSORS, save_published
from vlm_ft.errors import ModelError
from vlm_ft.experiments.published import _step
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request

TEXT = {"hidden_size": 64, "num_hidden_layers": 2, "intermediate_size": 96, "num_attention_heads": 4}
TEXT |= {"num_key_value_heads": 2, "vocab_size": 2000, "tie_word_embeddings": True}
QWEN_VISION = {"depth": 2, "hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "out_hidden_size": 64}
SIGLIP = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL = {
    "qwen3_vl": HubBase(
        "qwen3_vl",
        0.001,
        {**TEXT, "model_type": "qwen3_vl_text", "head_dim": 128},
        {**QWEN_VISION, "deepstack_visual_indexes": [0, 1]},
    ),
    "llava_onevision": HubBase(
        "llava_onevision",
        0.001,
        {**TEXT, "model_type": "qwen2"},
        {**SIGLIP, "model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14, "vision_use_head": False},
    ),
}


@pytest.mark.parametrize("family", PROCESSORS)
def test_it_loads_and_answers(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(published, "HUB_BASES", SMALL)
    save_published(family, tmp_path / "base")
    base = load_base(str(tmp_path / "base"))
    assert base.model.config.get_text_config().vocab_size == 2000
    form = form_of(kind=Choice(options=("dent", "scratch")))
    (answer,) = Engine(base).predict([Request(images=(Image.new("RGB", (300, 200), "teal"),), form=form)])
    assert answer.error is None
    assert answer.values["kind"] in ("dent", "scratch")


def test_every_family_that_can_be_saved_has_a_published_base() -> None:
    assert set(PROCESSORS) <= {base.model_type for base in HUB_BASES.values()}


def test_an_unknown_shape_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="did you mean 'Qwen/Qwen3-VL-2B-Instruct'"):
        save_published("Qwen/Qwen3-VL-2B-Instruc", tmp_path)
    with pytest.raises(ModelError, match="its processor is not known here; choose one of Qwen/Qwen3-VL-2B-Instruct"):
        save_published("HuggingFaceTB/SmolVLM2-2.2B-Instruct", tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in KiB on Linux only")
def test_a_step_reports_the_peak_memory_of_its_own_process() -> None:
    step = _step("version", ["--version"], Console(quiet=True))
    assert 10 * 2**20 < step.peak_bytes < 2**32
    with pytest.raises(ModelError, match=r"nothing: exit code \d: .*no_such_recipe.*; see vlm-ft data read"):
        _step("nothing", ["data", "read", "no_such_recipe"], Console(quiet=True))
