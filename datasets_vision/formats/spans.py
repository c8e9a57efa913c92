"""Entity spans: a text, its entities and the relations between them (as in MaintIE)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.example import LabelledObject
from datasets_vision.formats.contract import Source
from datasets_vision.formats.drafts import TEXT, Draft
from datasets_vision.formats.json_files import Entry

Spans = list[tuple[int, int]]
"""(start, end) of each token in characters, the end exclusive."""

_TYPES = ("type", "label")
_USED = ("text", "tokens", "entities", "relations")


def is_annotated(record: Mapping[str, Any]) -> bool:
    """Whether a record has a text or tokens, and entities with a start and an end."""
    entities = record.get("entities")
    if not isinstance(entities, list) or not (isinstance(record.get("text"), str) or "tokens" in record):
        return False
    return all(isinstance(entity, dict) and {"start", "end"} <= entity.keys() for entity in entities)


def draft(_: Source, entry: Entry, record: dict[str, Any]) -> Draft:
    """Each entity is an object named after its type, with its words (`text`) and their position.

    `start` and `end` count characters of the column `text`, end exclusive. In the file, they count tokens if there
    are `tokens`, else characters. A relation is stored in the attribute `relations` of its head:
    `{"type": ..., "text": the tail's words, "to": the tail's position among the entities}`.
    """
    text, spans = _text(record)
    entities = record.get("entities")
    if not isinstance(entities, list):
        raise DataError("", "no list of entities", "write [] if there are none")
    placed = [_place(entity, text, spans) for entity in entities]
    related = _relations(record.get("relations") or [], placed, text)
    objects = tuple(
        LabelledObject(name, attributes={"text": text[start:end], "start": start, "end": end, **related[number]})
        for number, (name, start, end) in enumerate(placed)
    )
    return Draft.of(entry, {TEXT: text}, _USED, objects=objects)


def _text(record: Mapping[str, Any]) -> tuple[str, Spans | None]:
    """The text and the spans of its tokens; if they do not occur in the text in order, the tokens joined by spaces."""
    text, tokens = record.get("text"), record.get("tokens")
    if tokens is not None and not (isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)):
        raise DataError("", f"tokens {str(tokens)[:60]!r} are not a list of strings", "write a list of strings")
    if not isinstance(text, str):
        if not tokens:
            raise DataError("", "neither text nor tokens", "write one")
        text = " ".join(tokens)
    if tokens is None:
        return text, None
    if (spans := _aligned(text, tokens)) is not None:
        return text, spans
    text = " ".join(tokens)
    return text, _aligned(text, tokens) or []


def _aligned(text: str, tokens: Sequence[str]) -> Spans | None:
    spans, at = [], 0
    for token in tokens:
        start = text.find(token, at)
        if start < 0 or text[at:start].strip():
            return None
        at = start + len(token)
        spans.append((start, at))
    return spans


def _place(entity: Any, text: str, spans: Spans | None) -> tuple[str, int, int]:
    """An entity's type, and its start and end in characters (end exclusive)."""
    if not isinstance(entity, dict):
        raise DataError("", f"an entity must be an object, not {str(entity)[:40]!r}", "write {start, end, type}")
    name = next((entity[key] for key in _TYPES if entity.get(key)), None)
    if not isinstance(name, str):
        raise DataError("", f"an entity without a type: {str(entity)[:60]}", "write its type")
    start, end = entity.get("start"), entity.get("end")
    length, unit = (len(text), "characters") if spans is None else (len(spans), "tokens")
    if type(start) is not int or type(end) is not int or not 0 <= start < end <= length:
        raise DataError(
            "", f"{name[:60]!r} from {start} to {end} lies outside the {length} {unit}", "the end is exclusive"
        )
    return (name, start, end) if spans is None else (name, spans[start][0], spans[end - 1][1])


def _relations(
    relations: Any, placed: Sequence[tuple[str, int, int]], text: str
) -> Mapping[int, dict[str, list[dict[str, Any]]]]:
    """The attributes of each head, by its position."""
    found: dict[int, dict[str, list[dict[str, Any]]]] = defaultdict(dict)
    for relation in relations if isinstance(relations, list) else [relations]:
        fields = relation if isinstance(relation, dict) else {}
        ends: list[Any] = [fields.get("head"), fields.get("tail")]
        head, tail = ends
        if any(type(end) is not int or not 0 <= end < len(placed) for end in ends):
            problem = f"a relation from {head} to {tail} among {len(placed)} entities"
            raise DataError("", problem, "positions start at 0")
        _, start, stop = placed[tail]
        relation = {"type": str(fields.get("type", "")), "text": text[start:stop], "to": tail}
        found[head].setdefault("relations", []).append(relation)
    return found
