"""An answer while it is written: each state is a beginning of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from datasets_vision.example import Turn
from tests.forms import form_of
from vlm_ft.answers.kinds import Flag, Text
from vlm_ft.decoding.writing import _whole_characters
from vlm_ft.errors import AdapterError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.inference.streaming import streamed

ASKED = (Turn("user", "Where is it?"),)


def test_each_state_is_a_beginning_of_the_answer(bare: Callable[[str], Engine]) -> None:
    form = form_of(known=Flag(), reply=Text(max_length=30), note=Text(max_length=10))
    *states, answer = streamed(bare("qwen3"), Request(turns=ASKED, form=form))
    assert isinstance(answer, Attributed)
    (whole,) = bare("qwen3").predict([Request(turns=ASKED, form=form)])
    assert answer == whole
    assert {len(state) for state in states if not isinstance(state, Attributed)} == {2, 3}
    lengths = []
    for state in states:
        assert not isinstance(state, Attributed)
        *before, writing = state
        assert [*state] == [*whole.values][: len(state)]
        assert [state[name] for name in before] == [whole.values[name] for name in before]
        assert whole.values[writing].startswith(state[writing])
        lengths.append((len(state), len(state[writing])))
    assert lengths == sorted(lengths)


def test_errors_are_raised(bare: Callable[[str], Engine]) -> None:
    with pytest.raises(AdapterError, match="is not loaded"):
        list(streamed(bare("qwen3"), Request(turns=ASKED, adapter="gone")))


@pytest.mark.parametrize("text", ['He said \\"no\\" \\\\ then', "a\\nb", "\\\\", '\\\\\\"'])
def test_incomplete_characters_wait(text: str) -> None:
    whole = json.loads(f'"{text}"')
    states = [_whole_characters(f'{text}"'[:length]) for length in range(len(text) + 2)]
    assert states[-1] == whole
    assert all(whole.startswith(state) for state in states)
    assert _whole_characters("Gr\ufffd") == "Gr"
