"""Training learns the distribution from which decoding chooses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from datasets_vision.example import Turn
from tests.families import families
from tests.forms import form_of
from tests.untrained import move_trained_tensors
from vlm_ft import likelihood
from vlm_ft.answers.box_format import GRID
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind
from vlm_ft.bases.load import Base
from vlm_ft.bases.parts import Tuning
from vlm_ft.bases.tiny import TINY
from vlm_ft.conversation import (
    CHOICES,
    IGNORED,
    MARKS,
    OWN_KEYS,
    REFERENCE,
    SECOND,
    SHARED,
    SHARES,
    Batch,
    Conversation,
    Row,
)
from vlm_ft.decoding.tokens import unpacked
from vlm_ft.recipe import AdapterSettings, LossOn, Preference
from vlm_ft.training.attach import attach
from vlm_ft.training.methods.method import Method
from vlm_ft.training.methods.preference import DPO, KTO, UNRELATED
from vlm_ft.training.methods.sft import SFT

answer_loss = SFT().loss
EVERY_FAMILY = pytest.mark.parametrize("name", list(TINY))


def talk(base: Base, loss_on: LossOn) -> tuple[Base, Conversation]:
    return base, Conversation(base.reader, loss_on)


def images(conversation: Conversation) -> tuple[Image.Image, ...]:
    return (Image.new("RGB", (64, 64), (90, 20, 200)),) if conversation.reader.sees else ()


def rows(form: Form, conversation: Conversation, *kinds: str, passed: bool = False) -> list[Row]:
    targets = [form.target({"passed": passed, "kind": kind}) for kind in kinds]
    return [Row(form, (), images(conversation), target) for target in targets]


def kinds_of(form: Form) -> tuple[str, ...]:
    (kind,) = (field.kind for field in form.fields if field.name == "kind")
    return tuple(kind.options)


@EVERY_FAMILY
def test_the_loss_of_a_whole_answer_equals_that_of_transformers(
    name: str, tiny_base: Callable[[str], Base], form: Form
) -> None:
    base, conversation = talk(tiny_base(name), "answer")
    model = base.model
    batch = conversation.encode(rows(form, conversation, *kinds_of(form)[:3]), supervised=True)
    inputs = {key: value for key, value in batch.items() if key != SHARED}
    with torch.inference_mode():
        theirs, ours = model(**inputs).loss, answer_loss(model, batch)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)  # float32, summed in another order


@EVERY_FAMILY
def test_decisions_share_the_probability_of_the_allowed_tokens(
    name: str, tiny_base: Callable[[str], Base], form: Form
) -> None:
    """All answers together have probability 1, far more than if forbidden tokens had a share.

    The end of the turn, which is a choice among all tokens, is left out.
    """
    base, conversation = talk(tiny_base(name), "decisions")
    narrow, wide = torch.zeros(()), torch.zeros(())
    with torch.inference_mode():
        for row in [
            row for passed in (True, False) for row in rows(form, conversation, *kinds_of(form), passed=passed)
        ]:
            batch = conversation.encode([row], supervised=True)
            last = int((batch["labels"][0] != IGNORED).nonzero()[-1])
            batch["labels"][0, last], batch[CHOICES] = IGNORED, batch[CHOICES][:-1]
            narrow += torch.exp(-answer_loss(base.model, batch, 1))
            del batch[CHOICES]
            wide += torch.exp(-answer_loss(base.model, batch, 1))
    assert narrow == pytest.approx(1, abs=1e-4)
    assert wide < 0.1


def test_the_loss_of_a_shared_target_is_its_cross_entropy(tiny_base: Callable[[str], Base]) -> None:
    """A side between two numbers is learned as a distribution over both."""
    base, conversation = talk(tiny_base("fast_vlm"), "decisions")
    form = form_of(box=BoxKind()).with_boxes(GRID)
    row = Row(form, (), images(conversation), form.target({"box": [0, 370, 555, 1000]}))
    batch = conversation.encode([row], supervised=True)
    supervised = batch["labels"][0, 1:] != IGNORED
    target = torch.zeros(int(supervised.sum()), base.model.config.get_text_config().vocab_size)
    for at, (first, second, share) in enumerate(
        zip(batch["labels"][0, 1:][supervised], batch[SECOND], batch[SHARES], strict=True)
    ):
        target[at, first] += 1 - share
        target[at, second] += share
    with torch.inference_mode():
        inputs = {key: value for key, value in batch.items() if key not in OWN_KEYS}
        logits = base.model(**inputs).logits[0, :-1][supervised]
        logits = logits.masked_fill(~unpacked(batch[CHOICES], logits.shape[1]), float("-inf"))
        expected = -(target * logits.log_softmax(-1).nan_to_num(neginf=0)).sum() / len(target)
        torch.testing.assert_close(answer_loss(base.model, batch), expected, rtol=1e-5, atol=1e-5)  # order of sums


def test_the_loss_of_a_batch_is_the_sum_of_its_rows(tiny_base: Callable[[str], Base], form: Form) -> None:
    base, conversation = talk(tiny_base("qwen3_vl"), "decisions")
    model, answers = base.model, rows(form, conversation, *kinds_of(form))
    together = conversation.encode(answers, supervised=True)
    assert len(together[CHOICES]) == (together["labels"] != IGNORED).sum()
    with torch.inference_mode():
        alone = sum(answer_loss(model, conversation.encode([row], supervised=True), 1) for row in answers)
        torch.testing.assert_close(answer_loss(model, together, 1), alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", families("qwen3_vl", "fast_vlm"))
def test_image_tokens_that_do_not_match_the_photo_end_the_run(
    name: str, tiny_base: Callable[[str], Base], form: Form
) -> None:
    """This is what truncation would cause; rows are never truncated."""
    base, conversation = talk(tiny_base(name), "decisions")
    batch = conversation.encode(rows(form, conversation, *kinds_of(form)[:2]), supervised=True)
    first = int((batch["input_ids"][0] == base.reader.image_token_id).nonzero()[0])
    batch["input_ids"][0, first] = batch["input_ids"][0, -1]
    with pytest.raises(ValueError, match="do not match"):
        answer_loss(base.model, batch)


@pytest.mark.parametrize("base", ["qwen3_vl", "llava_siglip_qwen2"])
def test_a_step_in_parts_has_the_same_loss(base: str, run_of: Callable[..., Path]) -> None:
    """Parts with more decisions weigh more: the mean is over all of the step's tokens."""
    losses = []
    for batch_size, accumulate in ((8, 1), (2, 4)):
        training = {"batch_size": batch_size, "accumulate": accumulate, "max_steps": 1}
        run = run_of(base, fields=["passed", "kind", "findings"], training=training)
        (state,) = (run / "checkpoints").glob("checkpoint-1/trainer_state.json")
        losses += [entry["loss"] for entry in json.loads(state.read_text())["log_history"] if "loss" in entry]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.parametrize("name", ["qwen3_vl", "fast_vlm", "llama"])
