"""What the checks know about a picture: its orientations, its likeness to others, and what is cached."""

from __future__ import annotations

import shutil
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image

from tests.data.made_sets import (
    drawn,
    found,
    photos,
)
from vlm_ft.data.checks import check
from vlm_ft.data.checks.near import BANDS, band_keys
from vlm_ft.data.checks.pictures import ORIENTATIONS, FactCache, facts_of, likeness, orientations, outline


def test_there_are_eight_orientations(tmp_path: Path) -> None:
    image = drawn(5, 48)
    image.save(tmp_path / "a.png")
    facts = facts_of(tmp_path / "a.png")
    assert len(ORIENTATIONS) == len(set(facts.hashes)) == 8
    wanted = [image, *(image.transpose(method) for method in Image.Transpose)]
    hashes = {int(str(imagehash.phash(seen)), 16) for seen in wanted}
    for own in facts.hashes:  # scaling before or after a turn rounds differently
        assert min((own ^ other).bit_count() for other in hashes) <= 2
    levels = outline(facts.grey)
    turned = orientations(levels)
    assert likeness(turned[0], levels) == pytest.approx(1)
    assert max(likeness(seen, levels) for seen in turned[1:]) < 0.9


def test_pictures_from_a_fixed_camera_are_not_duplicates_but_copies_are(tmp_path: Path) -> None:
    """The same scene 40 times, each with different small objects in it, and a re-saved copy of one of them."""
    made, scene = photos(tmp_path / "set"), np.asarray(drawn(9), np.float64)
    shutil.rmtree(tmp_path / "set")
    for index in range(40):
        place = tmp_path / "set" / ("test", "train", "train")[index % 3] / ("dent", "scratch")[index % 2]
        place.mkdir(parents=True, exist_ok=True)
        own = 0.9 * scene + 0.1 * np.asarray(drawn(100 + index), np.float64)
        Image.fromarray(own.astype(np.uint8)).save(place / f"p{index}.jpg", quality=92)
    assert found(check(made)) == {}
    Image.open(tmp_path / "set/train/dent/p4.jpg").save(tmp_path / "set/test/dent/x.jpg", quality=60)
    assert found(check(made)) == {"near_leaks": "warning"}


def test_hashes_of_four_differing_bits_share_a_band() -> None:
    random = np.random.default_rng(0)
    assert BANDS[-1] == 64
    for _ in range(200):
        one = int(random.integers(0, 1 << 63)) * 2 + 1
        other = one
        for bit in random.choice(64, 4, replace=False):
            other ^= 1 << int(bit)
        assert set(band_keys(one)) & set(band_keys(other))


def test_the_cache_returns_what_was_measured(tmp_path: Path) -> None:
    drawn(3).save(tmp_path / "a.jpg")
    cache = FactCache(tmp_path / "cache.sqlite")
    seen = facts_of(tmp_path / "a.jpg", cache=cache)
    assert facts_of(tmp_path / "a.jpg", decode=False, cache=cache) == seen
    assert facts_of(tmp_path / "a.jpg", decode=False).spread is None
    drawn(4).save(tmp_path / "a.jpg")
    assert facts_of(tmp_path / "a.jpg", decode=False, cache=cache).spread is None
    (tmp_path / "broken.sqlite").write_text("no database " * 100)
    assert facts_of(tmp_path / "a.jpg", cache=FactCache(tmp_path / "broken.sqlite")).spread is not None
