"""Cut a document's blocks into passages at headings, with a limited length, and keep their section and page."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Literal

MAX_PASSAGE = 1200
"""Characters; longer text is cut between blocks, else between sentences."""

BlockKind = Literal["heading", "paragraph", "steps", "bullets", "definition", "table", "code"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'(\[]?[A-Z0-9À-Þ])")


@dataclass(frozen=True, slots=True)
class Block:
    """One piece of a document's structure.

    `items`: a list's entries, a table's cells row by row, or (term, meaning) of a definition. `level`: of a heading,
    from 1 (the highest). `header`: whether a table's first row names its columns. `page` counts from 1.
    """

    kind: BlockKind
    text: str = ""
    items: tuple[tuple[str, ...], ...] = ()
    level: int = 0
    header: bool = False
    page: int | None = None

    @property
    def plain(self) -> str:
        """The block as text."""
        match self.kind:
            case "steps":
                return "\n".join(f"{number}. {item[0]}" for number, item in enumerate(self.items, 1))
            case "bullets":
                return "\n".join(f"- {item[0]}" for item in self.items)
            case "definition":
                return "\n".join(f"{term}: {meaning}" for term, meaning in self.items)
            case "table":
                return "\n".join(" | ".join(row) for row in self.items)
            case _:
                return self.text


@dataclass(frozen=True, slots=True)
class Document:
    """One manual: its path below the folder that was read, its title, and its blocks in reading order."""

    name: str
    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True, slots=True)
class Passage:
    """A part of one section. `section` lists the headings above it, outermost first; pages count from 1.

    `number` counts the document's passages, `part` those of one section, both from 1.
    """

    document: str
    title: str
    section: tuple[str, ...]
    blocks: tuple[Block, ...]
    number: int
    part: int = 1

    @property
    def heading(self) -> str:
        """The heading just above the passage; "" if there is none."""
        return self.section[-1] if self.section else ""

    @property
    def text(self) -> str:
        """The text of the passage, without its heading."""
        return "\n\n".join(block.plain for block in self.blocks)

    @property
    def place(self) -> str:
        """The document, page and section as text, to cite in an answer."""
        return ", ".join(filter(None, [self.document, self.pages, " > ".join(self.section)]))

    @property
    def pages(self) -> str:
        """As in "page 3" or "pages 3-4"; "" for a document without pages."""
        pages = sorted({block.page for block in self.blocks if block.page is not None})
        if not pages:
            return ""
        return f"page {pages[0]}" if len(pages) == 1 else f"pages {pages[0]}-{pages[-1]}"


def passages(document: Document, max_length: int = MAX_PASSAGE) -> Iterator[Passage]:
    """The passages of a document in order; together they contain every block once, except the headings."""
    section: list[tuple[int, str]] = []
    held: list[Block] = []
    number = 0

    def flush() -> Iterator[Passage]:
        nonlocal number
        for part, blocks in enumerate(_bounded(held, max_length), 1):
            number += 1
            yield Passage(document.name, document.title, tuple(name for _, name in section), blocks, number, part)
        held.clear()

    for block in document.blocks:
        if block.kind != "heading":
            held.append(block)
            continue
        yield from flush()
        while section and section[-1][0] >= block.level:
            section.pop()
        section.append((block.level, block.text))
    yield from flush()


def sentences(text: str) -> list[str]:
    """Split after a full stop, exclamation or question mark that is followed by a capital or a digit."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]


def _bounded(blocks: Iterable[Block], max_length: int) -> Iterator[tuple[Block, ...]]:
    kept: list[Block] = []
    length = 0
    for block in _pieces(blocks, max_length):
        size = len(block.plain)
        if kept and length + size > max_length:
            yield tuple(kept)
            kept, length = [], 0
        kept.append(block)
        length += size + 2
    if kept:
        yield tuple(kept)


def _pieces(blocks: Iterable[Block], max_length: int) -> Iterator[Block]:
    """The blocks; one that is too long on its own is cut up."""
    for block in blocks:
        if len(block.plain) <= max_length:
            yield block
        elif block.items:
            yield from _cut_items(block, max_length)
        else:
            for text in packed(_cut_overlong(sentences(block.text), max_length), max_length):
                yield Block(block.kind, text, page=block.page)


def _cut_items(block: Block, max_length: int) -> Iterator[Block]:
    """Cut a long list or table into several; tables repeat their header, and steps become text with their numbers."""
    if block.kind == "steps":
        for text in packed(_cut_overlong(block.plain.split("\n"), max_length), max_length, "\n"):
            yield Block("paragraph", text, page=block.page)
        return
    header = block.items[:1] if block.header else ()
    rows: list[tuple[str, ...]] = []
    for row in block.items[len(header) :]:
        if rows and sum(len(cell) + 3 for line in (*header, *rows, row) for cell in line) > max_length:
            yield Block(block.kind, block.text, (*header, *rows), header=block.header, page=block.page)
            rows = []
        rows.append(row)
    yield Block(block.kind, block.text, (*header, *rows), header=block.header, page=block.page)


def packed(parts: Sequence[str], max_length: int, joint: str = " ") -> list[str]:
    """Join neighbouring parts while they fit in `max_length` characters."""
    texts: list[str] = []
    for part in parts:
        if texts and len(texts[-1]) + len(joint) + len(part) <= max_length:
            texts[-1] += joint + part
        else:
            texts.append(part)
    return texts


def _cut_overlong(parts: Iterable[str], max_length: int) -> list[str]:
    """The parts; one that is too long is cut between words, and an overlong word anywhere."""
    short: list[str] = []
    for part in parts:
        words = " ".join(part.split())
        short += [part] if len(part) <= max_length else wrap(words, max_length, break_on_hyphens=False)
    return short
