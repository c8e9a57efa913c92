"""Adapters that tune different parts share a base and its batches, and each answers as it does alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets_vision.example import Turn
from tests.families import families
from tests.inference.likeness import alike
from vlm_ft.adapters import ADAPTER
from vlm_ft.answers.prediction import Prediction
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import BASE, Request

Runs = Callable[..., Path]
BASES = families("qwen3_vl", "fast_vlm", "gemma3")
WORDS: dict[str, dict[str, str]] = {
    "lora": {"language": "lora", "projector": "frozen"},
    "new projector": {"language": "lora", "projector": "full"},
    "projector alone": {"language": "frozen", "projector": "full"},
    "tower": {"language": "lora", "projector": "full", "vision": "lora"},
    "dora": {"language": "dora", "projector": "frozen"},
}
ASKED = (Turn("user", "Is it good?"),)


def opened(base: str, untrained_run_of: Runs) -> Engine:
    """An adapter of each kind, far enough from the base to answer differently."""
    runs = [
        untrained_run_of(base, name=name.replace(" ", "-"), adapter={**words, "rank": 8, "alpha": 64})
        for name, words in WORDS.items()
    ]
    return Engine.open([run / ADAPTER for run in runs])


@pytest.mark.parametrize("base", BASES)
def test_a_mixed_batch_gives_the_same_answers_as_single_requests(
    base: str, untrained_run_of: Runs, photos: list[Path]
) -> None:
    engine = opened(base, untrained_run_of)
    form = engine.cards["lora"].form
    requests = [
        Request(images=(photo,), turns=turns, adapter=name, form=form)
        for photo in photos
        for name in (*engine.cards, BASE)
        for turns in ((), ASKED)
    ]
    together = engine.predict(requests)
    assert [answer.error for answer in together] == [None] * len(requests)
    assert alike(together, [engine.predict([request])[0] for request in requests])
    assert len({str(answer.values) for answer in together}) > 1


@pytest.mark.parametrize("base", ["fast_vlm"])
def test_only_adapters_that_mix_exactly_share_a_batch(
    base: str, untrained_run_of: Runs, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LoRA does, with the fully trained layers that all of them have; DoRA, or no LoRA at all, does not."""
    engine = opened(base, untrained_run_of)
    batches: list[set[str]] = []
    real = engine._decoder.decode

    def noted(forward: Any, names: list[str], *rest: Any, **options: Any) -> list[Prediction]:
        batches.append(set(names))
        return real(forward, names, *rest, **options)

    monkeypatch.setattr(engine._decoder, "decode", noted)
    form = engine.cards["lora"].form
    engine.predict([Request(images=(photos[0],), adapter=name, form=form) for name in (*engine.cards, BASE)])
    assert batches == [{"lora"}, {"new-projector", "tower", BASE}, {"projector-alone"}, {"dora"}]


@pytest.mark.parametrize("turns", [(), ASKED], ids=["nothing", "a text"])
def test_a_photo_adapter_refuses_a_request_without_a_photo(
    turns: tuple[Turn, ...], run_of: Runs, photos: list[Path]
) -> None:
    engine = Engine.open([run_of("qwen3_vl") / ADAPTER])
    assert engine.cards["trial"].inputs == ("photo",)
    without, with_one = engine.predict(
        [Request(turns=turns, adapter="trial"), Request(images=(photos[0],), turns=turns, adapter="trial")]
    )
    assert "photo" in str(without.error) if turns else "neither image nor text" in str(without.error)
    assert not without.fields
    assert with_one.error is None


def test_a_text_adapter_takes_texts_only(untrained_run_of: Runs, clauses: Path, photos: list[Path]) -> None:
    run = untrained_run_of("qwen3_vl", task="legal_documents", data=[{"path": str(clauses)}], fields=None)
    engine = Engine.open([run / ADAPTER])
    assert engine.cards["trial"].inputs == ("text",)
    answer, refused = engine.predict(
        [Request(turns=ASKED, adapter="trial"), Request(images=(photos[0],), adapter="trial")]
    )
    assert answer.error is None
    assert "trained on texts only" in str(refused.error)
