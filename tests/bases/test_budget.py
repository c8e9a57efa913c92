"""A row's image tokens stay within their budget, however many photos a case has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from tests.forms import whole_form
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.reader import Reader, open_reader
from vlm_ft.conversation import Conversation, Row
from vlm_ft.errors import DataError
from vlm_ft.tasks import TASKS

PIXELS = (32 * 32, 512 * 512)


@pytest.fixture(scope="module")
def base(tiny_folder: Callable[[str], Path]) -> Reader:
    return open_reader(str(tiny_folder("qwen3_vl")), limits=Limits(PIXELS))


def tokens(base: Reader, sizes: list[tuple[int, int]], budget: int | None) -> int:
    form = whole_form(TASKS["product_defects"])
    images = tuple(Image.new("RGB", size) for size in sizes)
    return Conversation(base.limited(Limits(PIXELS, budget))).lengths(Row(form, (), images))[1]


@pytest.mark.parametrize("sizes", [[(900, 600)], [(900, 600)] * 6, [(900, 600), (64, 64), (300, 900)]])
@pytest.mark.parametrize("budget", [40, 100])
def test_photos_are_scaled_down_to_the_budget_and_no_further(base, sizes, budget):
    free, held = (tokens(base, sizes, limit) for limit in (None, budget))
    assert free > budget
    assert 0.5 * budget < held <= budget


def test_photos_within_the_budget_are_unchanged(base):
    assert tokens(base, [(96, 96)], 1000) == tokens(base, [(96, 96)], None)


def test_too_many_photos_are_reported(base):
    with pytest.raises(DataError, match=r"12 photos take .* more than image_tokens 5"):
        tokens(base, [(300, 300)] * 12, 5)
