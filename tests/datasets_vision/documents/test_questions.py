"""Questions by template and a chatbot's rows: every answer is in the manual's own words, with its passage."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from datasets_vision.documents.build import read_documents, write_messages
from datasets_vision.documents.passages import Document, passages
from datasets_vision.documents.questions import Question, questions
from vlm_ft.errors import DataError

MANUAL = """# Pump P7

A pump is a machine that moves fluids.

## 2.1 Replacing the filter

Warning: close both valves first.

1. Open the lid.
2. Lift the filter out.

## How to grease the bearing

1. Take the grease gun.

## Why does it hum?

Air is in the pipe. Vent it.

## Parts

- **Rotor**: turns in the housing

| Fault | Cause | Remedy |
| --- | --- | --- |
| No flow | Closed valve | Open the valve |
| Noise | | Tighten the feet |
"""


def asked(tmp_path: Path, text: str = MANUAL) -> dict[str, Question]:
    (tmp_path / "pump.md").write_text(text, encoding="utf-8")
    (found,) = read_documents(tmp_path / "pump.md")
    assert isinstance(found, Document)
    return {item.question: item for passage in passages(found) for item in questions(passage)}


def rows(out: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ('What is meant by "pump"?', "A pump is a machine that moves fluids."),
        ("What are the steps for replacing the filter?", "1. Open the lid.\n2. Lift the filter out."),
        ('What warning does the manual give under "Replacing the filter"?', "Warning: close both valves first."),
        ("How do I grease the bearing?", "1. Take the grease gun."),
        ("Why does it hum?", "Air is in the pipe. Vent it."),
        ('What does the manual say "Rotor" is?', "turns in the housing"),
        ('What is the remedy for "Fault No flow" (Parts (Pump P7))?', "Open the valve"),
        ('What is the remedy for "Fault Noise" (Parts (Pump P7))?', "Tighten the feet"),
    ],
)
def test_structure_gives_its_question(tmp_path, question, answer):
    assert asked(tmp_path)[question].answer == answer


def test_an_empty_cell_gives_no_question(tmp_path):
    causes = [question for question in asked(tmp_path) if "cause" in question]
    assert [question for question in causes if "No flow" in question]
    assert not [question for question in causes if "Noise" in question]


@pytest.mark.parametrize("longest", [60, 600])
def test_answers_are_verbatim_and_bounded_in_length(tmp_path, longest):
    text = MANUAL + "\n## Long\n\n" + " ".join(f"The part with number {n} is checked each day." for n in range(40))
    (tmp_path / "pump.md").write_text(text)
    out = tmp_path / "chat.jsonl"
    built = write_messages(tmp_path / "pump.md", out, max_answer=longest)
    found = rows(out)
    assert built.rows == len(found) == sum(built.kinds.values())
    for row in found:
        answer = row["messages"][1]["content"]
        assert len(answer) <= longest
        assert "".join(answer.removesuffix(" …").split()) in "".join(row["passage"].split())
        assert row["group"] == "pump.md"
        assert row["source"].startswith("pump.md")
        assert [turn["role"] for turn in row["messages"]] == ["user", "assistant"]
    assert len({row["messages"][0]["content"].lower() for row in found}) == len(found)


def test_a_section_in_parts_gives_a_question_per_part(tmp_path):
    long = "# Care\n\n" + "\n\n".join(
        f"Wipe part {n} with a dry cloth and put it back in its place." for n in range(60)
    )
    found = [question for question in asked(tmp_path, long) if question.startswith("What does the manual")]
    assert found[:2] == ['What does the manual say about "Care"?', 'What does the manual say about "Care" (part 2)?']


def test_two_answers_to_one_question_are_distinguished_or_set_aside(tmp_path):
    text = "# A\n\n## Care of it\n\nWipe it.\n\n# B\n\n## Care of it\n\nOil it.\n\n# B\n\n## Care of it\n\nWax it.\n"
    (tmp_path / "m.md").write_text(text + "\n# A\n\n## Care of it\n\nWipe it.\n")
    built = write_messages(tmp_path, tmp_path / "out" / "chat.jsonl")
    answers = [row["messages"][1]["content"] for row in rows(tmp_path / "out" / "chat.jsonl")]
    assert answers == ["Wipe it.", "Oil it."]
    assert [entry.reason for entry in built.set_aside] == [
        "a second, different answer to the question 'What does the manual say about \"Care of it\"?'"
    ]


def test_nothing_is_dropped_silently(tmp_path):
    (tmp_path / "a.md").write_text("Words without a heading.")
    (tmp_path / "b.md").write_text("# Care of it\n\nWipe it.")
    (tmp_path / "c.pdf").write_bytes(b"")
    (tmp_path / "d").symlink_to(tmp_path.parent)
    built = write_messages(tmp_path, tmp_path / "chat.jsonl")
    assert (built.documents, built.rows) == (2, 1)
    assert [re.sub(r".*/", "", entry.place) for entry in built.set_aside] == ["a.md", "c.pdf", "d"]


@pytest.mark.parametrize("content", [None, b"", b"Words without a heading."])
def test_a_folder_without_questions_is_reported(tmp_path, content):
    folder = tmp_path / "manuals"
    folder.mkdir()
    if content is not None:
        (folder / "a.md").write_bytes(content)
    with pytest.raises(DataError, match="no questions found in"):
        write_messages(folder, tmp_path / "chat.jsonl")
    assert list(tmp_path.iterdir()) == [folder]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        write_messages(tmp_path / "none", tmp_path / "chat.jsonl")
