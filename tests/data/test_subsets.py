"""Nested subsets consist of whole groups and keep the shares of the strata; spaced ones are as large as allowed."""

from __future__ import annotations

from itertools import pairwise

import pytest

from vlm_ft.data.subsets import nested, spaced

GROUPS = [f"g{index // 3}" for index in range(300)]
STRATA = ["rare" if index // 3 % 5 == 0 else "common" for index in range(300)]


def chosen(most: int, seed: int = 0) -> set[int]:
    return {index for index, kept in enumerate(nested(GROUPS, STRATA, most, seed)) if kept}


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_subsets_are_nested_and_contain_whole_groups(seed: int) -> None:
    sizes = [1, 10, 25, 50, 100, 200, 300, 1000]
    subsets = [chosen(size, seed) for size in sizes]
    for smaller, larger in pairwise(subsets):
        assert smaller <= larger
    for size, subset in zip(sizes[1:], subsets[1:], strict=True):
        assert min(size, 300) - 3 < len(subset) <= size
        assert {GROUPS[index] for index in subset} & {GROUPS[i] for i in range(300) if i not in subset} == set()


@pytest.mark.parametrize("most", [30, 75, 150])
def test_strata_keep_their_shares(most: int) -> None:
    subset = chosen(most)
    rare = sum(STRATA[index] == "rare" for index in subset)
    assert rare / len(subset) == pytest.approx(0.2, abs=3 / most)


def test_each_seed_draws_its_own_subset() -> None:
    assert chosen(60, 1) != chosen(60, 2)
    assert chosen(60, 1) == chosen(60, 1)


def test_a_single_group_is_taken_however_large_it_is() -> None:
    assert sum(nested(["a"] * 9, [""] * 9, 2, 0)) == 9
    assert nested([], [], 5, 0) == []


@pytest.mark.parametrize(("count", "taken"), [(0, 0), (9, 9), (10, 10), (11, 6), (20, 10), (21, 7)])
def test_spaced_items_are_never_more_than_asked_for(count: int, taken: int) -> None:
    assert len(spaced(range(count), 10)) == taken
