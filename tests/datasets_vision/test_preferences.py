"""Pairs in their three forms, and single replies that people liked or disliked."""

from __future__ import annotations

from collections import Counter

import pytest

from datasets_vision.example import Turn
from datasets_vision.formats import detect
from tests.datasets_vision.made import lines, only, only_set_aside, photo, real_set

ASKED = {"role": "user", "content": "Where is it?"}
GOOD, BAD = {"role": "assistant", "content": "On its way."}, {"role": "assistant", "content": "No idea."}

FORMS = {
    "text": {"prompt": "Where is it?", "chosen": "On its way.", "rejected": "No idea."},
    "messages": {"prompt": [ASKED], "chosen": [GOOD], "rejected": [BAD]},
    "implicit": {"chosen": [ASKED, GOOD], "rejected": [ASKED, BAD]},
    "openai": {"input": {"messages": [ASKED]}, "preferred_output": [GOOD], "non_preferred_output": [BAD]},
}


@pytest.mark.parametrize("record", FORMS.values(), ids=FORMS)
def test_a_pair_is_the_same_in_every_form(tmp_path, record):
    example = only(lines(tmp_path / "train.jsonl", {**record, "intent": "track"}))
    assert detect(tmp_path) == "preferences"
    assert example.turns == (Turn("user", "Where is it?"),)
    assert example.label.columns == {"intent": "track", "chosen": "On its way.", "rejected": "No idea."}
    assert example.role == "train"


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize("prompt", ["Where is it?", [ASKED]])
def test_unpaired_feedback_is_a_reply_that_was_liked_or_not(tmp_path, prompt, label):
    example = only(lines(tmp_path / "a.jsonl", {"prompt": prompt, "completion": [GOOD], "label": label}))
    assert detect(tmp_path) == "preferences"
    assert example.text == "Where is it?"
    assert dict(example.label.columns) == {"completion": "On its way.", "liked": label}


def test_a_long_prompt_keeps_its_turns(tmp_path):
    before = [{"role": "system", "content": "Be kind."}, ASKED, BAD, {"role": "user", "content": "Look again."}]
    example = only(lines(tmp_path / "a.jsonl", {"chosen": [*before, GOOD], "rejected": [*before, BAD]}))
    assert example.turns == (
        Turn("user", "Be kind.\n\nWhere is it?"),
        Turn("assistant", "No idea."),
        Turn("user", "Look again."),
    )


def test_a_pair_may_be_about_a_photo(tmp_path):
    photo(tmp_path / "images/a.png")
    example = only(lines(tmp_path / "a.jsonl", {**FORMS["text"], "prompt": "<image> Where?", "images": ["a.png"]}))
    assert example.images == (tmp_path / "images/a.png",)
    assert example.text == "Where?"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"prompt": "Where?"}, "no chosen and rejected, no preferred_output and"),
        ({**FORMS["text"], "rejected": "On its way. "}, "are the same text"),
        ({**FORMS["text"], "chosen": " "}, "chosen is empty"),
        ({**FORMS["text"], "rejected": None}, "no chosen and rejected"),
        ({**FORMS["text"], "prompt": ""}, "no text in"),
        ({**FORMS["messages"], "prompt": [ASKED, GOOD]}, "does not end with a user turn"),
        ({**FORMS["messages"], "chosen": [ASKED]}, "chosen is not one assistant turn"),
        ({"chosen": [ASKED, GOOD], "rejected": [{**ASKED, "content": "Why?"}, BAD]}, "differ before their last turn"),
        ({"chosen": "Human: a", "rejected": "Human: b"}, "not a list of messages"),
        ({"prompt": "Where?", "completion": "There.", "label": "good"}, "no chosen and rejected"),
        ({**FORMS["text"], "image": "none.png"}, "image 'none.png' is missing"),
    ],
)
def test_a_bad_pair_is_set_aside_by_file_and_line(tmp_path, record, says):
    found = lines(tmp_path / "a.jsonl", FORMS["text"], record)
    assert len(found.examples) == 1
    assert says in only_set_aside(found, f"{tmp_path}/a.jsonl:2")


@pytest.mark.parametrize(
    ("name", "train", "val"),
    [
        ("bitext_revision_pairs", 1620, 180),
        ("maintenance_action_pairs_derived", 540, 60),
        ("orca_dpo_messages", 219, 25),
    ],
)
def test_the_real_pairs_have_their_stated_counts(name, train, val):
    found = real_set(f"industry_language/{name}")
    assert found.set_aside == ()
    assert Counter(example.role for example in found.examples) == {"train": train, "val": val}
    for example in found.examples:
        columns = example.label.columns
        assert example.text
        assert columns["chosen"] != columns["rejected"]
