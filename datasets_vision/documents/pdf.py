"""Parse PDF manuals into blocks: headings by bookmark, type size or number; page headers and footers are left out."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from datasets_vision.documents.passages import Block, BlockKind
from datasets_vision.errors import DataError, cause

MAX_PAGES = 5000
MAX_HEADING = 90
"""Characters; a longer line is not a heading."""

_MIN_HEADING_SIZE = 1.15  # times the body's type size
_MIN_TEXT = 20  # characters on a page; a page with fewer is a picture with a page number
_MIN_RECURRENCE = 0.5  # share of the pages on which a line must recur to be a page header or footer
_NUMBERED = re.compile(r"(?P<number>\d{1,2}(?:\.\d{1,2}){0,4})\.?\s+(?P<title>[A-ZÀ-Þ][^.!?;]*)")
_STEP = re.compile(r"(?:step\s+)?(?P<number>\d{1,2})\s*[.):]\s+(?P<text>\S.*)", re.I)
_SENTENCE_ENDS = (".", "!", "?", ":")  # at the end of a page, they end a paragraph, too
_BULLET = re.compile(r"[•▪●◦‣∙·*–-]\s+(?P<text>\S.*)")


@dataclass(frozen=True, slots=True)
class _Line:
    text: str
    size: float  # points
    page: int
    gap: bool  # whether a blank line precedes it


def read_pdf(data: bytes) -> tuple[str, list[Block], list[tuple[int, str]]]:
    """The title, the blocks, and (page, reason) of pages without text.

    Raises DataError for a file that is not a PDF, is damaged, is password-protected or is scanned throughout.
    """
    from pypdf.errors import PyPdfError

    logging.getLogger("pypdf").setLevel(logging.ERROR)  # it logs every repaired cross-reference
    try:
        reader = _opened(data)
        pages = [_lines(page, number) for number, page in enumerate(reader.pages, 1)]
        bookmarks = _bookmarks(reader)
        title = " ".join(str((reader.metadata or {}).get("/Title") or "").split())
    except (PyPdfError, RecursionError, *_BROKEN) as error:
        raise DataError("", f"damaged PDF ({cause(error)})", "print or save it to PDF again") from error
    empty = [number for number, lines in enumerate(pages, 1) if sum(len(line.text) for line in lines) < _MIN_TEXT]
    if len(empty) == len(pages):
        problem = f"no text on any of its {len(pages)} pages: a scan?"
        raise DataError("", problem, "run text recognition (OCR) on it first")
    lines = _without_headers_and_footers([lines for lines in pages if lines])
    return (
        title,
        list(_blocks(lines, bookmarks)),
        [(number, "no text on the page: a scan or figure") for number in empty],
    )


_BROKEN = (ValueError, KeyError, TypeError, IndexError, AttributeError, AssertionError, OSError, NotImplementedError)


def _opened(data: bytes) -> Any:
    from pypdf import PasswordType, PdfReader
    from pypdf.errors import DependencyError

    if b"%PDF-" not in data[:1024]:
        raise DataError("", "not a PDF file", "give a .pdf file that opens in a viewer")
    reader = PdfReader(BytesIO(data))
    if reader.is_encrypted:
        try:
            unlocked = reader.decrypt("") is not PasswordType.NOT_DECRYPTED
        except (DependencyError, NotImplementedError):
            unlocked = False
        if not unlocked:
            raise DataError("", "encrypted", "save a copy without a password")
    if not 0 < len(reader.pages) <= MAX_PAGES:
        raise DataError("", f"has {len(reader.pages)} pages", f"give a PDF of 1 to {MAX_PAGES} pages")
    return reader


def _lines(page: Any, number: int) -> list[_Line]:
    """The page's lines, each with the type size of most of its letters."""
    sizes: Counter[tuple[str, float]] = Counter()

    def note(text: str, cm: Any, tm: Any, font: Any, size: float) -> None:
        scale = abs(tm[3] * cm[3]) or abs(tm[1] * cm[1]) or 1.0  # a rotated page has its scale off the diagonal
        for piece in text.split("\n"):
            if key := _key(piece):
                sizes[key, round(float(size) * scale, 1)] += len(key)

    text = page.extract_text(visitor_text=note) or ""
    lines: list[_Line] = []
    gap = False
    for raw in text.replace("\x00", "").split("\n"):
        words = " ".join(raw.split())
        if words:
            lines.append(_Line(words, _size(words, sizes), number, gap))
        gap = not words
    return lines


def _key(text: str) -> str:
    return "".join(text.split())


def _size(text: str, sizes: Counter[tuple[str, float]]) -> float:
    whole = _key(text)
    votes: Counter[float] = Counter()
    for (piece, size), count in sizes.items():
        if piece in whole:
            votes[size] += count
    return votes.most_common(1)[0][0] if votes else 0.0


