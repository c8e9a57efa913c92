"""The grammar of a form: llguidance keeps every written answer inside the form's JSON schema.

Where the schema leaves one way to go on (a field's name, the rest of an option that nothing else begins like),
decoding writes it unasked, and training need not teach it: only what is decided is asked of the model.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from llguidance import LLMatcher, LLTokenizer
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from torch import Tensor
from torch.nn import functional
from transformers import LogitsProcessor

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Kind, Text

BYTES = 4  # the most bytes of one character in UTF-8: the most tokens that a byte-level vocabulary spends on it


class Grammars:
    """The compiled schema of each form, for one tokenizer."""

    def __init__(self, tokenizer: Any, vocabulary: int | None = None, stops: Sequence[int] | None = None) -> None:
        self._tokenizer: LLTokenizer = from_tokenizer(
            tokenizer, n_vocab=vocabulary, eos_token=None if stops is None else list(stops)
        )
        self._compiled: dict[str, str] = {}

    def matcher(self, form: Form) -> LLMatcher:
        """A fresh state of the form's grammar."""
        if form.fingerprint not in self._compiled:
            self._compiled[form.fingerprint] = LLMatcher.grammar_from_json_schema(
                json.dumps(form.schema_of_answer), defaults={"whitespace_flexible": False}
            )
        matcher = LLMatcher(self._tokenizer, self._compiled[form.fingerprint])
        if matcher.is_error():
            raise RuntimeError(f"form {form.task}: {matcher.get_error()}")
        return matcher

    def everything(self, answer: Sequence[int]) -> tuple[list[bool], Tensor]:
        """As `decisions`, where every token is one, among all."""
        return [True] * len(answer), allocate_token_bitmask(len(answer), self._tokenizer.vocab_size)

    def decisions(self, form: Form, answer: Sequence[int]) -> tuple[list[bool], Tensor] | None:
        """Token by token of a written answer whether the grammar left a choice there, and what could be chosen.

        The choices are (decisions, words of 32 bits), as `unpacked` reads them. The token that ends the turn is a
        decision among all tokens, so that a model that writes without the grammar also stops.
        None for an answer that the grammar does not take: some tokenizers write a space first.
        """
        matcher, forced = self.matcher(form), list[int]()
        decided: list[bool] = []
        choices = allocate_token_bitmask(len(answer), self._tokenizer.vocab_size)
        for place, token in enumerate(answer):
            if matcher.is_stopped():
                break
            forced = forced or matcher.compute_ff_tokens()
            decided.append(forced[:1] != [token])
            if decided[-1]:
                forced = []
                fill_next_token_bitmask(matcher, choices, place)
            if not matcher.consume_token(token):
                return None
            forced = forced[1:]
        rest = len(answer) - len(decided)
        decided += [True, *[False] * (rest - 1)] if rest else []  # a bitmask is all ones until it is filled
        return decided, choices[torch.tensor(decided, dtype=torch.bool)]


class FollowGrammar(LogitsProcessor):  # type: ignore[misc]
    """Masks what the grammar of each row of a batch forbids next."""

    def __init__(self, matchers: Sequence[LLMatcher], prompt_length: int, vocabulary: int, stop: int) -> None:
        self.matchers = matchers
        self.stop = stop
        self.seen = prompt_length
        self.bitmask = allocate_token_bitmask(len(matchers), vocabulary)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """(batch, length) tokens so far and (batch, vocabulary) scores to masked scores."""
        for tokens, matcher in zip(input_ids[:, self.seen :].tolist(), self.matchers, strict=True):
            for token in tokens:
                if not matcher.is_stopped():
                    matcher.consume_token(token)
        self.seen = input_ids.shape[1]
        forced: dict[int, int] = {}
        for row, matcher in enumerate(self.matchers):
            if matcher.is_stopped():  # the answer is whole: end the turn
                forced[row] = self.stop
            elif only := matcher.compute_ff_tokens():
                forced[row] = only[0]
            else:
                fill_next_token_bitmask(matcher, self.bitmask, row)
        allowed = unpacked(self.bitmask, scores.shape[1])
        for row, token in forced.items():
            allowed[row] = False
            allowed[row, token] = True
        return scores.masked_fill(~allowed.to(scores.device), float("-inf"))


def unpacked(bitmask: Tensor, vocabulary: int) -> Tensor:
    """(batch, words) of 32 bits to (batch, vocabulary) bool; what the words do not reach is False."""
    places = torch.arange(32, dtype=torch.int32, device=bitmask.device)
    bits = bitmask.unsqueeze(-1).bitwise_right_shift(places).bitwise_and(1).flatten(1).bool()
    return functional.pad(bits, (0, max(0, vocabulary - bits.shape[1])))[:, :vocabulary]


def narrowed(logits: Tensor, choices: Tensor | None) -> Tensor:
    """Logits (tokens, vocabulary) with -inf at what the packed choices (tokens, words) leave out."""
    if choices is None:
        return logits
    return logits.masked_fill(~unpacked(choices, logits.shape[1]), float("-inf"))


def longest_answer(form: Form) -> int:
    """An upper bound of the tokens of one answer, for a tokenizer that spends at most one token a byte."""
    return _longest_object(form.fields) + 1


def _longest_object(fields: Sequence[FieldSpec]) -> int:
    return 2 + sum(len(field.name.encode()) + 4 + _longest(field.kind) for field in fields)


def _longest(kind: Kind) -> int:
    match kind:
        case Choice(options=options):
            return 2 + max(len(json.dumps(option).encode()) for option in options)
        case Flag():
            return len("false")
        case Integer(minimum=minimum, maximum=maximum):
            return max(len(str(minimum)), len(str(maximum)))
        case Text(max_length=length):
            return 2 + length * (BYTES + 2)  # an escaped character takes up to six bytes
        case BoxKind():
            return len("<loc0000>") * 4 + 2  # the longest of the conventions
        case Items(fields=fields, max_items=count):
            return 2 + count * (1 + _longest_object(fields))
