"""The starter's instruction rows are exact, varied and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from vlm_ft.pretraining.instructions import corpus, draw_row

from vlm_ft.conversation import Row


def rows(count: int, seed: int = 0) -> list[Row]:
    rng = np.random.default_rng(seed)
    return [draw_row(rng) for _ in range(count)]


@pytest.fixture(scope="module")
def drawn() -> list[Row]:
    return rows(60)


def test_every_answer_fits_its_form(drawn: list[Row]) -> None:
    for row in drawn:
        assert row.target is not None
        assert row.form.target(row.form.parse(row.target)) == row.target


def test_rows_show_pictures_and_texts_and_ask_many_forms(drawn: list[Row]) -> None:
    assert {bool(row.images) for row in drawn} == {True, False}
    assert len({row.form.task for row in drawn}) == 3
    assert len({row.form.fingerprint for row in drawn}) > len(drawn) / 2


def test_options_hold_more_than_the_answer(drawn: list[Row]) -> None:
    asked = [row.form.field("kind").kind.options for row in drawn if "kind" in row.form.names]  # type: ignore[union-attr]
    assert asked
    assert all(len(options) > 1 for options in asked)


def test_the_same_seed_draws_the_same_rows() -> None:
    first, second = rows(5, seed=3), rows(5, seed=3)
    assert [row.target for row in first] == [row.target for row in second]
    for one, other in zip(first, second, strict=True):
        for left, right in zip(one.images, other.images, strict=True):
            assert np.array_equal(np.asarray(left), np.asarray(right))


def test_the_corpus_speaks_of_every_kind_of_text() -> None:
    text = "\n".join(corpus(80))
    assert "Answer in JSON" in text
    assert '"box":[' in text
    assert "liab" in text or "agreement" in text
