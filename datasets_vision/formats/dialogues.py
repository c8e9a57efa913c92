"""Dialogues as tables: one row per customer turn, with its intent and a slot label for each word (MultiDoGO)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Literal

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import LabelledObject, Turn
from datasets_vision.formats.contract import SetAside, Source, or_set_aside
from datasets_vision.formats.drafts import TEXT, Draft, Drafts
from datasets_vision.formats.tables import Row, read_table, table_files

OUTSIDE = "O"
"""The label of a word that fills no slot."""

_CONVERSATION, _TURN, _UTTERANCE = _REQUIRED = "conversationId", "turnNumber", "utterance"
_SLOTS, _INTENT, _AUTHOR = "slot-labels", "intent", "authorRole"
_ROLES: dict[str, Literal["user", "assistant"]] = {
    "customer": "user",
    "user": "user",
    "agent": "assistant",
    "assistant": "assistant",
}
_INTENT_SEPARATOR = "<div>"  # between the intents of one turn
_MAX_SAMPLED = 4  # tables read per folder to recognise its format


def matches(path: Path) -> bool:
    """Tables with the columns conversationId, turnNumber and utterance."""
    return any(_is_dialogue(table) for table in islice(table_files(path), _MAX_SAMPLED))


def read(source: Source) -> Iterator[Drafts | SetAside]:
    """Each turn is an example with the preceding turns of its conversation; the conversation is its group.

    Columns: `text` (this turn), `intent` (several joined by "+"), and the table's own. Slots are objects: consecutive
    words with the same slot label, and their position in the turn in characters, end exclusive. In a table with the
    column authorRole, the agent's turns are assistant turns: they are context for the next customer turn, not
    examples. Without that column, all turns are the customer's.
    """
    found = False
    for path in table_files(source.path):
        found = True
        try:
            header, rows = read_table(path)
            Source.require_columns(path, _REQUIRED, header)
            drafts = _drafts(path, list(rows))
        except DataError as error:
            yield SetAside.of(path, error)
            continue
        yield Drafts(path, drafts)
    if not found:
        raise DataError(source.path, "no TSV or CSV table", "give a table, or a folder of tables")


def _is_dialogue(path: Path) -> bool:
    try:
        header, _ = read_table(path)
    except DataError:
        return False
    return set(_REQUIRED) <= set(header)


def _drafts(path: Path, rows: list[Row | SetAside]) -> Iterator[Draft | SetAside]:
    """Drafts of the conversations in the table's order, their turns sorted by number."""
    conversations: dict[str, list[tuple[int, Row]]] = {}
    for item in rows:
        if isinstance(item, SetAside):
            yield item
            continue
        try:
            number = _number(item)
        except DataError as error:
            yield SetAside.of(f"{path}:{item.line}", error)
            continue
        conversations.setdefault(item.cells[_CONVERSATION], []).append((number, item))
    for name, turns in conversations.items():
        yield from _conversation(path, name, sorted(turns, key=lambda turn: turn[0]))


def _number(row: Row) -> int:
    if not row.cells[_CONVERSATION].strip():
        raise DataError("", f"no {_CONVERSATION}", "write which conversation the turn belongs to")
    number = row.cells[_TURN].strip().removesuffix(".0")  # as pandas writes integers in a column with gaps
    if not number.isdecimal():
        raise DataError("", f"{_TURN} {row.cells[_TURN][:40]!r} is not a number", "number the turns from 0")
    return int(number)


def _conversation(path: Path, name: str, turns: list[tuple[int, Row]]) -> Iterator[Draft | SetAside]:
    before: list[Turn] = []
    seen: set[int] = set()
    for number, row in turns:
        place = f"{path}:{row.line}"
        if number in seen:
            yield SetAside(place, f"a second turn {number} of conversation {name!r}", "renumber it")
            continue
        seen.add(number)
        yield from or_set_aside(place, _turn(place, row, name, before))


def _turn(place: str, row: Row, conversation: str, before: list[Turn]) -> Iterator[Draft]:
    """The draft of a customer's turn, which is added to `before` even if its slots cannot be read."""
    text, author = row.cells[_UTTERANCE].strip(), row.cells.get(_AUTHOR, "customer").strip().lower()
    if not text:
        raise DataError(place, "a turn without text")
    if author not in _ROLES:
        raise DataError(place, f"unknown {_AUTHOR} {author[:40]!r}", nearest(author, _ROLES))
    context = tuple(before)
    before.append(Turn(_ROLES[author], text))
    if _ROLES[author] == "user":
        cells = {**row.cells, TEXT: text}
        if _INTENT in cells:
            cells[_INTENT] = "+".join(cells[_INTENT].split(_INTENT_SEPARATOR))
        slots = _slots(row.cells[_UTTERANCE], row.cells)
        yield Draft(str(row.line), place, cells, before=context, objects=slots, group=conversation)


def _slots(utterance: str, cells: Mapping[str, str]) -> tuple[LabelledObject, ...] | None:
    """The slots that a turn's words fill; None if the table has no labels, or none for this turn."""
    if not cells.get(_SLOTS, "").strip():
        return None
    words, labels = utterance.split(" "), cells[_SLOTS].split(" ")
    if len(words) != len(labels):
        raise DataError("", f"{len(labels)} slot labels for {len(words)} words", "give one per word")
    found: list[tuple[str, int, int]] = []
    at, last = 0, OUTSIDE
    for word, label in zip(words, labels, strict=True):
        if label != OUTSIDE:
            start = found.pop()[1] if label == last else at
            found.append((label, start, at + len(word)))
        at, last = at + len(word) + 1, label
    shift = len(utterance) - len(utterance.lstrip())
    return tuple(
        LabelledObject(label, attributes={"text": utterance[start:end], "start": start - shift, "end": end - shift})
        for label, start, end in found
    )
