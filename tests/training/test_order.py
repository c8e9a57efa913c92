"""Batches hold cases of similar lengths, each case once an epoch, in an order that the seed and the epoch determine."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from itertools import chain, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from accelerate.data_loader import BatchSamplerShard, SkipBatchSampler
from rich.console import Console
from torch.utils.data import BatchSampler

from tests.training.killed import tensors, train_until
from vlm_ft.conversation import SHARED
from vlm_ft.errors import RecipeError
from vlm_ft.recipe import Recipe
from vlm_ft.training.order import ByLength, square_root_visits
from vlm_ft.training.prepare import prepare
from vlm_ft.training.run import train
from vlm_ft.training.trainer import FollowEpoch

RANDOM = random.Random(0)


@pytest.fixture
def varied_texts(tmp_path: Path) -> dict[str, Any]:
    """Settings for data of 16 texts that begin with different letters, and differ much in length."""
    (data := tmp_path / "data").mkdir()
    rows = [f"{chr(97 + at)} {'any ' * (at**2 // 2)}text\t{'audit' if at % 2 else 'notice'}" for at in range(16)]
    (data / "rows.tsv").write_text("\n".join(["text\tclause_type", *rows]) + "\n", encoding="utf-8")
    return {"task": "legal_documents", "data": [{"path": str(data)}], "fields": None, "splits": {"test": 0.0}}


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1000])
def test_every_case_comes_once_an_epoch(count: int) -> None:
    order = ByLength([(RANDOM.randint(1, 500), 3) for _ in range(count)], 8, seed=3)
    assert sorted(chain(*order)) == list(range(count))
    sizes = [len(batch) for batch in order]
    assert sizes[:-1] == [8] * (len(sizes) - 1)
    assert len(sizes) == len(order)


def test_a_rare_case_comes_more_often() -> None:
    visits = [2.4 if case % 10 == 0 else 1.0 for case in range(1000)]
    order = ByLength([(5, 1)] * 1000, 8, seed=0, visits=visits)
    epochs = []
    for epoch in range(30):
        order.set_epoch(epoch)
        epochs.append(Counter(chain(*order)))
        assert epochs[-1].total() == order.cases == 1140
        assert all({1: (1,), 2.4: (2, 3)}[times].count(epochs[-1][case]) for case, times in enumerate(visits))
    assert sum(counts[0] for counts in epochs) / 30 == pytest.approx(2.4, abs=0.3)
    assert list(chain(*order)) != sorted(chain(*order))


def test_the_visits_of_a_class_are_the_root_of_its_rarity() -> None:
    rare, common = {("kind", "crack")}, {("kind", "none"), ("passed", "True")}
    visits = square_root_visits([common] * 36 + [rare] * 4 + [()])
    assert visits == [1.0] * 36 + [3.0] * 4 + [1.0]
    both = [("kind", "crack"), ("kind", "none")]
    assert square_root_visits([common] * 16 + [both])[-1] == pytest.approx(17**0.5)


def test_a_recipe_can_ask_for_more_visits_to_rare_classes(recipe_of: Callable[..., Recipe], tmp_path: Path) -> None:
    recipe = recipe_of("fast_vlm", training={"balance": True, "epochs": 1, "max_steps": None})
    prepared = prepare(recipe)
    cases, order = prepared.train.cases, prepared.train.order(recipe.training)
    whole = sum(case.values["passed"] for case in cases)
    assert whole < len(cases) / 2
    visited = Counter(cases[place].values["passed"] for place in chain(*order))
    assert visited[True] / visited.total() > whole / len(cases)
    train(recipe, tmp_path / "run")
    assert json.loads((tmp_path / "run/plan.json").read_text())["steps"] == len(order)


def test_there_is_little_padding() -> None:
    lengths = [(int(RANDOM.lognormvariate(4, 1)) + 1, 3) for _ in range(2000)]
    order = ByLength(lengths, 16, seed=0)
    total = sum(map(sum, lengths))
    assert sum(map(order.tokens, order.batches())) < 1.15 * total
    as_drawn = [range(start, start + 16) for start in range(0, 2000, 16)]
    assert sum(map(order.tokens, as_drawn)) > 2 * total


@pytest.mark.parametrize("count", [1, 9, 16, 2000])
def test_batches_by_tokens_are_as_many_and_the_largest_is_smaller(count: int) -> None:
    lengths = [(int(RANDOM.lognormvariate(4, 1)) + 1, RANDOM.randint(1, 100)) for _ in range(count)]
    by_rows, by_tokens = (ByLength(lengths, 16, seed=0, by_tokens=by_tokens) for by_tokens in (False, True))
    for epoch in range(3):
        by_rows.set_epoch(epoch)
        by_tokens.set_epoch(epoch)
        assert len(by_rows.batches()) == len(by_tokens.batches()) == len(by_tokens)
        assert sorted(chain(*by_tokens)) == list(range(count))
        largest, smaller = (max(map(order.tokens, order)) for order in (by_rows, by_tokens))
        assert smaller <= (largest if count < 100 else 0.5 * largest)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_batches_by_tokens_count_what_a_step_computes(
    checkpointing: bool, recipe_of: Callable[..., Recipe], varied_texts: dict[str, Any]
) -> None:
    """The constant part of the prompts counts once a batch, unless recomputing activations needs it in each row."""
    own = {"batch_by": "tokens", "batch_size": 3, "checkpointing": checkpointing}
    recipe = recipe_of("qwen3", **varied_texts, training=own)
    train = prepare(recipe).train
    order = train.order(recipe.training)
    for cases in order:
        batch = train(cases)
        length, once = batch["input_ids"].shape[1], 0 if checkpointing else batch.get(SHARED, 0)
        assert order.tokens(cases) == once + len(cases) * (length - once)
    assert (train.shared > 0) != checkpointing


def test_batches_by_tokens_are_smaller_if_the_shared_ones_count_once() -> None:
    lengths = [(300 + int(RANDOM.lognormvariate(4, 1)), 3) for _ in range(2000)]
    once, each = (ByLength(lengths, 16, seed=0, by_tokens=True, shared=shared) for shared in (300, 0))
    assert len(once.batches()) == len(each.batches())
    assert max(map(once.tokens, once)) < 0.8 * max(map(once.tokens, each))


def test_a_resumed_run_batches_by_tokens_as_an_uninterrupted_one(
    recipe_of: Callable[..., Recipe],
    varied_texts: dict[str, Any],
    quiet: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is killed within its second epoch of three."""
    training = {"batch_by": "tokens", "epochs": 3, "max_steps": None, "batch_size": 3, "evaluations": 9}
    recipe = recipe_of("qwen3", **varied_texts, training=training)
    order = prepare(recipe).train.order(recipe.training)
    assert len({len(batch) for batch in order}) > 1
    train(recipe, tmp_path / "unbroken", console=quiet)
    assert json.loads((tmp_path / "unbroken/plan.json").read_text())["steps"] == 3 * len(order)
    train_until(len(order) + 1, recipe, tmp_path / "run", quiet, monkeypatch)
    train(recipe, tmp_path / "run", resume=True, console=quiet)
    assert tensors(tmp_path / "run") == tensors(tmp_path / "unbroken")


