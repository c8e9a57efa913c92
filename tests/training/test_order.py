"""Batches hold cases of similar lengths, each case once an epoch, in an order that the seed and the epoch determine."""

from __future__ import annotations

import random
from collections import Counter
from itertools import pairwise

import pytest

from vlm_ft.training.order import ByLength

RANDOM = random.Random(0)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_every_case_comes_once_an_epoch(count: int) -> None:
    order = ByLength([RANDOM.randint(1, 500) for _ in range(count)], 8, seed=3)
    assert sorted(order) == list(range(count))
    sizes = [len(batch) for batch in order.batches()]
    assert sizes[:-1] == [8] * (len(sizes) - 1)
    assert [case for batch in order.batches() for case in batch] == list(order)


def test_there_is_little_padding() -> None:
    lengths = [int(RANDOM.lognormvariate(4, 1)) + 1 for _ in range(2000)]
    order = ByLength(lengths, 16, seed=0)
    assert sum(map(order.tokens, order.batches())) < 1.15 * sum(lengths)
    as_drawn = [range(start, start + 16) for start in range(0, 2000, 16)]
    assert sum(map(order.tokens, as_drawn)) > 2 * sum(lengths)


def test_batches_come_in_random_order() -> None:
    lengths = list(range(800))
    means = [sum(batch) / len(batch) for batch in ByLength(lengths, 8, seed=0).batches()]
    rising = sum(one < other for one, other in pairwise(means))
    assert 30 < rising < 70  # of 99


def test_the_seed_and_the_epoch_determine_the_order() -> None:
    lengths = [5] * 100
    order, again, other = ByLength(lengths, 8, 1), ByLength(lengths, 8, 1), ByLength(lengths, 8, 2)
    first = list(order)
    assert first == list(again)
    assert first != list(other)
    order.set_epoch(1)
    assert list(order) != first
    again.set_epoch(1)
    assert list(order) == list(again)


def test_cases_of_equal_length_are_mixed() -> None:
    batches = ByLength([5] * 160, 16, seed=0).batches()
    assert all(max(Counter(case // 16 for case in batch).values()) < 8 for batch in batches)
