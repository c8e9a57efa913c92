"""The embedded starter: small, loaded by the Auto classes, and able to see."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from datasets_vision.synthetic.surfaces import KINDS, surface_scene
from vlm_ft.answers.form import Form
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.models.load import STARTER_FOLDER, load_base
from vlm_ft.tasks import TASKS

LARGEST = 25 * 10**6  # bytes
COUNT = 60
UNSEEN = 987_654  # a seed of no training picture


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


def test_it_tells_kinds_of_defects_apart_on_unseen_drawings(engine: Engine) -> None:
    kinds = sorted(KINDS["starter"])
    form = Form.of(TASKS["product_defects"], {"kind": kinds}, ["kind"])
    scenes = [
        surface_scene(np.random.default_rng((UNSEEN, i)), 192, "starter", kinds[i % len(kinds)]) for i in range(COUNT)
    ]
    answers = engine.predict([Request((Image.fromarray(scene.image),), form=form) for scene in scenes])
    right = np.mean([answer.values["kind"] == scene.label for answer, scene in zip(answers, scenes, strict=True)])
    assert right > 3 / len(kinds)  # three times chance: luck alone reaches that once in 1,300 runs (binomial)