def test_the_end_of_the_turn_is_learned_among_all_tokens(
    name: str, tiny_base: Callable[[str], Base], form: Form
) -> None:
    base, conversation = talk(tiny_base(name), "decisions")
    batch = conversation.encode(rows(form, conversation, kinds_of(form)[0]), supervised=True)
    supervised = batch["labels"][0][batch["labels"][0] != IGNORED]
    assert int(supervised[-1]) in base.model.generation_config.eos_token_id
    assert (batch[CHOICES][-1] == -1).all()  # every bit is set


SHARING = [name for name in TINY if name not in ("qwen3_5", "gemma3", "paligemma")]


def require_the_same_without_a_prefix(method: Method, model: Any, batch: Batch) -> None:
    """Compare the loss and the gradients of a batch with those of a step that does not share the prompts' prefix."""
    results = []
    for each in (batch, {key: value for key, value in batch.items() if key != SHARED}):
        model.zero_grad()
        loss = method.loss(model, each, None)
        loss.backward()
        gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        results.append((loss.detach(), gradients))
    (shared, ours), (plain, theirs) = results
    torch.testing.assert_close(shared, plain, rtol=1e-5, atol=1e-6)  # float32, summed in another order
    assert ours.keys() == theirs.keys()
    assert any(gradient.abs().max() > 1e-4 for gradient in theirs.values())
    for name, gradient in theirs.items():
        torch.testing.assert_close(ours[name], gradient, rtol=1e-3, atol=1e-5)


def prompts_with_a_prefix(form: Form, conversation: Conversation) -> list[Row]:
    asked = Row(form, (Turn("user", "Look closely."),), images(conversation), '{"passed":true,"kind":"another"}')
    return [*rows(form, conversation, *kinds_of(form)[:2]), asked]


@pytest.mark.parametrize("name", SHARING)
def test_a_shared_prefix_changes_neither_loss_nor_gradient(
    name: str, tiny_base: Callable[[str], Base], form: Form
) -> None:
    base, conversation = talk(tiny_base(name), "decisions")
    batch = conversation.encode(prompts_with_a_prefix(form, conversation), supervised=True)
    assert batch[SHARED] > len(form.prompt) / 8
    read: list[tuple[int, ...]] = []
    base.model.get_input_embeddings().register_forward_hook(lambda _, inputs, output: read.append(inputs[0].shape))
    require_the_same_without_a_prefix(SFT(), base.model.train(), batch)
    rows, length = batch["input_ids"].shape
    assert read == [(1, batch[SHARED]), (rows, length - batch[SHARED]), (rows, length)]


@pytest.mark.parametrize("method", [SFT(), DPO(Preference()), KTO(Preference())], ids=lambda method: method.name)
@pytest.mark.parametrize("tuning", ["lora", "dora", "full"])
@pytest.mark.parametrize("name", ["qwen3_vl", "fast_vlm"])
def test_a_prefix_is_shared_alike_by_every_method_and_tuning(
    name: str, tuning: Tuning, method: Method, tiny_base: Callable[[str], Base], form: Form
) -> None:
    base, conversation = talk(tiny_base(name), "decisions")
    projector: Tuning = "full" if tuning == "full" else "frozen"
    attached = attach(base, AdapterSettings(language=tuning, projector=projector, rank=4, alpha=8), seed=0)
    move_trained_tensors(attached.model)
    last = rows(form, conversation, kinds_of(form)[1], passed=True)
    batch = method.encode(conversation, [*prompts_with_a_prefix(form, conversation), *last])
    if method.compares:
        with torch.no_grad():
            batch[REFERENCE] = likelihood.log_likelihoods(attached.model, batch) - torch.tensor([0.5, -0.3, 0.2, 0.1])
        batch[MARKS] = torch.tensor([1.0, -1.0, UNRELATED, 1.0])
    assert batch[SHARED] > len(form.prompt) / 8
    require_the_same_without_a_prefix(method, attached.model.train(), batch)


@pytest.mark.parametrize("name", [name for name in TINY if name not in SHARING])
def test_other_families_share_no_prefix(name: str, tiny_base: Callable[[str], Base], form: Form) -> None:
    _, conversation = talk(tiny_base(name), "decisions")
    assert SHARED not in conversation.encode(prompts_with_a_prefix(form, conversation), supervised=True)
