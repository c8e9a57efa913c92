"""Every tiny model is loaded by the Auto classes, sees, answers and stops, and is the same for the same seed."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessor

from tests.families import SEEING
from vlm_ft.bases.tiny import TINY, save_tiny
from vlm_ft.bases.tiny.tokenizer import TEXT, build_tokenizer
from vlm_ft.errors import ModelError

# PaliGemma's processor calls numpy on tensors in a way that numpy deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

ALL = list(TINY)
QUESTION = "What does the image show?"


class Only(LogitsProcessor):
    """Allows only one token."""

    def __init__(self, token: int) -> None:
        self.token = token

    def __call__(self, input_ids, scores):
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.token] = 0
        return forced


@pytest.mark.parametrize("name", ALL)
def test_a_model_has_0_1_to_0_6_million_parameters(name, tiny):
    model = tiny(name).model
    assert 100_000 <= model.num_parameters() <= 600_000


@pytest.mark.parametrize("name", ALL)
def test_the_tokenizer_survives_the_round_trip(name, tiny):
    read = tiny(name)
    built = build_tokenizer(TINY[name].words, None)
    ids = read.tokenizer(TEXT, add_special_tokens=False)["input_ids"]
    assert ids == built(TEXT, add_special_tokens=False)["input_ids"]
    assert read.tokenizer.decode(ids) == TEXT
    assert len(read.tokenizer) <= read.model.get_input_embeddings().num_embeddings
    assert read.processor.chat_template == TINY[name].template


@pytest.mark.parametrize("name", SEEING)
def test_forward_sees_the_image(name, tiny, noise):
    read = tiny(name)
    prompt = read.render(QUESTION)
    with torch.no_grad():
        one, other = (read.model(**read.encode([prompt], [[noise(seed=seed)]])).logits for seed in (0, 1))
    assert one.isfinite().all()
    assert (one[0, -1] != other[0, -1]).any()


@pytest.mark.parametrize("name", ALL)
def test_prompts_of_different_lengths_are_answered_in_a_batch(name, tiny, noise):
    read = tiny(name)
    prompts = [read.render(QUESTION), read.render("Is it broken?")]
    inputs = read.encode(prompts, [[noise()], [noise(60, 90)]])
    out = read.model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert out.shape == (2, inputs["input_ids"].shape[1] + 3)


@pytest.mark.parametrize("name", SEEING)
def test_text_rows_mix_with_image_rows(name, tiny, noise):
    """The processor gets one list of images per row, empty for a row of text only."""
    read = tiny(name)
    inputs = read.encode([read.render(QUESTION), read.render(QUESTION, images=0)], [[noise()], []])
    with torch.no_grad():
        assert read.model(**inputs).logits.isfinite().all()


@pytest.mark.parametrize("name", ALL)
def test_generation_stops_at_the_end_of_turn(name, tiny, noise):
    read = tiny(name)
    inputs = read.encode([read.render(QUESTION)], [[noise()]])
    for token in TINY[name].stops:
        only = Only(read.tokenizer.convert_tokens_to_ids(token))
        out = read.model.generate(**inputs, max_new_tokens=3, do_sample=False, logits_processor=[only])
        assert out.shape[1] == inputs["input_ids"].shape[1] + 1


@pytest.mark.parametrize("name", [name for name in ALL if TINY[name].template])
def test_template_ends_a_turn_with_a_stop(name, tiny):
    read = tiny(name)
    answer = [{"type": "text", "text": "yes"}] if read.sees else "yes"
    question = [{"type": "text", "text": QUESTION}] if read.sees else QUESTION
    turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    text = read.processor.apply_chat_template(turns, tokenize=False)
    ends = text.rstrip().endswith(TINY[name].stops)
    assert ends == (name != "llava_clip_llama")  # LLaVA 1.5's template leaves the end token out


@pytest.mark.parametrize("name", ALL)
def test_the_weights_are_always_the_same(name, tiny_folder, tmp_path):
    before = torch.random.get_rng_state()
    again = save_tiny(name, tmp_path) / "model.safetensors"
    assert again.read_bytes() == (tiny_folder(name) / "model.safetensors").read_bytes()
    assert torch.equal(torch.random.get_rng_state(), before)


def test_an_unknown_name_is_refused(tmp_path):
    with pytest.raises(ModelError, match="did you mean 'qwen3_vl'"):
        save_tiny("qwen3vl", tmp_path)