def _bookmarks(reader: Any) -> dict[str, int]:
    """The level (from 1, the top) of each title in the outline; titles are in lower case without blanks."""
    found: dict[str, int] = {}

    def walk(entries: Any, level: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                walk(entry, level + 1)
            else:
                found.setdefault(_key(str(entry.title)).lower(), level)

    walk(reader.outline, 1)
    return found


def _without_headers_and_footers(pages: Sequence[list[_Line]]) -> list[_Line]:
    """All lines except those that, apart from numbers, recur at the top or foot of most pages."""
    seen: Counter[str] = Counter()
    for lines in pages:
        seen.update({_numberless(line.text) for line in (*lines[:2], *lines[-2:])})
    running = {text for text, count in seen.items() if len(pages) > 2 and count > max(2, _MIN_RECURRENCE * len(pages))}
    kept: list[_Line] = []
    for lines in pages:
        last = len(lines) - 2
        kept += [
            line
            for place, line in enumerate(lines)
            if not ((place < 2 or place >= last) and _numberless(line.text) in running)
        ]
    return kept or [line for lines in pages for line in lines]


def _numberless(text: str) -> str:
    return re.sub(r"\d+", "#", text)


def _blocks(lines: Sequence[_Line], bookmarks: dict[str, int]) -> Iterator[Block]:
    sizes: Counter[float] = Counter()
    for line in lines:
        sizes[line.size] += len(line.text)
    body = sizes.most_common(1)[0][0]
    larger = sorted({line.size for line in lines if _is_large(line, body)}, reverse=True)
    held: list[_Line] = []
    for line in lines:
        level = _level(line, body, larger, bookmarks)
        if level is None:
            held.append(line)
            continue
        yield from _body(held)
        held = []
        yield Block("heading", _title(line.text), level=level, page=line.page)
    yield from _body(held)


def _is_large(line: _Line, body: float) -> bool:
    return (
        line.size >= body * _MIN_HEADING_SIZE
        and len(line.text) <= MAX_HEADING
        and any(char.isalpha() for char in line.text)
    )


def _level(line: _Line, body: float, larger: Sequence[float], bookmarks: dict[str, int]) -> int | None:
    """A heading's level by its bookmark, its number's depth, or the rank of its type size; None for body text."""
    text = line.text
    if len(text) > MAX_HEADING:
        return None
    marked = bookmarks.get(_key(text).lower(), bookmarks.get(_key(_title(text)).lower()))
    if marked is not None:
        return marked
    numbered = _NUMBERED.fullmatch(text)
    large = _is_large(line, body)
    if numbered and (large or "." in numbered["number"]):
        return numbered["number"].count(".") + 1
    return min(larger.index(line.size) + 1, 6) if large else None


def _title(text: str) -> str:
    numbered = _NUMBERED.fullmatch(text)
    return numbered["title"].strip() if numbered else text


def _body(lines: Sequence[_Line]) -> Iterator[Block]:
    """The blocks between two headings: paragraphs, numbered steps and bullets."""
    kind: BlockKind = "paragraph"
    entries, page, last = list[str](), 0, 0
    for line in lines:
        found, text = _classified(line.text, kind, len(entries))
        ended = line.gap or (line.page > last and bool(entries) and entries[-1].endswith(_SENTENCE_ENDS))
        last = line.page
        if found == "paragraph" and entries and not ended:  # the line continues the entry above it
            entries[-1] = _joined(entries[-1], text)
            continue
        if entries and (found == "paragraph" or found != kind):
            yield _block(kind, entries, page)
            entries = []
        if not entries:
            kind, page = found, line.page
        entries.append(text)
    if entries:
        yield _block(kind, entries, page)


def _classified(text: str, kind: BlockKind, entries: int) -> tuple[BlockKind, str]:
    """The kind of block that a line starts after `entries` entries of `kind`, and its text without the marker."""
    step = _STEP.fullmatch(text)
    if step and int(step["number"]) == (entries + 1 if kind == "steps" else 1):
        return "steps", step["text"]
    bullet = _BULLET.fullmatch(text)
    return ("bullets", bullet["text"]) if bullet else ("paragraph", text)


def _joined(above: str, below: str) -> str:
    """Join two lines; a word that was hyphenated at the end of the line is rejoined."""
    if re.search(r"[a-zà-ÿ]-$", above) and below[:1].islower():
        return above[:-1] + below
    return f"{above} {below}"


def _block(kind: BlockKind, entries: Sequence[str], page: int) -> Block:
    if kind == "paragraph":
        return Block(kind, " ".join(entries), page=page)
    return Block(kind, items=tuple((entry,) for entry in entries), page=page)
