"""Reviewed answers become examples: the last verdict on each case counts, and nothing is skipped silently."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from datasets_vision.formats import detect
from datasets_vision.formats.reviews import LINES, PHOTOS, ROLE
from datasets_vision.source import Source, read


def line(case: str, verdict: str, **more: Any) -> dict[str, Any]:
    answer = {"passed": True, "kind": "good"}
    return {"case": case, "photos": ["a.png"], "text": "", "answer": answer, "verdict": verdict, **more}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / PHOTOS).mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / PHOTOS / "a.png")
    return tmp_path


def write(folder: Path, *lines: Any) -> Source:
    text = "".join((entry if isinstance(entry, str) else json.dumps(entry)) + "\n" for entry in lines)
    (folder / LINES).write_text(text, encoding="utf-8")
    return Source(path=folder)


def test_verdicts_become_labels(folder: Path) -> None:
    correct = {"passed": False, "kind": "pit"}
    found = read(
        write(folder, line("one", "accepted"), line("two", "corrected", correct=correct), line("three", "rejected"))
    )
    assert detect(folder) == "reviews"
    assert found.set_aside == ()
    accepted, corrected, rejected = (dict(example.label.columns) for example in found.examples)
    answer = line("", "")["answer"]
    assert accepted == {**answer, "completion": answer, "liked": True}
    assert corrected == {**correct, "chosen": correct, "rejected": answer}
    assert rejected == {"completion": answer, "liked": False}
    assert {example.role for example in found.examples} == {ROLE}
    assert found.examples[0].images == (folder / PHOTOS / "a.png",)


def test_the_last_verdict_on_a_case_counts(folder: Path) -> None:
    found = read(write(folder, line("one", "rejected"), line("two", "accepted"), line("one", "accepted")))
    assert [example.id for example in found.examples] == ["one", "two"]
    assert found.examples[0].label.columns["liked"] is True


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("{", "not JSON"),
        ({"case": "one"}, "lacks one of case, photos"),
        (line("one", "corrected"), "verdict 'corrected' without corrected fields"),
        (line("one", "maybe"), "verdict 'maybe'"),
        (line("one", "accepted", photos=0), "photos is not a list"),
        (line("one", "accepted", answer=["good"]), "answer is not an object"),
        (line("one", "accepted", photos=["gone.png"]), "gone.png"),
        (line("one", "accepted", photos=["\0"]), "no such image file"),
        (line("one", "accepted", photos=["../../secret.png"]), f"{PHOTOS}/secret.png"),
    ],
    ids=["json", "keys", "correction", "verdict", "photos", "answer", "missing", "null byte", "escape"],
)
def test_broken_lines_are_set_aside(folder: Path, broken: Any, reason: str) -> None:
    found = read(write(folder, broken, line("two", "accepted")))
    assert [example.id for example in found.examples] == ["two"]
    (aside,) = found.set_aside
    assert reason in str(aside)
