"""Conversations: LLaVA JSON with <image>, ShareGPT, and OpenAI `messages` with content parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Turn
from datasets_vision.formats.contract import Source
from datasets_vision.formats.drafts import TEXT, Draft
from datasets_vision.formats.json_files import TURNS, Entry

PLACEHOLDER = "<image>"
"""The placeholder for an image in a text."""

_IMAGES = ("image", "images")  # columns of a record
_ROLE_KEYS = ("role", "from")
_CONTENT_KEYS = ("content", "value")
_ROLES: dict[str, Literal["system", "user", "assistant"]] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
}


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation, in which consecutive turns of one speaker are merged.

    `placeholders`: the number of image placeholders in its texts.
    """

    turns: tuple[Turn, ...]
    images: tuple[str, ...] = ()
    placeholders: int = 0


def is_conversation(record: Mapping[str, Any]) -> bool:
    """Whether a record has a list of turns with a role and a text."""
    lists = [record[name] for name in TURNS if isinstance(record.get(name), list)]
    firsts = [turns[0].keys() for turns in lists if turns and isinstance(turns[0], dict)]
    return any(not keys.isdisjoint(_ROLE_KEYS) and not keys.isdisjoint(_CONTENT_KEYS) for keys in firsts)


def draft(source: Source, entry: Entry, record: dict[str, Any]) -> Draft:
    """The last assistant turn becomes the column `reply`, the turns before it the prompt; later turns are ignored.

    A system message is prepended to the next user turn. Columns are `text` (the last user turn, without <image>),
    `reply`, and all other keys of a record. An image's path is relative to the file or to its folder `images`; if
    there are placeholders, there must be as many images.
    """
    turns = next((record[name] for name in TURNS if name in record), None)
    if turns is None:
        raise DataError("", f"has no {' or '.join(TURNS)}, only {', '.join(record)[:80] or 'nothing'}", "write one")
    conversation = parse_messages(turns)
    last = max((number for number, turn in enumerate(conversation.turns) if turn.role == "assistant"), default=-1)
    if last < 0:
        raise DataError("", "no assistant turn, so there is nothing to learn", "add one")
    prompt, reply = conversation.turns[:last], conversation.turns[last].text
    if not any(turn.role == "user" for turn in prompt):
        raise DataError("", "no user turn before the last assistant turn", "add one")
    if not reply:
        raise DataError("", "the last assistant turn is empty", "write its text")
    images = images_of(source, record, conversation)
    used = (*TURNS, *(_IMAGES if source.image is None else ()))
    return Draft.of(entry, {TEXT: prompt[-1].text, "reply": reply}, used, before=prompt[:-1], images=images)


def parse_messages(messages: Any) -> Conversation:
    """Parse a list of messages; raises DataError for an unknown role or content part."""
    if not isinstance(messages, list) or not messages:
        raise DataError("", "not a list of messages", "write [{role, content}, ...]")
    turns: list[Turn] = []
    images: list[str] = []
    placeholders, system = 0, ""
    for message in messages:
        role, content = _role(message), next((message[key] for key in _CONTENT_KEYS if key in message), None)
        text, shown = _text(content)
        placeholders += text.count(PLACEHOLDER) + len(shown)
        images += [name for name in shown if name]
        text = "\n".join(part.strip() for part in text.split(PLACEHOLDER)).strip()
        if role == "system":
            system = _joined(system, text)
        elif role == "assistant":
            if shown:
                raise DataError("", "an image in an assistant turn", "show images in the prompt only")
            _add(turns, "assistant", text)
        else:
            _add(turns, "user", _joined(system, text))
            system = ""
    return Conversation(tuple(turns), tuple(images), placeholders)


def images_of(source: Source, record: Mapping[str, Any], conversation: Conversation) -> tuple[str, ...]:
    """Paths of a record's images, in or beside its messages; raises DataError if there are more or fewer placeholders.

    With `Source.image`, the recipe names the column of the images, which is read elsewhere.
    """
    names = list(conversation.images)
    for column in _IMAGES if source.image is None else ():
        value = record.get(column)
        for name in value if isinstance(value, list) else [value] if value else []:
            if not isinstance(name, str):
                raise DataError(column, f"{str(name)[:40]!r} is not a path", "write images as paths of files")
            names.append(name)
    count = len(names) + (source.image is not None)
    if conversation.placeholders and conversation.placeholders != count:
        problem = f"{conversation.placeholders} placeholders ({PLACEHOLDER} or image parts), but {count} images"
        raise DataError("", problem, "give one image per placeholder")
    return tuple(names)


def _role(message: Any) -> Literal["system", "user", "assistant"]:
    if not isinstance(message, dict):
        raise DataError("", f"a message must be an object, not {str(message)[:40]!r}", "write {role, content}")
    role = next((str(message[key]) for key in _ROLE_KEYS if key in message), "")
    if role.lower() not in _ROLES:
        raise DataError("", f"unknown role {role[:40]!r} of a message", nearest(role, _ROLES))
    return _ROLES[role.lower()]


def _text(content: Any) -> tuple[str, list[str]]:
    """The text of a message, and the path of each of its images ("" if the record names it outside the messages)."""
    if isinstance(content, str):
        return content, []
    if not isinstance(content, list):
        raise DataError("", f"a message without text ({str(content)[:40]!r})", "write its content")
    words: list[str] = []
    images: list[str] = []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if isinstance(part, str):
            words.append(part)
        elif kind in ("text", "input_text", "output_text") and isinstance(part.get("text"), str):
            words.append(part["text"])
        elif kind in ("image_url", "input_image", "image"):
            images.append(_address(part))
        else:
            raise DataError(
                "", f"a content part of type {str(kind)[:40]!r} in a message", "use only text and image_url"
            )
    return "\n".join(words), images


def _address(part: Mapping[str, Any]) -> str:
    value = next((part[key] for key in ("image_url", "image", "path", "url") if part.get(key)), "")
    if isinstance(value, dict):
        value = value.get("url") or value.get("path") or ""
    if not isinstance(value, str):
        raise DataError("", f"an image part contains {str(value)[:40]!r}", "write the path of a file")
    return value


def _add(turns: list[Turn], role: Literal["user", "assistant"], text: str) -> None:
    if turns and turns[-1].role == role:
        turns[-1] = Turn(role, _joined(turns[-1].text, text))
    else:
        turns.append(Turn(role, text))


def _joined(first: str, second: str) -> str:
    return "\n\n".join(part for part in (first, second) if part)