def test_a_mean_over_pairs_needs_equally_many_in_each_batch(recipe_of: Callable[..., Recipe]) -> None:
    with pytest.raises(RecipeError, match=r"training.batch_by: dpo averages over examples, not over tokens"):
        prepare(recipe_of("qwen3", method="dpo", training={"batch_by": "tokens"}))


def test_batches_come_in_random_order() -> None:
    lengths = [(prompt, 3) for prompt in range(800)]
    means = [sum(batch) / len(batch) for batch in ByLength(lengths, 8, seed=0).batches()]
    rising = sum(one < other for one, other in pairwise(means))
    assert 30 < rising < 70  # of 99


def test_the_seed_and_the_epoch_determine_the_order() -> None:
    lengths = [(5, 1)] * 100
    order, again, other = ByLength(lengths, 8, 1), ByLength(lengths, 8, 1), ByLength(lengths, 8, 2)
    first = list(order)
    assert first == list(again)
    assert first != list(other)
    order.set_epoch(1)
    assert list(order) != first
    again.set_epoch(1)
    assert list(order) == list(again)


def test_cases_of_equal_length_are_mixed() -> None:
    batches = ByLength([(5, 1)] * 160, 16, seed=0).batches()
    assert len(batches) == 10
    assert all(max(Counter(case // 16 for case in batch).values()) < 8 for batch in batches)


def test_the_classes_of_a_batch_are_mixed_although_their_answers_differ_in_length() -> None:
    lengths = [(5, 1 + case % 2) for case in range(160)]
    batches = ByLength(lengths, 16, seed=0).batches()
    assert all(2 < sum(case % 2 for case in batch) < 14 for batch in batches)


def test_a_resumed_epoch_continues_its_own_order() -> None:
    """However many samplers accelerate puts around it, the callback sets the epoch before the first batch."""
    order = ByLength([(5, 1)] * 40, 8, seed=1)
    collator = SimpleNamespace(epoch=0)
    callback = FollowEpoch(collator, order)  # type: ignore[arg-type]
    wanted = ByLength([(5, 1)] * 40, 8, seed=1)
    wanted.set_epoch(2)
    callback.on_epoch_begin(None, SimpleNamespace(epoch=2.6), None)
    shard = BatchSamplerShard(BatchSampler(order, 1, drop_last=False), num_processes=2, process_index=1)
    skipped = SkipBatchSampler(shard, skip_batches=1)
    batches = wanted.batches()
    assert list(skipped) == [[batches[3]], [batches[0]]]  # the last round is filled from the start
    assert collator.epoch == 2
