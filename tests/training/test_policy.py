"""Policy gradients are the gradients that they claim to be, under the distribution that answers are drawn from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from torch import Tensor
from trl import GRPOConfig, GRPOTrainer

from datasets_vision.example import Example, Turn
from tests.cards import answered
from tests.forms import form_of
from vlm_ft.answers.derivations.estimate import Rate, RateCard
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag, Items
from vlm_ft.answers.metrics import case_score
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.load import Base
from vlm_ft.conversation import Conversation, Row
from vlm_ft.data.cases import Case
from vlm_ft.decoding.writing import Sampling
from vlm_ft.likelihood import log_likelihoods, token_losses
from vlm_ft.recipe import Policy
from vlm_ft.training.methods.method import encoded
from vlm_ft.training.methods.policy import GRPO, RLOO, PolicyGradient, reward


def test_policy_gradients_agree_with_the_exact_gradient(tiny_base: Callable[[str], Base]) -> None:
    """With one flag, the expected reward and its gradient are known: p(true) of the label, and its derivative."""
    base = tiny_base("llama")
    form = form_of(ok=Flag())
    conversation = Conversation(base.reader, "decisions")
    case = Case(Example("0", turns=(Turn("user", "Well?"),)), {"ok": True})
    weight = base.model.model.layers[-1].mlp.down_proj.weight
    truth = encoded(conversation, [Row(form, case.example.turns, (), form.target({"ok": True}))], end=False)
    probability = log_likelihoods(base.model, truth).exp().sum()
    (exact,) = torch.autograd.grad(-probability, weight)

    answers = 400
    torch.manual_seed(0)
    method = RLOO(Policy(answers=answers))
    method.begin(base, conversation)
    base.model.train()
    batch = method.encode(conversation, method.rows(form, case, (), case.values))
    loss = method.loss(base.model, batch)
    (sampled,) = torch.autograd.grad(loss, weight)
    assert loss.item() == pytest.approx(1 - probability.item(), abs=0.1)  # four standard errors of 400 answers
    along = float((sampled * exact).sum() / exact.square().sum())
    assert along == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_sampled_answers_are_learned_under_the_distribution_that_they_were_drawn_from(
    temperature: float, tiny_base: Callable[[str], Base]
) -> None:
    """The learned probabilities of all answers sum to one, and are those that decoding samples from."""
    base = tiny_base("llama")
    options = ("dent", "dent and scratch", "scratch")
    form = form_of(ok=Flag(), kind=Choice(options=options))
    conversation, turns = Conversation(base.reader, "decisions"), (Turn("user", "Well?"),)
    answers = [{"ok": ok, "kind": kind} for ok in (True, False) for kind in options]
    rows = [Row(form, turns, (), form.target(values)) for values in answers]
    with torch.inference_mode():
        learned = log_likelihoods(base.model, encoded(conversation, rows, end=False), temperature).exp()
    assert learned.sum().item() == pytest.approx(1, abs=1e-4)
    method = RLOO(Policy(answers=2, temperature=temperature))
    method.begin(base, conversation)
    sampling = Sampling(np.random.default_rng(0), temperature)
    drawn = method._answers(base.model, [rows[0]] * 2000, sampling)
    counts = [sum(prediction.values == values for prediction in drawn) for values in answers]
    np.testing.assert_allclose(np.array(counts) / 2000, learned, atol=0.045)  # four standard errors


def test_an_estimate_counts_as_a_field_of_the_reward() -> None:
    """Of two answers with one wrong name, the one that costs as much as the label is better."""
    prices = {"kind": "*", "severity": "*", "labour_hours": 1, "labour_rate": 50, "parts_low": 0}
    costs = {"hood": 9, "roof": 9, "door": 900}
    rates = tuple(Rate.model_validate({**prices, "part": part, "parts_high": cost}) for part, cost in costs.items())
    card = RateCard(name="own", version="1", currency="EUR", rates=rates)
    parts = FieldSpec(name="part", kind=Choice(options=("hood", "roof", "door")))
    kinds = FieldSpec(name="kind", kind=Choice(options=("dent",)))
    form = form_of(findings=Items(fields=(parts, kinds), max_items=3)).with_derivation(card)
    truth, roof, door = ({"findings": [{"part": part, "kind": "dent"}]} for part in ("hood", "roof", "door"))
    assert reward(form, truth, answered(truth)) == 1
    scores = [case_score(form, truth, answered(values)) for values in (roof, door)]
    assert [reward(form, truth, answered(values)) for values in (roof, door)] == [(scores[0] + 1) / 2, scores[1] / 2]
    assert scores[0] == scores[1]
    assert reward(form, truth, Prediction.failed("broken")) == 0
    assert reward(form.model_copy(update={"derivations": ()}), truth, answered(door)) == scores[1]


def test_a_judges_favourite_becomes_more_likely(tiny_base: Callable[[str], Base]) -> None:
    base = tiny_base("llama")
    form = form_of(ok=Flag())
    conversation, turns = Conversation(base.reader, "decisions"), (Turn("user", "Well?"),)

    class Judge:
        def rate(self, rows: list[Row], predictions: list[Prediction]) -> list[float]:
            return [float(prediction.values["ok"] is False) for prediction in predictions]

    method = GRPO(Policy(answers=16))
    method.begin(base, conversation)
    method._judge = Judge()
    favourite = encoded(conversation, [Row(form, turns, (), form.target({"ok": False}))], end=False)
    optimizer = torch.optim.SGD(base.model.parameters(), lr=0.05)
    torch.manual_seed(0)

    def likely() -> float:
        with torch.inference_mode():
            return log_likelihoods(base.model, favourite).exp().item()

    before = likely()
    base.model.train()
    for _ in range(5):
        optimizer.zero_grad()
        method.loss(base.model, method.encode(conversation, [Row(form, turns, ())])).backward()
        optimizer.step()
    assert likely() > before + 0.05


WORDS = form_of(ok=Flag(), kind=Choice(options=("dent", "dent and scratch", "scratch")))


def likelihoods_by_token(model: Any, batch: dict[str, Any], temperature: float) -> tuple[Tensor, Tensor]:
    """The log-probabilities of the decisions, (answers, decisions), and which of them exist."""
    nats, answer = token_losses(model, batch, temperature)
    counts = answer.bincount(minlength=len(batch["labels"]))
    mask = torch.arange(int(counts.max()))[None] < counts[:, None]
    return torch.zeros(mask.shape).masked_scatter(mask, -nats), mask


def grpo_loss(folder: Path, out: Path, likely: Tensor, start: Tensor, mask: Tensor, advantages: Tensor) -> Tensor:
    """TRL's loss, summed over tokens, for these log-probabilities, (answers, tokens)."""
    theirs = GRPOTrainer(
        model=str(folder),
        reward_funcs=lambda completions, **columns: [0.0] * len(completions),
        args=GRPOConfig(
            str(out), beta=0.2, loss_type="dr_grpo", max_completion_length=1, use_cpu=True, bf16=False, report_to="none"
        ),
        train_dataset=Dataset.from_dict({"prompt": ["a"]}),
    )
    theirs._get_per_token_logps_and_entropies = lambda *given, **options: (likely, torch.zeros_like(likely), None)
    ids = torch.zeros(likely.shape, dtype=torch.long)
    batch = {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": mask.long()}
    theirs.current_gradient_accumulation_steps = 1
    return theirs._compute_loss(theirs.model, {**batch, "advantages": advantages, "ref_per_token_logps": start})


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing.* is deprecated:FutureWarning")  # TRL's own
@pytest.mark.parametrize("kind", [GRPO, RLOO])
def test_the_gradient_with_a_divergence_equals_trls(
    kind: type[PolicyGradient],
    tiny_folder: Callable[[str], Path],
    tiny_base: Callable[[str], Base],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Theirs gets our log-probabilities, since it does not restrict its softmax to what a form allows."""
    base, start = tiny_base("llama"), tiny_base("llama")
    conversation = Conversation(base.reader, "decisions")
    method = kind(Policy(answers=6, temperature=0.7, beta=0.2))
    method.begin(base, conversation)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in base.model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    sampled: list[Prediction] = []

    def kept(self: PolicyGradient, *given: Any) -> list[Prediction]:
        sampled.extend(answers := decoded(self, *given))
        return answers

    decoded = PolicyGradient._answers
    monkeypatch.setattr(PolicyGradient, "_answers", kept)
    case = Case(Example("0", turns=(Turn("user", "Well?"),)), {"ok": True, "kind": "dent"})
    base.model.train()
    weight = base.model.model.layers[0].mlp.down_proj.weight
    prompts = method.encode(conversation, method.rows(WORDS, case, (), case.values))
    (ours,) = torch.autograd.grad(method.loss(base.model, prompts), weight)

    rows = [Row(WORDS, case.example.turns, (), WORDS.target(answer.values)) for answer in sampled]
    learned = encoded(conversation, rows, end=False)
    likely, mask = likelihoods_by_token(base.model, learned, 0.7)
    with torch.no_grad():
        before, _ = likelihoods_by_token(start.model, learned, 0.7)
    labels = [Row(WORDS, case.example.turns, (), WORDS.target(case.values))] * 6
    advantages = method.advantages(method._rewards(labels, sampled)[None])[0]
    (theirs,) = torch.autograd.grad(grpo_loss(tiny_folder("llama"), tmp_path, likely, before, mask, advantages), weight)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)  # float32, summed in another order
