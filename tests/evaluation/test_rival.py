"""The classifier baseline learns what can be learned, in the time that it is given."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vlm_ft.errors import DataError
from vlm_ft.evaluation.rival import Flips, train_rival, varied

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    folder, dice = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    labelled = []
    for index in range(40):
        name = ("red", "blue")[index % 2]
        noisy = np.array(COLOURS[name]) + dice.normal(0, 40, (32, 32, 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        labelled.append((folder / f"{index}.png", name))
    return labelled


def test_learns_colours_in_its_time(pictures: list[tuple[Path, str]]) -> None:
    ticks: list[float] = []
    state = torch.random.get_rng_state()
    start = time.monotonic()
    rival = train_rival(pictures[:24], pictures[24:32], 3.0, 32, 0, lambda done, _: ticks.append(done))
    assert time.monotonic() - start < 4.5  # 3 s, and building the network on a busy machine
    assert rival.predict([path for path, _ in pictures[32:]]) == [name for _, name in pictures[32:]]
    assert rival.accuracy == 1
    assert ticks == sorted(ticks)
    assert torch.equal(torch.random.get_rng_state(), state)  # leaves others' randomness alone


def test_no_tune_one_class_and_no_time(pictures: list[tuple[Path, str]]) -> None:
    rival = train_rival(pictures[:1], [], 0.01, 40, 0)
    assert (rival.side, rival.accuracy, rival.predict([pictures[1][0]])) == (32, None, ["red"])
    assert rival.predict([]) == []


def test_unreadable_image_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.png"):
        train_rival([(tmp_path / "gone.png", "red")], [], 1.0, 32, 0)


@pytest.mark.parametrize("flips", ["none", "horizontal", "both"])
def test_varied_pictures_flip_only_as_told(flips: Flips) -> None:
    torch.manual_seed(0)
    corner = torch.zeros(64, 1, 32, 32)
    corner[:, :, :16, :16] = 10.0
    bright = varied(corner, flips)[:, 0, [4, 4, 27, 27], [4, 27, 4, 27]].argmax(dim=1)  # a quarter for each image
    expected = {"none": {0}, "horizontal": {0, 1}, "both": {0, 1, 2, 3}}[flips]
    assert set(bright.tolist()) == expected
