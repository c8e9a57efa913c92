"""The bound on an answer's length holds for the longest answer that a form takes."""

from __future__ import annotations

import itertools
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, Flag, Integer, Items, Kind, Text
from vlm_ft.answers.task import Task
from vlm_ft.bases.reader import open_reader
from vlm_ft.decoding.grammar import FollowGrammar, Grammars, longest_answer, unpacked
from vlm_ft.tasks import TASKS


def longest(kind: Kind, character: str) -> Any:
    """The value of a kind that is longest to write; texts are of one character."""
    match kind:
        case Choice(options=options):
            return max(options, key=len)
        case Flag():
            return False
        case Integer(minimum=low, maximum=high):
            return max(low, high, key=lambda value: len(str(value)))
        case Text(max_length=length):
            return character * length
        case BoxKind():
            return [998, 999, 1000, 1000]
        case Items(fields=fields, max_items=count):
            return [{part.name: longest(part.kind, character) for part in fields}] * count


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
@pytest.mark.parametrize("character", ["x", '"', "\x00", "\u2028", "漢", "🔧"], ids=ascii)
def test_no_answer_is_longer_than_its_bound(task: Task, character: str, whole_form: Callable[[Task], Form]) -> None:
    form = whole_form(task)
    text = form.target({field.name: longest(field.kind, character) for field in form.fields})
    assert json.loads(text)
    assert len(text.encode()) < longest_answer(form)  # a token a byte, and one to end the turn


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("2001:db8::1", 80), ("example.org", 80)], ids=str)
def test_the_network_is_closed(address: tuple[str, int]) -> None:
    """192.0.2.0/24 and 2001:db8::/32 are for documentation (RFC 5737, 3849): nothing answers there anyway."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family) as plug, pytest.raises(RuntimeError, match="without a network"):
        plug.connect(address)


@pytest.mark.parametrize("task", TASKS.values(), ids=str)
def test_what_is_not_decided_follows_from_what_is(
    task: Task, whole_form: Callable[[Task], Form], tiny_folder: Callable[[str], Path]
) -> None:
    """Decoding, given the decided tokens of an answer and left alone elsewhere, writes the whole answer."""
    tokenizer = open_reader(str(tiny_folder("qwen3_vl"))).tokenizer
    grammars, form = Grammars(tokenizer), whole_form(task)
    written = form.target(task.sample.model_dump(mode="json"))
    tokens = tokenizer(written, add_special_tokens=False)["input_ids"]
    decided, choices = grammars.decisions(form, tokens)
    assert 0 < sum(decided) < len(tokens)
    allowed = unpacked(choices, len(tokenizer))
    assert allowed.sum(1).min() > 1
    assert all(row[token] for row, token in zip(allowed, itertools.compress(tokens, decided), strict=True))

    follow = FollowGrammar([grammars.matcher(form)], 0, len(tokenizer), tokenizer.eos_token_id)
    ids = torch.zeros((1, 0), dtype=torch.long)
    for token, chosen in zip(tokens, decided, strict=True):
        scores = torch.zeros((1, len(tokenizer)))
        scores[0, token] = 1.0 if chosen else -1.0  # where nothing is decided, the model would rather not
        ids = torch.cat([ids, follow(ids, scores).argmax(-1, keepdim=True)], dim=1)
    assert tokenizer.decode(ids[0]) == written


def test_an_answer_that_the_grammar_refuses_has_no_decisions(
    whole_form: Callable[[Task], Form], tiny_folder: Callable[[str], Path]
) -> None:
    tokenizer = open_reader(str(tiny_folder("qwen3_vl"))).tokenizer
    tokens = tokenizer(' {"passed": true}', add_special_tokens=False)["input_ids"]
    assert Grammars(tokenizer).decisions(whole_form(TASKS["product_defects"]), tokens) is None
