"""The embedded starter: small, loaded by the Auto classes, and able to see."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from vlm_ft.pretraining.probe import probe

from vlm_ft.bases.load import STARTER_FOLDER, load_base
from vlm_ft.inference.engine import Engine

LARGEST = 25 * 10**6  # bytes
COUNT = 60


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(load_base("starter"))


def test_weights_are_small_and_in_bf16() -> None:
    assert (STARTER_FOLDER / "model.safetensors").stat().st_size <= LARGEST
    model = AutoModelForImageTextToText.from_pretrained(STARTER_FOLDER)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert 5e6 <= model.num_parameters() <= 12e6


def test_a_square_picture_is_36_tokens() -> None:
    processor = AutoProcessor.from_pretrained(STARTER_FOLDER)
    picture = Image.new("RGB", (400, 400))
    batch = processor(text=["<|image_pad|>"], images=[picture], return_tensors="pt")
    assert int((batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")).sum()) == 36


def test_it_knows_drawings_of_its_world(engine: Engine) -> None:
    for known in probe(engine, COUNT):
        assert known.accuracy > 3 / known.classes  # luck alone reaches that once in 1,300 runs (binomial, 20 classes)
