"""Entity spans by tokens or characters."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from datasets_vision.formats import detect
from tests.datasets_vision.made import lines, only, only_set_aside, reading, real_set

TOKENS = ["pump", "seal", "leaks", "badly"]
ENTITIES = [{"start": 0, "end": 2, "type": "Part/Seal"}, {"start": 2, "end": 3, "type": "State"}]
RELATION = {"head": 1, "tail": 0, "type": "hasPatient"}
RECORD = {"text": "pump  seal leaks, badly", "tokens": ["pump", "seal", "leaks", ",", "badly"], "entities": ENTITIES}


def spans_of(example) -> list[tuple]:
    return [(obj.name, *(obj.attributes[key] for key in ("text", "start", "end"))) for obj in example.label.objects]


def test_tokens_are_found_in_the_text(tmp_path):
    example = only(lines(tmp_path / "a.jsonl", {**RECORD, "relations": [RELATION], "site": "A"}))
    assert detect(tmp_path) == "spans"
    assert example.text == RECORD["text"]
    assert spans_of(example) == [("Part/Seal", "pump  seal", 0, 10), ("State", "leaks", 11, 16)]
    part, state = example.label.objects
    assert "relations" not in part.attributes
    assert state.attributes["relations"] == [{"type": "hasPatient", "text": "pump  seal", "to": 0}]
    assert example.label.columns == {"site": "A"}


@pytest.mark.parametrize(
    ("record", "text", "words"),
    [
        ({"text": "pump seal leaks", "entities": [{"start": 5, "end": 9, "label": "Part"}]}, "pump seal leaks", "seal"),
        ({"tokens": TOKENS, "entities": [{"start": 1, "end": 3, "type": "X"}]}, "pump seal leaks badly", "seal leaks"),
        (
            {"text": "Pump seal", "tokens": ["pump", "seal"], "entities": [{"start": 0, "end": 1, "type": "X"}]},
            "pump seal",
            "pump",
        ),
    ],
    ids=["characters", "tokens alone", "another spelling"],
)
def test_positions_count_characters_of_the_text(tmp_path, record, text, words):
    example = only(reading(tmp_path / "a.json", json.dumps([record])))
    (obj,) = example.label.objects
    assert example.text == text
    assert text[obj.attributes["start"] : obj.attributes["end"]] == obj.attributes["text"] == words
    assert obj.box is None


def test_an_empty_list_of_entities_means_none(tmp_path):
    assert only(lines(tmp_path / "a.jsonl", {"text": "all well", "entities": []})).label.objects == ()


def test_types_are_renamed_by_their_prefix(tmp_path):
    found = lines(tmp_path / "a.jsonl", RECORD, rename={"Part*": "part", "Part/Se*": "seal", "None*": "x"})
    assert [obj.name for obj in found.examples[0].label.objects] == ["seal", "State"]
    reasons = sorted(item.reason for item in found.set_aside)
    assert len(reasons) == 1
    assert "rename: no label or value matches 'None*'" in reasons[0]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"entities": None}, "no list of entities"),
        ({"entities": ["seal"]}, "an entity must be an object"),
        ({"entities": [{"start": 0, "end": 1}]}, "an entity without a type"),
        ({"entities": [{"start": 0, "end": 6, "type": "X"}]}, "'X' from 0 to 6 lies outside the 5 tokens"),
        ({"entities": [{"start": -1, "end": 2, "type": "X"}]}, "from -1 to 2 lies outside"),
        ({"entities": [{"start": 2, "end": 2, "type": "X"}]}, "from 2 to 2 lies outside"),
        ({"entities": [{"start": "0", "end": 2, "type": "X"}]}, "from 0 to 2 lies outside"),
        ({"relations": [{"head": 0, "tail": 2}]}, "from 0 to 2 among 2 entities"),
        ({"relations": ["isA"]}, "from None to None among 2 entities"),
        ({"tokens": "pump"}, "not a list of strings"),
        ({"text": None, "tokens": []}, "neither text nor tokens"),
    ],
)
def test_bad_spans_are_set_aside_by_file_and_line(tmp_path, change, says):
    found = lines(tmp_path / "a.jsonl", RECORD, {**RECORD, **change})
    assert len(found.examples) == 1
    assert says in only_set_aside(found, f"{tmp_path}/a.jsonl:2")


def test_maintie_has_its_stated_counts():
    found = real_set("technical_diagnosis/maintie_json")
    assert found.set_aside == ()
    assert Counter(example.role for example in found.examples) == {"train": 834, "val": 92}
    labelled = [(example.text, obj) for example in found.examples for obj in example.label.objects]
    assert len({obj.name.split("/")[0] for _, obj in labelled}) == 5
    assert any("relations" in obj.attributes for _, obj in labelled)
    for text, obj in labelled:
        place = slice(obj.attributes["start"], obj.attributes["end"])
        assert text[place] == obj.attributes["text"] != ""
