"""The starter's shape, and its first stage: pixels as the processor lays them out, learning, exact resume."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.models.qwen2_vl import Qwen2VLImageProcessor
from vlm_ft.bases.starter.architecture import MERGE, PATCH, SIDE, TEMPORAL, TOKENS, VOCABULARY, WIDTH, build_starter
from vlm_ft.pretraining import lessons
from vlm_ft.pretraining import tower as dense

from datasets_vision.synthetic import surface_scene


@pytest.fixture(autouse=True)
def one_thread():
    """Two threads on a busy machine are slower than one, and sum in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(dense, "BATCH", 2)
    monkeypatch.setattr(dense, "held_out_scores", lambda tower: {})
    monkeypatch.setattr(lessons.draw_batch, "__defaults__", (True, 2))


def test_the_starter_is_small_and_sees_36_tokens():
    model = build_starter()
    count = sum(parameter.numel() for parameter in model.parameters())
    assert 7e6 < count < 10e6
    assert model.get_input_embeddings().weight.shape == (VOCABULARY, WIDTH)
    assert model.lm_head.weight is model.get_input_embeddings().weight
    pixels, grid = torch.zeros(2 * 144, 3 * TEMPORAL * PATCH**2), torch.tensor([[1, 12, 12]] * 2)
    assert model.model.visual(pixels, grid).pooler_output.shape == (2 * TOKENS, WIDTH)
    other = model.model.visual(torch.zeros(8 * 20, 1536), torch.tensor([[1, 8, 20]]))  # any other size
    assert other.pooler_output.shape == (40, WIDTH)


def test_patches_are_those_of_the_image_processor():
    images = np.random.default_rng(0).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8)
    half = [0.5, 0.5, 0.5]
    processor = Qwen2VLImageProcessor(
        patch_size=PATCH, temporal_patch_size=TEMPORAL, merge_size=MERGE, image_mean=half, image_std=half,
        size={"shortest_edge": SIDE**2, "longest_edge": SIDE**2},
    )  # fmt: skip
    there = processor(list(images), return_tensors="pt")
    assert there["image_grid_thw"].tolist() == [[1, 12, 12]] * 2
    here = dense.patches(torch.from_numpy(images))
    assert torch.allclose(here, there["pixel_values"], atol=1e-6)  # rounding of x / 127.5 - 1


def test_the_quick_tower_is_the_plain_one():
    tower = dense.Tower(0).eval()
    images = torch.from_numpy(np.random.default_rng(1).integers(0, 256, (2, SIDE, SIDE, 3), np.uint8))
    flat, grid = dense.patches(images), torch.tensor([[1, 12, 12]] * 2)
    quick = tower.visual(flat, grid_thw=grid)
    plain = build_starter(0).model.visual.eval()(flat, grid_thw=grid)
    for one, other in zip(
        [quick.pooler_output, *quick.deepstack_features], [plain.pooler_output, *plain.deepstack_features], strict=True
    ):
        assert torch.allclose(one, other, atol=1e-5)  # float32 sums in another order


def test_truths_agree_with_the_mask():
    scene = surface_scene(np.random.default_rng(2), SIDE, "starter", "hole")
    true = lessons.truths(scene.mask, scene)
    assert np.allclose(true["classes"].sum(1), 1, atol=1e-5)
    assert np.allclose(true["substances"].sum(1), 1, atol=1e-5)
    assert true["picture"][lessons.CLASS_ID["hole"]] == 1
    token = int(np.argmax(true["covered"]))
    row, column = divmod(token, 6)
    x, y = (column + 0.5) / 6, (row + 0.5) / 6
    left, up, right, down = true["boxes"][token]
    boxes = [np.array(thing.box) / SIDE for thing in scene.objects]
    assert any(np.allclose([x - left, y - up, x + right, y + down], box, atol=1e-5) for box in boxes)


def test_a_repeated_batch_is_learned():
    run, batch = dense.Run(0), lessons.draw_batch(0, 0, count=4)
    losses = [run.learn(batch, 0.1) for _ in range(5)]
    assert losses[-1] < 0.8 * losses[0]


def test_resume_is_exact(tmp_path: Path, small):
    def train(folder: Path, steps: int) -> dict[str, torch.Tensor]:
        path = dense.train_tower(folder, pictures=steps * 2, minutes=None, seed=7, resume=True, workers=0)
        return torch.load(path, weights_only=True)

    def stopped(folder: Path, after: int, steps: int) -> None:
        run, budget = dense.Run(7), dense.Budget(steps * 2, None)
        for step in range(after):
            run.learn(lessons.draw_batch(7, step), budget.share(step, 0))
        folder.mkdir()
        run.save(folder)

    whole = train(tmp_path / "whole", 4)
    stopped(tmp_path / "parts", 2, 4)
    parts = train(tmp_path / "parts", 4)
    assert parts["step"] == whole["step"] == 4
    for name, tensor in whole["tower"].items():
        assert torch.equal(tensor, parts["tower"][name]), name


def test_the_tower_goes_into_the_whole_model(tmp_path: Path):
    run = dense.Run(3)
    model = build_starter(0)
    dense.load_tower(model, run.save(tmp_path))
    assert torch.equal(model.model.visual.blocks[0].attn.qkv.weight, run.tower.visual.blocks[0].attn.qkv.weight)


def test_a_budget_is_pictures_or_minutes(tmp_path: Path):
    with pytest.raises(ValueError, match="either pictures or minutes"):
        dense.train_tower(tmp_path, pictures=None, minutes=None, seed=0, resume=False)
