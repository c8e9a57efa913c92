"""Preferences: pairs of a chosen and a rejected reply in three formats, and replies with a thumbs up or down."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.example import Turn
from datasets_vision.formats.chat import Conversation, images_of, parse_messages
from datasets_vision.formats.contract import Source
from datasets_vision.formats.drafts import TEXT, Draft
from datasets_vision.formats.json_files import Entry

_PAIR = ("chosen", "rejected")
_OUTPUTS = ("preferred_output", "non_preferred_output")  # OpenAI and Azure
_UNPAIRED = ("prompt", "completion", "label")
_USED = ("prompt", "input", "completion", "label", "image", "images", *_PAIR, *_OUTPUTS)


def form_of(record: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The keys of a pair of replies, or of one reply with a true or false label; None for any other record."""
    for form in (_PAIR, _OUTPUTS):
        if all(isinstance(record.get(key), str | list | dict) for key in form):
            return form
    if all(key in record for key in _UNPAIRED) and record["label"] in (True, False):
        return _UNPAIRED
    return None


def draft(source: Source, entry: Entry, record: dict[str, Any]) -> Draft:
    """Columns `chosen` and `rejected`, or `completion` and `liked` (bool); the turns are the prompt.

    A prompt is a text or messages; without one, `chosen` and `rejected` are whole conversations that
    differ in their last turn. A pair of equal replies is refused.
    """
    form = form_of(record)
    if form is None:
        raise DataError(
            "",
            f"has no {' and '.join(_PAIR)}, no {' and '.join(_OUTPUTS)}, no {', '.join(_UNPAIRED)} (true or false)",
            "write one of these",
        )
    cells: dict[str, Any]
    if form == _UNPAIRED:
        prompt = _prompt(record)
        cells = {"completion": _reply("completion", record["completion"]), "liked": bool(record["label"])}
    else:
        prompt, chosen, rejected = _pair(record, *form)
        if chosen == rejected:
            raise DataError("", f"{form[0]} and {form[1]} are the same text", "drop the pair")
        cells = {"chosen": chosen, "rejected": rejected}
    if not prompt.turns or prompt.turns[-1].role != "user":
        raise DataError("", "the prompt does not end with a user turn", "write the user's request")
    images = images_of(source, record, prompt)
    used = [key for key in _USED if key != source.image]
    *before, last = prompt.turns
    return Draft.of(entry, {TEXT: last.text, **cells}, used, before=tuple(before), images=images)


def _pair(record: Mapping[str, Any], liked: str, disliked: str) -> tuple[Conversation, str, str]:
    if "prompt" in record or "input" in record:
        return _prompt(record), _reply(liked, record[liked]), _reply(disliked, record[disliked])
    one, other = parse_messages(_messages(record[liked])), parse_messages(_messages(record[disliked]))
    if one.turns[:-1] != other.turns[:-1]:
        raise DataError("", f"{liked} and {disliked} differ before their last turn", "give their prompt")
    prompt = Conversation(one.turns[:-1], one.images, one.placeholders)
    return prompt, _last(liked, one.turns[-1:]), _last(disliked, other.turns[-1:])


def _prompt(record: Mapping[str, Any]) -> Conversation:
    given = record.get("prompt", record.get("input"))
    if isinstance(given, str):
        return parse_messages([{"role": "user", "content": given}])
    return parse_messages(_messages(given))


def _messages(given: Any) -> Any:
    return given.get("messages") if isinstance(given, dict) else given


def _reply(name: str, given: Any) -> str:
    """The text of a reply, from a text or one assistant turn."""
    if isinstance(given, str):
        if not given.strip():
            raise DataError("", f"{name} is empty", "write the reply")
        return given.strip()
    messages = [given] if isinstance(given, dict) and "content" in given else _messages(given)
    return _last(name, parse_messages(messages).turns)


def _last(name: str, turns: tuple[Turn, ...]) -> str:
    if len(turns) != 1 or turns[0].role != "assistant":
        raise DataError("", f"{name} is not one assistant turn", "end the conversation with it")
    if not turns[0].text:
        raise DataError("", f"{name} is empty", "write the reply")
    return turns[0].text
