"""Stage 2 on a handful of steps: it learns, and what it writes loads as any base does."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor
from vlm_ft.bases.starter.architecture import SPECIAL_TOKENS
from vlm_ft.pretraining import instruct, vocabulary
from vlm_ft.pretraining.build import export
from vlm_ft.pretraining.instruct import Run, answer_losses, conversations_of, draw_batch

from vlm_ft.training.loss import answer_loss


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processor")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vocabulary, "TEXTS", 60)
        vocabulary.save_processor(folder)
    return folder


def test_special_tokens_keep_their_ids(processor: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(processor).tokenizer
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(len(SPECIAL_TOKENS)))


def test_any_text_survives_the_vocabulary(processor: Path) -> None:
    tokenizer = AutoProcessor.from_pretrained(processor).tokenizer
    for text in ('{"kind":"rolled-in_scale","box":[0,12,999,1000]}', "Größe: 12,5 µm — «ok»\n\tx", "日本語 🙂"):
        assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_repeated_batch_is_learned_and_the_base_loads(
    processor: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(instruct, "PART", 1)  # one row a part: the mean over tokens is the row's
    run = Run(seed=0, tower=None)
    parts = draw_batch(conversations_of(processor), seed=0, step=0, count=4)
    losses = [run.learn(parts, share=0.3)[0] for _ in range(6)]
    assert losses[-1] < 0.8 * losses[0]
    run.save(tmp_path)
    again = Run(seed=1, tower=None)
    again.restore(tmp_path)
    assert again.step == 6
    assert all(torch.equal(a, b) for a, b in zip(run.model.parameters(), again.model.parameters(), strict=True))
    base = export(again, processor, tmp_path / "base", {})
    model = AutoModelForImageTextToText.from_pretrained(base, dtype=torch.float32)
    with torch.no_grad():
        loss = sum(float(answer_loss(model, part)) for part in parts) / len(parts)
        quickened = sum(float(answer_losses(run.model.float(), part)[0].mean()) for part in parts) / len(parts)
    assert loss < losses[0]
    assert loss == pytest.approx(quickened, rel=0.02)  # the base is stored in bf16
