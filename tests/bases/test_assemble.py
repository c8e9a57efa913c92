"""A timm backbone and a language model become one base that the Auto classes load, both unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file
from timm.models import save_for_hf
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor, AutoTokenizer
from typer.testing import CliRunner

from datasets_vision.example import Turn
from tests.forms import whole_form
from vlm_ft.bases.assemble import Vision, assemble, read_language
from vlm_ft.bases.load import load_base
from vlm_ft.cli import app
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import ModelError
from vlm_ft.recipe import AdapterSettings
from vlm_ft.tasks import TASKS
from vlm_ft.training.attach import attach

SIDE = 96  # pixels: 3 x 3 positions of 32 pixels
Folders = Callable[[str], Path]


def backbone(architecture: str, **options: int) -> Vision:
    """Random weights, so that nothing is downloaded."""
    torch.manual_seed(0)
    weights = timm.create_model(architecture, pretrained=False, num_classes=7).state_dict()
    return Vision(architecture, weights, SIDE, options=options)


@pytest.fixture(scope="module")
def assembled(tiny_folder: Folders, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("assembled")
    assemble(backbone("test_efficientnet"), read_language(str(tiny_folder("llama"))), folder)
    return folder


def test_the_command_joins_two_folders(assembled: Path, tiny_folder: Folders, tmp_path: Path) -> None:
    network = timm.create_model("test_efficientnet", pretrained=False, num_classes=7)
    network.load_state_dict(backbone("test_efficientnet").weights)
    save_for_hf(network, str(tmp_path / "vision"), safe_serialization=True)
    out = tmp_path / "joined"
    parts = ["--vision", str(tmp_path / "vision"), "--language", str(tiny_folder("llama")), "--side", str(SIDE)]
    done = CliRunner().invoke(app, ["base", "assemble", *parts, "--out", str(out)], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, f"{out}: use it with base: {out} in a recipe\n")
    made, known = (load_file(folder / "model.safetensors") for folder in (out, assembled))
    assert made.keys() == known.keys()
    assert all(torch.equal(made[name], known[name]) for name in known)
    assert load_base(str(out)).projector_untrained


def test_the_auto_classes_load_it(assembled: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(assembled)
    processor = AutoProcessor.from_pretrained(assembled)
    photo = Image.new("RGB", (70, 50), (200, 40, 90))
    batch = processor(text=[processor.image_token + "What is it?"], images=[[photo]], return_tensors="pt")
    features = timm.create_model("test_efficientnet", num_classes=0).forward_features(torch.zeros(1, 3, SIDE, SIDE))
    assert (batch["input_ids"] == model.config.image_token_id).sum() == features.shape[2] * features.shape[3] == 9
    with torch.inference_mode():
        assert model(**batch).logits.isfinite().all()


def test_text_gives_the_logits_of_the_language_model_alone(assembled: Path, tiny_folder: Folders) -> None:
    alone = AutoModelForCausalLM.from_pretrained(tiny_folder("llama")).eval()
    joined = AutoModelForImageTextToText.from_pretrained(assembled).eval()
    ids = AutoTokenizer.from_pretrained(assembled)("The part is good.", return_tensors="pt")["input_ids"]
    assert torch.equal(
        ids, AutoTokenizer.from_pretrained(tiny_folder("llama"))("The part is good.", return_tensors="pt")["input_ids"]
    )
    with torch.inference_mode():
        theirs, ours = alone(input_ids=ids).logits, joined(input_ids=ids).logits
    assert torch.equal(ours[..., : theirs.shape[2]], theirs)


def test_the_backbone_is_unchanged(assembled: Path) -> None:
    model = AutoModelForImageTextToText.from_pretrained(assembled)
    kept, given = model.model.vision_tower.timm_model.state_dict(), backbone("test_efficientnet").weights
    assert kept
    assert all(torch.equal(kept[name], given[name]) for name in kept)


def test_prompts_are_built_and_the_new_projector_is_trained_in_full(assembled: Path) -> None:
    base = load_base(str(assembled))
    form = whole_form(TASKS["product_defects"])
    row = Row(form, (Turn("user", "Is it good?"),), (Image.new("RGB", (64, 64)),))
    assert Conversation(base.reader).lengths(row)[1] == 9
    assert base.projector_untrained
    assert attach(base, AdapterSettings(rank=4), 0).tunings["projector"] == "full"


def test_a_finer_stride_gives_more_tokens(tiny_folder: Folders, tmp_path: Path) -> None:
    assemble(backbone("test_efficientnet", output_stride=16), read_language(str(tiny_folder("llama"))), tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    batch = processor(text=[processor.image_token], images=[[Image.new("RGB", (70, 50))]], return_tensors="pt")
    model = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert (batch["input_ids"] == model.config.image_token_id).sum() == 36
    with torch.inference_mode():
        assert model(**batch).logits.isfinite().all()


def test_parts_that_cannot_be_joined_are_refused(tiny_folder: Folders, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"--vision test_vit: its features .* choose a convolutional backbone"):
        assemble(backbone("test_vit"), read_language(str(tiny_folder("llama"))), tmp_path)
    with pytest.raises(ModelError, match=r"--language .* cannot be loaded"):
        read_language(str(tmp_path))
    for name in ("one.gguf", "two.gguf"):
        (tmp_path / name).touch()
    with pytest.raises(ModelError, match="holds 2 GGUF files"):
        read_language(str(tmp_path))
