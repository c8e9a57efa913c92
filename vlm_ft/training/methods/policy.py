"""Reinforcement learning: sample answers, score them, and make the better ones of each prompt more likely.

Answers are sampled by the decoder used in serving, and learned under the distribution that they were sampled from: a
softmax over what the form allows, at the same temperature. Each step samples again, so importance weights are 1 and no
clipping is needed. A text is learned as the tokenizer splits it, which may differ from the tokens drawn.

With `beta`, the loss also has the divergence from the model at the start of the run, under the same distribution.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datasets_vision.images import opened
from vlm_ft.answers.form import Form
from vlm_ft.answers.metrics import case_score
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.bases.load import Base
from vlm_ft.bases.modes import evaluating
from vlm_ft.bases.shared_images import tower_once_per_image
from vlm_ft.conversation import Batch, Conversation, Row, moved, photos_shown
from vlm_ft.data.cases import Case
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.decoding.writing import Sampling
from vlm_ft.errors import DataError
from vlm_ft.likelihood import token_losses
from vlm_ft.recipe import Policy
from vlm_ft.reward_model import RewardModel
from vlm_ft.training.methods.method import Images, Method, encoded

ROWS = "rows"  # key of a batch: its prompts
COUNT = "count"  # key of a batch: a tensor (prompts,), from which the trainer gets their number
POLICY = "policy"


class PolicyGradient(Method):
    """REINFORCE (Williams 1992) with an advantage that compares the answers to one prompt.

    The reward is how well an answer agrees with the label (`reward`), or the score of a reward model.
    """

    per_token = False
    samples = True

    @property
    def compares_weights(self) -> bool:
        """See `Method.compares_weights`."""
        return self._settings.beta > 0

    def __init__(self, settings: Policy) -> None:
        self._settings, self.rows_per_case = settings, settings.answers

    def begin(self, base: Base, conversation: Conversation) -> None:
        """Make a decoder for the model, load the reward model, if any, and keep a copy of the weights for `beta`."""
        self._base, self._conversation = base, conversation
        named = base.model.named_parameters() if self._settings.beta else ()
        self._start = {name: weight.detach().clone() for name, weight in named if weight.requires_grad}
        self._decoder = FormDecoder(base)
        judge = self._settings.reward_model
        self._judge = RewardModel.open(judge) if judge is not None else None

    def arranged(self, cases: Sequence[Case]) -> tuple[Case, ...]:
        """The cases that state an answer or, with a reward model, all cases."""
        return tuple(case for case in cases if case.values or self._settings.reward_model is not None)

    def require(self, cases: Sequence[Case]) -> None:
        """Raise `DataError` if no case has an answer to compare with, unless a reward model is given."""
        if self._settings.reward_model is None and not any(case.values for case in cases):
            raise DataError(f"method {self.name}", "no training example states an answer", "give policy.reward_model")

    def rows(self, form: Form, case: Case, images: Images, values: Values) -> Sequence[Row]:
        """The prompt; its target is the label, with which answers are compared."""
        asked = form.narrow(values) if values else form
        target = asked.target(values) if values else None
        return (Row(asked, case.example.turns, tuple(images), target),)

    def encode(self, conversation: Conversation, rows: Sequence[Row]) -> Batch:
        """The rows themselves, with their photos opened: `loss` encodes them with the answers that it samples."""
        ready = [replace(row, images=tuple(map(opened, row.images))) for row in rows]
        return {ROWS: ready, COUNT: torch.zeros(len(rows))}

    def loss(self, model: Any, batch: Batch, count: Tensor | int | None = None) -> Tensor:
        """A loss whose gradient is the policy gradient, and whose value is 1 minus the mean reward.

        In evaluation mode, the answers are the most probable ones.
        """
        prompts = batch[ROWS]
        if not model.training:
            return 1 - self._rewards(prompts, self._answers(model, prompts, None)).mean()
        answers, temperature = self._settings.answers, self._settings.temperature
        rows = [row for row in prompts for _ in range(answers)]
        random = np.random.default_rng(int(torch.randint(2**31, ())))  # torch's state is kept in checkpoints
        predictions = self._answers(model, rows, Sampling(random, temperature))
        rewards = self._rewards(rows, predictions)
        advantages = self.advantages(rewards.view(-1, answers)).flatten()
        valid = torch.tensor([prediction.error is None for prediction in predictions])
        if not valid.any():
            raise DataError(
                f"method {self.name}", predictions[0].error or "", "shorten the texts, or the form's text fields"
            )
        written = [
            Row(row.form, row.turns, row.images, row.form.target(prediction.values))
            for row, prediction in zip(rows, predictions, strict=True)
            if prediction.error is None
        ]
        learned = moved(encoded(self._conversation, written, end=False), self._base.device)
        losses = self._losses(model, learned, advantages[valid])
        loss = losses.sum() / len(rows)
        return loss + (1 - rewards.mean() - loss).detach()

    def _losses(self, model: Any, learned: Batch, advantages: Tensor) -> Tensor:
        """The loss of every token, (tokens,), from the advantage of each answer, (answers,).

        The divergence of a decision, given the earlier ones, is half the square of the log ratio (k2 in Schulman 2020,
        "Approximating KL divergence"). It has the same gradient as TRL's k3 with `use_bias_correction_kl`.
        """
        beta, temperature = self._settings.beta, self._settings.temperature
        nats, answer = token_losses(model, learned, temperature)
        losses = advantages.to(nats)[answer] * nats
        if not beta:
            return losses
        with self._at_start(), evaluating(model):
            before, _ = token_losses(model, learned, temperature)
        return losses + beta / 2 * (nats - before).square()

    @contextmanager
    def _at_start(self) -> Iterator[None]:
        """Give the model the weights that it had at the start of the run."""
        trained = {name: value for name, value in self._base.model.named_parameters() if name in self._start}
        now = {name: parameter.data for name, parameter in trained.items()}
        try:
            for name, parameter in trained.items():
                parameter.data = self._start[name].to(parameter)  # DeepSpeed changes dtypes
            torch.clear_autocast_cache()  # it may hold copies of the current weights
            yield
        finally:
            for name, parameter in trained.items():
                parameter.data = now[name]
            torch.clear_autocast_cache()

    @abstractmethod
    def advantages(self, rewards: Tensor) -> Tensor:
        """The advantage of each answer, (prompts, answers), from the rewards of all answers to its prompt."""

    def _answers(self, model: Any, rows: Sequence[Row], sampling: Sampling | None) -> list[Prediction]:
        self._decoder.forget([POLICY])  # its prefixes were computed with an earlier step's weights
        with evaluating(model):
            size = 1 if self._decoder.one_by_one else len(rows)
            parts = (rows[start : start + size] for start in range(0, len(rows), size))
            return [answer for part in parts for answer in self._decoded(model, part, sampling)]

    def _decoded(self, model: Any, rows: Sequence[Row], sampling: Sampling | None) -> list[Prediction]:
        prompts, shown, base = self._conversation.prompts(rows, self._base.device), photos_shown(rows), self._base
        look = nullcontext() if shown is None else tower_once_per_image(base.model, base.family, prompts.batch, shown)
        with look:  # the tower runs once for all answers to one photo
            return self._decoder.decode(lambda _, **inputs: model(**inputs), [POLICY] * len(rows), prompts, sampling)

    def _rewards(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> Tensor:
        """(rows,) rewards; an answer that failed gets 0."""
        if self._judge is not None:
            return torch.tensor(self._judge.rate(rows, predictions), device=self._base.device)
        truths = [row.form.parse(row.target or "") for row in rows]
        trios = zip(rows, truths, predictions, strict=True)
        rewards = [reward(row.form, truth, prediction) for row, truth, prediction in trios]
        return torch.tensor(rewards, device=self._base.device)


def reward(form: Form, truth: Values, prediction: Prediction) -> float:
    """How well an answer agrees with the label, 0..1: `case_score`, in which each derived result counts as a field.

    A repair estimate agrees if it is within the band of the label's. An answer that failed gets 0.
    """
    pairs: Sequence[Any] = [(entry.derive(truth), entry.derive(prediction.values)) for entry in form.derivations]
    derived = [float(true.agreement(given)) for true, given in pairs if true is not None and true.definite]
    fields = len(truth) * case_score(form, truth, prediction)
    return (fields + sum(derived)) / (len(truth) + len(derived))


class GRPO(PolicyGradient):
    """Group relative policy optimisation (Shao et al. 2024): rewards standardised within the answers to one prompt."""

    name = "grpo"

    def advantages(self, rewards: Tensor) -> Tensor:
        """See `PolicyGradient.advantages`."""
        return (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)


class RLOO(PolicyGradient):
    """REINFORCE leave-one-out (Ahmadian et al. 2024): the baseline is the mean reward of the other answers."""

    name = "rloo"

    def advantages(self, rewards: Tensor) -> Tensor:
        """See `PolicyGradient.advantages`."""
        others = rewards.shape[1] - 1
        return rewards - (rewards.sum(1, keepdim=True) - rewards) / others
