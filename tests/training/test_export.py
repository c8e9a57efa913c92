"""An exported adapter gives the same answers without this package."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from peft import PeftModel
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.families import families
from vlm_ft.adapters import README, TENSORS, adapter_folder, read_card
from vlm_ft.bases.load import Base, load_base
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.training.export import As, _vllm_command, export
from vlm_ft.training.verify import TOLERANCES, probe_logits

Runs = Callable[..., Path]
SOME = families("qwen3_vl", "fast_vlm", "llava_onevision", "gemma3")  # each arrangement of tower and language model
WHOLE = {"language": "lora", "projector": "full", "vision": "frozen"}


@pytest.mark.parametrize("base", SOME)
def test_a_merged_model_answers_like_its_adapter(
    base: str, untrained_run_of: Runs, quiet: Console, tmp_path: Path
) -> None:
    run = untrained_run_of(base, adapter=WHOLE)
    folder = export(run, tmp_path / "merged", "merged", console=quiet)
    photo = Image.new("RGB", (64, 64), (200, 30, 30))
    answers = [
        Engine.open([place]).predict([Request((photo,), adapter="trial")])[0] for place in (adapter_folder(run), folder)
    ]
    assert answers[0].values == answers[1].values
    for name, field in answers[0].fields.items():
        assert field.distribution == pytest.approx(answers[1].fields[name].distribution, abs=1e-3)  # of float32
    card = read_card(folder)
    assert card.weights
    page = (folder / README).read_text(encoding="utf-8")
    assert "a fine-tuned model" in page
    assert ModelCard.load(folder / README).data.library_name == "transformers"


def test_a_merged_model_keeps_the_limits_of_its_adapter(run_of: Runs, quiet: Console, tmp_path: Path) -> None:
    adapter = Path(shutil.copytree(run_of("qwen3_vl") / "adapter", tmp_path / "adapter"))
    read_card(adapter).model_copy(update={"pixels": (1024, 8192)}).write(adapter)
    folder = export(adapter, tmp_path / "merged", "merged", console=quiet)
    assert AutoProcessor.from_pretrained(folder).image_processor.size["longest_edge"] == 8192


def test_lora_on_the_language_model_is_exported_unchanged(run_of: Runs, quiet: Console, tmp_path: Path) -> None:
    run = run_of("qwen3_vl", adapter={"language": "lora", "projector": "frozen"})
    folder = export(run, tmp_path / "lora", console=quiet)
    card = read_card(folder)
    plain = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(card.base.name), folder)
    base = load_base(card.base.name)
    conversation, row = Conversation(base.reader), Row(card.form, (), (Image.new("RGB", (64, 64)),))
    ours = probe_logits(PeftModel.from_pretrained(base.model, run / "adapter"), conversation, row)
    assert float((probe_logits(plain, conversation, row) - ours).abs().max()) < TOLERANCES[ours.dtype]


@pytest.mark.parametrize(("rank", "option"), [(16, ""), (20, " --max-lora-rank 32")])
def test_the_printed_command_allows_the_rank(rank: int, option: str, tiny_base: Callable[[str], Base]) -> None:
    """vLLM accepts only certain ranks, and a base such as `compact` only as a folder."""
    base = tiny_base("qwen3_vl")
    command = _vllm_command(base, "mine", Path("out"), rank)
    assert command == f"vllm serve {base.reader.place} --enable-lora{option} --lora-modules mine=out"


@pytest.mark.parametrize("kind", ["lora", "merged"])
def test_an_adapter_with_a_wrong_key_name_is_not_exported(
    kind: As, untrained_run_of: Runs, quiet: Console, tmp_path: Path
) -> None:
    """PEFT only warns about it, and the module would stay as in the base."""
    run = untrained_run_of("qwen3_vl", adapter={"language": "lora", "projector": "frozen"})
    folder = Path(shutil.copytree(adapter_folder(run), tmp_path / "renamed"))
    tensors = load_file(folder / TENSORS)
    save_file({name.replace("q_proj", "query"): tensor for name, tensor in tensors.items()}, folder / TENSORS)
    with pytest.raises(AdapterError, match=r"tensors do not match the base; the first is .*\.(query|q_proj)\."):
        export(folder, tmp_path / "out", kind, console=quiet)
    assert not (tmp_path / "out").exists()


def test_an_impossible_export_is_refused(untrained_run_of: Runs, quiet: Console, tmp_path: Path) -> None:
    run = untrained_run_of("qwen3_vl", adapter=WHOLE)
    with pytest.raises(AdapterError, match=r"more than LoRA on the language model .*; export it merged"):
        export(run, tmp_path / "lora", "lora", console=quiet)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(DataError, match="is not empty"):
        export(run, tmp_path / "full", console=quiet)
    shutil.copytree(adapter_folder(run), tmp_path / "cut")
    (tmp_path / "cut" / TENSORS).write_bytes(b"cut")
    with pytest.raises(AdapterError, match=r"cut: cannot be loaded \(.*\); restore its files, or train it again"):
        export(tmp_path / "cut", tmp_path / "from cut", console=quiet)
    assert not list(tmp_path.glob("from cut*"))
    merged = export(run, tmp_path / "merged", console=quiet)
    with pytest.raises(AdapterError, match="is already a whole model"):
        export(merged, tmp_path / "again", console=quiet)
