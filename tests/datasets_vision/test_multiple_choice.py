"""Questions with lettered options."""

from __future__ import annotations

from collections import Counter

import pytest

from datasets_vision.formats import detect
from tests.datasets_vision.made import lines, only, only_set_aside, real_set

QUESTION = {"question": "Which sensor shows it?", "options": ["torque", "speed", "current"]}


@pytest.mark.parametrize(
    ("right", "option", "answer"),
    [
        ({"correct": [False, True, False]}, "B", "speed"),
        ({"correct": [True, False, True]}, "A+C", "torque; current"),
        ({"answer": "C"}, "C", "current"),
        ({"answer": "speed"}, "B", "speed"),
        ({"answer": 0}, "A", "torque"),
    ],
)
def test_the_right_option_is_a_letter(tmp_path, right, option, answer):
    example = only(lines(tmp_path / "a.jsonl", {**QUESTION, **right, "asset": "pump"}))
    assert detect(tmp_path) == "multiple_choice"
    assert example.text == "Which sensor shows it?\nA) torque\nB) speed\nC) current"
    columns = dict(example.label.columns)
    assert columns.pop("question") == QUESTION["question"]
    assert columns == {"asset": "pump", "option": option, "answer": answer}


def test_letters_are_those_of_the_file_and_the_template_frames_the_question(tmp_path):
    record = {"question": "How many?", "choices": [1, 2], "option_ids": ["X", "Y"], "answer": "2", "asset": "fan"}
    example = only(lines(tmp_path / "a.jsonl", record, text="{asset}: {text}", columns={"option": "option"}))
    assert example.text == "fan: How many?\nX) 1\nY) 2"
    assert example.label.columns == {"option": "Y"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"question": " "}, "has no question, only"),
        ({"options": ["torque"]}, "not a list of two or more strings"),
        ({"options": ["torque", None, "speed"]}, "not a list of two or more strings"),
        ({"options": ["torque", "torque", "speed"]}, "option 'torque' appears twice"),
        ({"correct": [True, False]}, "must have one boolean for each of the 3"),
        ({"correct": [1, 0, 0]}, "must have one boolean for each"),
        ({"correct": [False, False, False]}, "no option is correct"),
        ({"correct": None, "answer": 3}, "not a position among 3"),
        ({"correct": None, "answer": "D"}, "'D' is not one of the options"),
        ({"correct": None}, "'None' is not one of the options"),
        ({"option_ids": ["A", "A", "B"]}, "do not name the 3 options"),
        ({"options": [str(number) for number in range(27)]}, "27 options, more than there are letters"),
    ],
)
def test_a_bad_question_is_set_aside_by_file_and_line(tmp_path, change, says):
    good = {**QUESTION, "correct": [True, False, False]}
    found = lines(tmp_path / "a.jsonl", good, {**good, **change})
    assert len(found.examples) == 1
    assert says in only_set_aside(found, f"{tmp_path}/a.jsonl:2")


def test_failure_sensor_iq_has_its_stated_counts():
    found = real_set("technical_diagnosis/failuresensoriq_jsonl")
    assert found.set_aside == ()
    assert Counter(example.role for example in found.examples) == {"train": 1620, "val": 180}
    for example in found.examples:
        letter, answer = example.label.columns["option"], example.label.columns["answer"]
        assert f"\n{letter}) {answer}" in example.text
