"""Choose which columns of a table are its text, and which hold the answers to a task's fields."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from datasets_vision.formats.contract import plain
from datasets_vision.walk import IMAGE_SUFFIXES, suffix_of
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag, Kind, Text
from vlm_ft.answers.observation import MAX_NAMES
from vlm_ft.answers.task import Task

TEXTS = (
    *("title", "instruction", "question", "prompt", "input", "query", "message", "utterance", "narrative", "problem"),
    *("complaint", "symptom", "report", "description", "source", "abstract", "context", "contexts", "passage"),
    *("body", "content", "text"),
)
"""Names of columns with texts for the model to read, in display order."""

SYNONYMS = {"reply": ("response", "answer", "output", "completion"), "summary": ("target", "tldr", "highlights")}
"""Other names of a field's column."""

GENERIC = ("label", "class", "target", "type", "category", "tag")
"""Names of columns that hold a label, without saying what it is about."""

LAST = 5
"""The rank of a column whose name merely ends in a generic word; such a column is used if there is no better one."""

TRUE, FALSE = ("yes", "true", "1", "y"), ("no", "false", "0", "n")
FREE_WORDS = 3  # the minimum number of words in a text, on average
NAME_WORDS = 6  # the maximum number of words in a name, on average


@dataclass(frozen=True)
class Column:
    """One column: how often each cell value occurs; empty cells do not count."""

    name: str
    cells: Counter[str] = field(default_factory=Counter)

    @cached_property
    def parts(self) -> frozenset[str]:
        """The words of its name, in lower case: {"final", "decision"} of final_decision, {"pm", "type"} of PMType."""
        spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", self.name)
        return frozenset(re.findall(r"[a-z]+", spaced.lower()))

    @property
    def filled(self) -> int:
        """The number of non-empty cells."""
        return self.cells.total()

    @cached_property
    def words(self) -> float:
        """The mean number of words in a cell; 0 for numbers and codes without letters."""
        spelt = sum(count * len(re.findall(r"[^\W\d_]{2,}", cell)) for cell, count in self.cells.items())
        return spelt / max(1, self.filled)

    @cached_property
    def is_prose(self) -> bool:
        """Whether its cells are texts that mostly differ."""
        return self.words >= FREE_WORDS and 2 * len(self.cells) >= self.filled

    @cached_property
    def is_photo(self) -> bool:
        """Whether its cells are paths of images."""
        return self.filled > 0 and all(suffix_of(cell) in IMAGE_SUFFIXES for cell in self.cells)


@dataclass(frozen=True)
class Chosen:
    """A data source's settings for the use of its columns."""

    text: str
    columns: dict[str, str]
    values: dict[str, dict[str, Any]]
    shorten: dict[str, int]
    image: str | None = None


def columns_of(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    """The columns that at least half of the rows fill, in the order of the file."""
    found: dict[str, Column] = {}
    for row in rows:
        for name, cell in row.items():
            if (word := plain(cell)).strip():
                found.setdefault(name, Column(name)).cells[word] += 1
    return [column for column in found.values() if 2 * column.filled >= len(rows)]


def choose(task: Task, columns: Sequence[Column]) -> Chosen:
    """Choose the columns with the answers to the task's fields, the photo, and the text."""
    photo = next((column.name for column in columns if column.is_photo), None)
    answers = _answers(task, [column for column in columns if column.name != photo])
    used = {photo, *(column.name for column in answers.values())}
    shown = _shown([column for column in columns if column.name not in used])
    kinds = {spec.name: spec.kind for spec in task.fields}
    values = {name: translation(kinds[name], column) or {} for name, column in answers.items()}
    return Chosen(
        text="\n\n".join(f"{{{name}}}" for name in shown),
        columns={spec.name: answers[spec.name].name for spec in task.fields if spec.name in answers},
        values={name: words for name, words in values.items() if any(word != to for word, to in words.items())},
        shorten={
            name: kind.max_length
            for name, kind in kinds.items()
            if name in answers and isinstance(kind, Text) and max(map(len, answers[name].cells)) > kind.max_length
        },
        image=photo,
    )


def translation(kind: Kind, column: Column) -> dict[str, Any] | None:
    """Map each word of a column to the value of a closed field; None if a word has no value.

    A word stands for the option that it abbreviates, in upper or lower case: A for accident.
    """
    if isinstance(kind, Flag):
        options: dict[str, Any] = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}
        found = {word: options.get(word.strip().lower()) for word in column.cells}
    elif isinstance(kind, Choice) and kind.options:
        meant = {word: [o for o in kind.options if o.startswith(word.strip().lower())] for word in column.cells}
        found = {word: options[0] if len(options) == 1 else None for word, options in meant.items()}
    else:
        return None
    return None if None in found.values() else found


