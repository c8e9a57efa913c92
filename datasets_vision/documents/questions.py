"""Questions that a passage answers in its own words, from templates for headings, steps, definitions and tables.

Every answer is copied from the passage word for word; nothing is inferred. Questions use the manual's own terms.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from datasets_vision.documents.passages import Block, Passage, packed, sentences

MAX_ANSWER = 600
"""Characters; a longer answer is cut after a whole sentence or entry."""

_WARNING = re.compile(r"(?P<word>warning|caution|danger|important|notice)\s*[:!–—-]\s*(?P<text>\S.*)", re.I | re.S)
_IS = re.compile(r"(?:An?\s|The\s)?(?P<term>\w[\w/ -]{1,50}?)\s(?:is|are)\s(?:an?|the|any)\s\S.*", re.S)
_DEICTIC = frozenset({"this", "that", "these", "those", "it", "there", "here", "if", "when", "what", "which", "he"})
_TERM_WORDS = 5
_LABEL = re.compile(r"(?:(?:chapter|section|appendix|part)\s+)?[\dA-Z]{1,3}(?:\.\d+)*[.):]?\s+(?=\S)", re.I)


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer; `kind` names the template that made them, or "server"."""

    question: str
    answer: str
    kind: str


def questions(passage: Passage, max_length: int = MAX_ANSWER) -> Iterator[Question]:
    """The questions that a passage's structure suggests; none if it has neither a heading nor structure."""
    topic = _topic(passage)
    if topic:
        yield from _of_section(passage, topic, max_length)
    for block in passage.blocks:
        match block.kind:
            case "definition":
                for term, meaning in block.items:
                    question = term if term.endswith("?") else f'What does the manual say "{term}" is?'
                    yield Question(question, _cut(meaning, max_length), "definition")
            case "table":
                yield from _of_table(block, topic, max_length)
            case "paragraph":
                yield from _of_paragraph(block, topic, max_length)


def _topic(passage: Passage) -> str:
    """The topic of the passage: its heading without the number; the heading above is added to a one-word heading."""
    heading = _without_number(passage.heading)
    if not any(char.isalpha() for char in heading):
        return ""
    if len(heading.split()) == 1 and len(passage.section) > 1 and not heading.endswith("?"):
        return f"{heading} ({_without_number(passage.section[-2])})"
    return heading


def _without_number(heading: str) -> str:
    """A heading without its number: "3.2 Filters" becomes "Filters"; a leading word such as "A" is kept."""
    found = _LABEL.match(heading)
    return heading[found.end() :] if found and any(char.isdigit() for char in found[0]) else heading


def _of_section(passage: Passage, topic: str, max_length: int) -> Iterator[Question]:
    steps = next((block for block in passage.blocks if block.kind == "steps"), None)
    prose = [block for block in passage.blocks if block.kind in ("paragraph", "bullets", "steps")]
    part = f" (part {passage.part})" if passage.part > 1 else ""
    if topic.endswith("?"):
        if prose:
            yield Question(topic + part, _cut("\n".join(block.plain for block in prose), max_length), "section")
        return
    if steps is not None:
        yield Question(_steps_question(topic + part), _cut(steps.plain, max_length, "\n"), "steps")
    prose = [block for block in prose if block.kind != "steps"]
    if prose:
        answer = _cut("\n".join(block.plain for block in prose), max_length)
        yield Question(f'What does the manual say about "{topic}"{part}?', answer, "section")


def _steps_question(topic: str) -> str:
    """The question about steps; the heading is used as written, whatever its grammar."""
    words = topic.split()
    if len(words) > 2 and [word.lower() for word in words[:2]] == ["how", "to"]:
        return f"How do I {' '.join(words[2:])}?"
    if words[0].lower().endswith("ing") and len(words) > 1:
        return f"What are the steps for {words[0].lower()} {' '.join(words[1:])}?"
    return f'What are the steps for "{topic}"?'


def _of_table(block: Block, topic: str, max_length: int) -> Iterator[Question]:
    """One question per cell: the first column names the row, and the header names the cell."""
    if not block.header:
        return
    header, *rows = block.items
    about = f" ({topic})" if topic else ""
    for row in rows:
        for name, cell in zip(header[1:], row[1:], strict=False):
            if row[0] and name and cell:
                key = f"{header[0]} {row[0]}".strip() if header[0] else row[0]
                yield Question(f'What is the {_lowered(name)} for "{key}"{about}?', _cut(cell, max_length), "table")


def _of_paragraph(block: Block, topic: str, max_length: int) -> Iterator[Question]:
    warned = _WARNING.match(block.text)
    if warned:
        if topic:
            yield Question(
                f'What warning does the manual give under "{topic}"?', _cut(block.text, max_length), "warning"
            )
        return
    first = sentences(block.text)[:1]
    defined = _IS.fullmatch(first[0]) if first else None
    if defined is None:
        return
    words = defined["term"].split()
    if len(words) <= _TERM_WORDS and words[0].lower() not in _DEICTIC:
        yield Question(f'What is meant by "{defined["term"]}"?', _cut(first[0], max_length), "definition")


def _lowered(name: str) -> str:
    """A column's name as used inside a sentence; abbreviations keep their capitals."""
    return name if len(name) > 1 and name[1].isupper() else name[:1].lower() + name[1:]


def _cut(text: str, max_length: int, joint: str = "") -> str:
    """The text, or as many whole sentences (lines, if `joint` is a line break) as fit."""
    if len(text) <= max_length:
        return text
    parts = text.split("\n") if joint else sentences(text)
    first = packed([part for part in parts if len(part) <= max_length], max_length, joint or " ")[:1]
    if first and text.startswith(parts[0]) and len(parts[0]) <= max_length:
        return first[0]
    return text[: max_length - 2].rsplit(" ", 1)[0] + " …"
