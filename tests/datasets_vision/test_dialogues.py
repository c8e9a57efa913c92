"""Conversations as tables of turns."""

from __future__ import annotations

from collections import Counter, defaultdict

import pytest

from datasets_vision.formats import detect
from datasets_vision.source import Source, read
from tests.datasets_vision.made import only_set_aside, reading, real_set
from vlm_ft.errors import DataError

HEADER = ("conversationId", "turnNumber", "utterance", "slot-labels", "intent")
ROWS = [
    ("c1", "0", "hi", "O", "greet"),
    ("c2", "0", "a big mac", "O food food", "order<div>burger"),
    ("c1", "4", "to new york today", "O city city date", "book"),
    ("c1", "2", "a flight please", "O O O", "book"),
]


def table(rows: list[tuple[str, ...]], header: tuple[str, ...] = HEADER, end: str = "\n") -> str:
    return end.join("\t".join(row) for row in [header, *rows]) + end


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_turn_comes_with_the_preceding_ones(tmp_path, mark, end):
    found = reading(tmp_path / "air/train.tsv", mark + table(ROWS, end=end))
    assert detect(tmp_path) == "dialogues"
    assert found.set_aside == ()
    assert {example.id: [turn.text for turn in example.turns] for example in found.examples} == {
        "train:2": ["hi"],
        "train:5": ["hi", "a flight please"],
        "train:4": ["hi", "a flight please", "to new york today"],
        "train:3": ["a big mac"],
    }
    assert {example.group for example in found.examples} == {"c1", "c2"}
    assert {example.role for example in found.examples} == {"train"}


def test_intents_and_slots_are_columns_and_objects(tmp_path):
    found = reading(tmp_path / "air/train.tsv", table(ROWS), columns={"intent": "intent", "category": "{folder}"})
    by_id = {example.id: example.label for example in found.examples}
    assert by_id["train:3"].columns == {"intent": "order+burger", "category": "air"}
    assert [(obj.name, dict(obj.attributes)) for obj in by_id["train:4"].objects] == [
        ("city", {"text": "new york", "start": 3, "end": 11}),
        ("date", {"text": "today", "start": 12, "end": 17}),
    ]
    assert by_id["train:2"].objects == ()


def test_slots_and_intents_may_be_missing(tmp_path):
    rows = [("c1", "1.0", "hi"), ("c1", "2.0", "bye")]
    found = reading(tmp_path / "a.tsv", table(rows, HEADER[:3]))
    assert [example.label.objects for example in found.examples] == [None, None]
    assert len(found.examples[1].turns) == 2


@pytest.mark.parametrize(
    ("row", "says"),
    [
        (("c1", "x", "hello", "O", "greet"), "turnNumber 'x' is not a number"),
        (("c1", "0", "hello", "O", "greet"), "a second turn 0 of conversation 'c1'"),
        (("c1", "9", " ", "O", "greet"), "a turn without text"),
        (("c1", "9", "hello you", "O", "greet"), "1 slot labels for 2 words"),
        ((" ", "9", "hello", "O", "greet"), "no conversationId"),
        (("c1", "9", "hello"), "expected 5 cells, found 3"),
    ],
)
def test_a_bad_turn_is_set_aside_by_file_and_line(tmp_path, row, says):
    found = reading(tmp_path / "a.tsv", table([*ROWS, row]))
    assert len(found.examples) == len(ROWS)
    assert says in only_set_aside(found, f"{tmp_path}/a.tsv:6")


def test_an_unusable_turn_remains_context(tmp_path):
    rows = [("c1", "0", "one two", "O", "x"), ("c1", "1", "three", "O", "y")]
    (example,) = reading(tmp_path / "a.tsv", table(rows)).examples
    assert [turn.text for turn in example.turns] == ["one two", "three"]


def test_another_table_is_set_aside(tmp_path):
    (tmp_path / "a.tsv").write_text(table(ROWS))
    (tmp_path / "b.tsv").write_text("text\tlabel\nx\ty\n")
    found = read(Source(path=tmp_path))
    assert len(found.examples) == len(ROWS)
    assert [item.place for item in found.set_aside] == [f"{tmp_path}/b.tsv"]
    with pytest.raises(DataError, match="no column 'conversationId'"):
        read(Source(path=tmp_path / "b.tsv", format="dialogues"))


def test_multidogo_has_its_stated_counts():
    found = real_set("customer_chatbot/multidogo_tsv", columns={"intent": "intent", "service": "{folder}"})
    assert len(found.examples) + len(found.set_aside) == 6624
    assert {item.reason for item in found.set_aside} == {"a turn without text"}
    assert len(found.set_aside) == 3
    services = Counter((example.label.columns["service"], example.role) for example in found.examples)
    assert services["fastfood", "train"] == 993
    assert services["insurance", "val"] == 158
    turns = defaultdict(set)
    for example in found.examples:
        turns[example.group].add(len(example.turns))
    assert len(turns) == 780
    assert all(counts <= set(range(1, max(counts) + 1)) for counts in turns.values())


def test_agent_turns_are_assistant_turns_and_not_examples(tmp_path):
    rows = [("c1", "0", "hello", "agent"), ("c1", "1", "a flight", "customer"), ("c1", "2", "where to?", "Agent")]
    rows += [("c1", "3", "to rome", "customer"), ("c1", "4", "booked", "agent"), ("c2", "0", "psst", "spy")]
    found = reading(tmp_path / "a.tsv", table(rows, (*HEADER[:3], "authorRole")))
    assert [[turn.role for turn in example.turns] for example in found.examples] == [
        ["assistant", "user"],
        ["assistant", "user", "assistant", "user"],
    ]
    assert [example.text for example in found.examples] == ["a flight", "to rome"]
    assert [entry.reason for entry in found.set_aside] == [
        "unknown authorRole 'spy'; known: agent, assistant, customer, user"
    ]
