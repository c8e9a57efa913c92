"""LLaVA JSON, ShareGPT and OpenAI messages."""

from __future__ import annotations

import json

import pytest

from datasets_vision.example import Turn
from datasets_vision.formats import detect
from tests.datasets_vision.made import lines, only, only_set_aside, photo, reading
from vlm_ft.errors import DataError

USER, GOOD = {"role": "user", "content": "What is wrong?"}, {"role": "assistant", "content": "A dent."}
SYSTEM = {"role": "system", "content": "Be brief."}
MORE = [{"role": "user", "content": "How bad?"}, {"role": "assistant", "content": "Minor."}]


def sharegpt(messages: list[dict]) -> dict:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    return {"conversations": [{"from": names[item["role"]], "value": item["content"]} for item in messages]}


@pytest.mark.parametrize(
    "record",
    [
        {"messages": [SYSTEM, USER, GOOD, *MORE]},
        sharegpt([SYSTEM, USER, GOOD, *MORE]),
        {"messages": [SYSTEM, {"role": "user", "content": [{"type": "text", "text": "What is wrong?"}]}, GOOD, *MORE]},
        {
            "messages": [
                SYSTEM,
                {"role": "user", "content": "What is"},
                {"role": "user", "content": "wrong?"},
                GOOD,
                *MORE,
            ]
        },
        {"messages": [SYSTEM, USER, GOOD, *MORE, {"role": "user", "content": "Thanks."}]},
    ],
    ids=["openai", "sharegpt", "parts", "neighbours", "thanks"],
)
@pytest.mark.parametrize("name", ["a.jsonl", "one.json", "list.json"])
def test_the_last_assistant_turn_is_the_reply(tmp_path, record, name):
    content = json.dumps([record], indent=1) if name == "list.json" else json.dumps(record, indent=None)
    example = only(reading(tmp_path / name, content))
    assert detect(tmp_path) == "chat"
    first, *rest = example.turns
    assert (first.role, first.text.split()) == ("user", ["Be", "brief.", "What", "is", "wrong?"])
    assert rest == [Turn("assistant", "A dent."), Turn("user", "How bad?")]
    assert example.text == "How bad?"
    assert example.label.columns == {"reply": "Minor."}


@pytest.mark.parametrize(
    "record",
    [
        {"id": "7", "image": "a.png", "conversations": [{"from": "human", "value": "<image>\nWhat is wrong?"}]},
        {"id": "7", "images": ["a.png"], "conversations": [{"from": "human", "value": "What is wrong?"}]},
        {"id": "7", "messages": [{"role": "user", "content": ["What is wrong?", {"type": "image", "image": "a.png"}]}]},
        {
            "id": "7",
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "file://a.png"}},
                        {"type": "text", "text": "What is wrong?"},
                    ],
                }
            ],
        },
        {"id": "7", "image": "a.png", "messages": [{"role": "user", "content": [{"type": "image"}, "What is wrong?"]}]},
    ],
    ids=["llava", "no mark", "qwen", "openai", "placeholder"],
)
@pytest.mark.parametrize("folder", ["", "images/"])
def test_an_image_is_beside_the_file_or_in_its_folder_images(tmp_path, record, folder):
    photo(tmp_path / f"{folder}a.png")
    turns = record.get("conversations", record.get("messages"))
    whole = {**record, "conversations" if "conversations" in record else "messages": [*turns, GOOD]}
    example = only(lines(tmp_path / "a.jsonl", whole))
    assert example.images == (tmp_path / f"{folder}a.png",)
    assert example.turns == (Turn("user", "What is wrong?"),)
    assert example.label.columns == {"id": "7", "reply": "A dent."}


def test_an_image_alone_can_be_asked_about(tmp_path):
    photo(tmp_path / "a.png")
    example = only(lines(tmp_path / "a.jsonl", {"image": "a.png", "messages": [{**USER, "content": "<image>"}, GOOD]}))
    assert example.images
    assert example.text == ""


def test_several_images_keep_their_order(tmp_path):
    for name in "ab":
        photo(tmp_path / f"{name}.png")
    record = {"image": ["b.png", "a.png"], "messages": [{**USER, "content": "<image><image> Which?"}, GOOD]}
    example = only(lines(tmp_path / "a.jsonl", record))
    assert [path.name for path in example.images] == ["b.png", "a.png"]
    assert example.text == "Which?"


def test_the_template_frames_the_last_turn(tmp_path):
    record = {"plane": "N1", "messages": [USER, GOOD, *MORE]}
    found = lines(tmp_path / "a.jsonl", record, text="[{plane}] {text}", columns={"answer": "reply"})
    assert [turn.text for turn in only(found).turns] == ["What is wrong?", "A dent.", "[N1] How bad?"]
    assert only(found).label.columns == {"answer": "Minor."}


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"messages": []}, "not a list of messages"),
        ({"text": "a"}, "has no messages or conversations or conversation, only text"),
        ({"messages": [USER]}, "no assistant turn"),
        ({"messages": [GOOD]}, "no user turn before"),
        ({"messages": [USER, {**GOOD, "content": " "}]}, "turn is empty"),
        ({"messages": [USER, {**GOOD, "content": None}]}, "a message without text"),
        (
            {"messages": [USER, {"role": "tool", "content": "x"}, GOOD]},
            "unknown role 'tool' of a message; known: assistant",
        ),
        ({"messages": ["hi", GOOD]}, "a message must be an object"),
        ({"messages": [{**USER, "content": [{"type": "audio"}]}, GOOD]}, "a content part of type 'audio'"),
        ({"image": "none.png", "messages": [USER, GOOD]}, "image 'none.png' is missing"),
        ({"image": "empty.png", "messages": [USER, GOOD]}, "0 bytes, not an image"),
        ({"image": "a.png", "messages": [{**USER, "content": "<image><image>"}, GOOD]}, "2 placeholders"),
        ({"messages": [{**USER, "content": "<image> What?"}, GOOD]}, "1 placeholders (<image> or image parts), but 0"),
        ({"image": "https://example.org/a.png", "messages": [USER, GOOD]}, "is not a local file"),
        ({"image": "data:image/png;base64,AAAA", "messages": [USER, GOOD]}, "is not a local file"),
        ({"image": {"bytes": "x"}, "messages": [USER, GOOD]}, "is not a path"),
        ({"messages": [USER, {**GOOD, "content": [{"type": "image", "image": "a.png"}]}]}, "in an assistant turn"),
        ([USER, GOOD], "a record must be an object with keys"),
    ],
)
def test_a_bad_conversation_is_set_aside_by_file_and_line(tmp_path, record, says):
    photo(tmp_path / "a.png")
    (tmp_path / "empty.png").write_bytes(b"")
    found = lines(tmp_path / "a.jsonl", {"messages": [USER, GOOD]}, record)
    assert len(found.examples) == 1
    assert says in only_set_aside(found, f"{tmp_path}/a.jsonl:2")


def test_a_file_without_conversations_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no JSON or JSON-lines file"):
        reading(tmp_path / "a.txt", "x", format="chat")
