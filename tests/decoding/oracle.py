"""Forms and an oracle for the decoder: the probability of a whole answer, from one plain forward pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tests.forms import form_of
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Flag, Integer
from vlm_ft.bases.load import Base
from vlm_ft.conversation import CHOICES, OWN_KEYS, Conversation, Row
from vlm_ft.decoding.tokens import unpacked

NESTED = ("scratch", "scratch_deep", "scrape", "scrap", "dent", "de", 'a "quoted" one', "déformé")
"""Options with common beginnings, some of which are prefixes of others."""


def closed_form(options: Sequence[str] = NESTED) -> Form:
    """Three closed fields."""
    return form_of(passed=Flag(), kind=Choice(options=tuple(options)), count=Integer(minimum=0, maximum=120))


def answer_logprob(base: Base, row: Row) -> list[float]:
    """The log-probability of each decision of the row's target, as training sees it, without the end of the turn."""
    conversation = Conversation(base.reader, "decisions")
    batch = conversation.encode([row], supervised=True)
    labels, choices = batch["labels"][0, 1:], batch[CHOICES]
    inputs = {key: value for key, value in batch.items() if key not in OWN_KEYS}
    with torch.inference_mode():
        logits = base.model(**inputs, use_cache=False).logits[0, :-1]
    logits = logits[labels >= 0].float()
    shares = logits.masked_fill(~unpacked(choices, logits.shape[1]), float("-inf")).log_softmax(-1)
    found = shares[range(len(shares)), labels[labels >= 0]].tolist()
    return [float(value) for value in found[:-1]]


def answer_shares(base: Base, row: Row) -> torch.Tensor:
    """(tokens, vocabulary) the probabilities of every token at each place of the row's target, without any mask."""
    batch = Conversation(base.reader, "answer").encode([row], supervised=True)
    inputs = {key: value for key, value in batch.items() if key not in OWN_KEYS}
    with torch.inference_mode():
        logits = base.model(**inputs, use_cache=False).logits[0, :-1]
    return logits[batch["labels"][0, 1:] >= 0].float().softmax(-1)