def misfits(task: Task, columns: Sequence[Column]) -> Iterator[str]:
    """The columns that are named like a closed field but do not use its options, each with a remedy."""
    for spec in task.fields:
        options = _options(spec.kind)
        closed = [column for column in columns if options and not column.is_prose]
        named = [column for column in closed if _rank(spec, column, labels=False) in (0, 2)]
        if named and not any(_fits(spec.kind, column) for column in named):
            words = ", ".join(repr(word[:40]) for word in [*named[0].cells][:3])
            asked = f"{', '.join(options[:-1])} or {options[-1]}"
            yield f"column {named[0].name!r} has words such as {words}; for {spec.name}, write {asked}"


def _options(kind: Kind) -> Sequence[str]:
    """The words for a field with fixed values; none for any other field."""
    if isinstance(kind, Flag):
        return ("yes", "no")
    return kind.options if isinstance(kind, Choice) else ()


def _answers(task: Task, columns: Sequence[Column]) -> dict[str, Column]:
    """The column of each field that has one: the best name wins and, among equally good ones, the fewest words."""
    ranked = sorted(_matches(task, columns), key=lambda match: (match[0], len(match[2].cells)))
    answers: dict[str, Column] = {}
    best = ranked[0][0] if ranked else 0
    for rank, name, column in ranked:
        if name not in answers and column not in answers.values() and (rank < LAST or rank == best):
            answers[name] = column
            if rank == LAST:
                break
    return answers


def _matches(task: Task, columns: Sequence[Column]) -> Iterator[tuple[int, str, Column]]:
    for spec in task.fields:
        for column in columns:
            rank = _rank(spec, column, labels=spec.name == task.class_field)
            if rank is not None and _fits(spec.kind, column):
                yield rank, spec.name, column


def _rank(spec: FieldSpec, column: Column, *, labels: bool) -> int | None:
    """How well a column's name fits a field, 0 being best; None if it does not. `labels`: the field holds the class."""
    name, parts = column.name.lower(), frozenset(spec.name.split("_"))
    if name == spec.name:
        return 0
    if name in SYNONYMS.get(spec.name, ()):
        return 1
    if parts <= column.parts or (column.parts and column.parts <= parts):
        return 2
    closed = isinstance(spec.kind, Flag) or (isinstance(spec.kind, Choice) and bool(spec.kind.options))
    if name in GENERIC and (labels or closed):
        return 3 if closed else 4
    return LAST if labels and name.endswith(GENERIC) else None


def _fits(kind: Kind, column: Column) -> bool:
    """Whether a column's cells can be the values of a field."""
    if isinstance(kind, Text):
        return column.words >= 1
    if isinstance(kind, Choice) and not kind.options:
        names = len(column.cells)
        return 1 < names <= MAX_NAMES and 2 * names <= column.filled and column.words <= NAME_WORDS
    return translation(kind, column) is not None


def _shown(columns: Sequence[Column]) -> list[str]:
    """The columns for the model to read: the texts with usual names, otherwise the longest text."""
    prose = [column for column in columns if column.is_prose]
    usual = sorted((c for c in prose if c.name.lower() in TEXTS), key=lambda c: TEXTS.index(c.name.lower()))
    return [column.name for column in usual or sorted(prose, key=lambda column: -column.words)[:1]]
