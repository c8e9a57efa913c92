"""Turn a folder of manuals into a chatbot's training set: OpenAI `messages`, each row with its source passage."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from datasets_vision.documents.html import decoded_page, read_html, read_markdown
from datasets_vision.documents.passages import MAX_PASSAGE, Block, Document, Passage, passages
from datasets_vision.documents.pdf import read_pdf
from datasets_vision.documents.questions import MAX_ANSWER, Question, questions
from datasets_vision.documents.server import Server
from datasets_vision.errors import DataError
from datasets_vision.formats.contract import SetAside, or_set_aside
from datasets_vision.placing import whole_file
from datasets_vision.walk import skipped_folders, walk

MAX_BYTES = 200_000_000


@dataclass
class Built:
    """Counts of documents, passages and rows, and what was set aside."""

    documents: int = 0
    passages: int = 0
    rows: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    set_aside: list[SetAside] = field(default_factory=list)


def read_documents(path: Path) -> Iterator[Document | SetAside]:
    """Every manual at or below `path`, in natural order; files that are not manuals or can't be read are set aside.

    The files are listed immediately, but read one by one.
    """
    root = path if path.is_dir() else path.parent
    read = (or_set_aside(file, _document(file, file.relative_to(root).as_posix())) for file in _files(path))
    remedy = "copy the folder, or read it separately"
    skipped = (SetAside(str(folder), reason, remedy) for folder, reason in skipped_folders(path))
    return chain(chain.from_iterable(read), skipped)


def read_passages(pdf: Path) -> tuple[list[Passage], list[int]]:
    """The passages of one PDF, and its pages without text. Raises `DataError` if it cannot be read."""
    try:
        title, blocks, without_text = read_pdf(_data(pdf))
    except DataError as error:
        raise error.at(pdf) from error
    return list(passages(Document(pdf.name, title or pdf.stem, tuple(blocks)))), [page for page, _ in without_text]


def _files(path: Path) -> list[Path]:
    if not path.exists():
        raise DataError(path, "no such file or folder of manuals", "check the path")
    return list(walk(path))


def write_messages(
    manuals: Path,
    out: Path,
    *,
    server: Server | None = None,
    max_passage: int = MAX_PASSAGE,
    max_answer: int = MAX_ANSWER,
) -> Built:
    """Write one JSONL row per question: `messages`, and `source`, `passage`, `group` (the document), `kind`.

    A server, if given, writes the questions instead of the templates. If a question has a second, different answer in
    the same document, the section's name is added to the question; if that question exists too, it is set aside.
    Raises DataError if there are no rows at all.
    """
    if any(file.suffix.lower() in READERS and out.exists() and file.samefile(out) for file in _files(manuals)):
        raise DataError(out, "is one of the manuals and would be overwritten", "give another file")
    built, documents = Built(), read_documents(manuals)
    with whole_file(out) as part:
        with part.open("w", encoding="utf-8", newline="\n") as file:
            for item in documents:
                if isinstance(item, SetAside):
                    built.set_aside.append(item)
                    continue
                built.documents += 1
                for row in _rows(item, built, server, max_passage, max_answer):
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
        if not built.rows:
            first = str(built.set_aside[0]) if built.set_aside else "it contains no files"
            problem = f"no questions found in {built.documents} manuals ({first})"
            raise DataError(manuals, problem, "give PDF, Markdown or HTML")
    return built


def _rows(
    document: Document, built: Built, server: Server | None, max_passage: int, max_answer: int
) -> Iterator[dict[str, object]]:
    answers: dict[str, str] = {}
    for passage in passages(document, max_passage):
        built.passages += 1
        found = list(server.ask(passage, max_answer) if server else questions(passage, max_answer))
        if not found and not server:
            built.set_aside.append(SetAside(passage.place, f"passage {passage.number}: {_NOTHING_TO_ASK}"))
        for item in found:
            question = _distinct(item, passage, answers) if isinstance(item, Question) else item
            if isinstance(question, SetAside):
                built.set_aside.append(question)
            elif question is not None:
                answers[question.question.lower()] = question.answer
                built.kinds[question.kind] += 1
                built.rows += 1
                yield _row(question, passage)


_NOTHING_TO_ASK = "no heading, steps, definitions or table to ask about; try --server"


def _distinct(item: Question, passage: Passage, answers: dict[str, str]) -> Question | SetAside | None:
    """The question, made unique in its document; None if the document already has the same pair."""
    known = answers.get(item.question.lower())
    if known is None:
        return item
    if known == item.answer:
        return None
    asked = f"{item.question} (in the section {' > '.join(passage.section)})" if passage.section else item.question
    if asked.lower() in answers:
        return SetAside(passage.place, f"a second, different answer to the question {item.question!r}")
    return Question(asked, item.answer, item.kind)


def _row(item: Question, passage: Passage) -> dict[str, object]:
    return {
        "messages": [{"role": "user", "content": item.question}, {"role": "assistant", "content": item.answer}],
        "source": passage.place,
        "passage": passage.text,
        "group": passage.document,
        "kind": item.kind,
    }


def _document(path: Path, name: str) -> Iterator[Document | SetAside]:
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(path, f"{path.suffix!r} files are not manuals", f"give {', '.join(READERS)}")
    title, blocks, empty_pages = reader(_data(path))
    if not any(block.kind != "heading" for block in blocks):
        raise DataError("", "contains no text", "give a manual with text")
    yield from (SetAside(f"{path}, page {number}", reason) for number, reason in empty_pages)
    yield Document(name, title or path.stem, tuple(blocks))


def _data(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise DataError("", f"{size} bytes", f"give a file of 1 to {MAX_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise DataError("", f"cannot be read ({error.strerror or error})") from error


Content = tuple[str, list[Block], list[tuple[int, str]]]
"""The title, the blocks, and (page, reason) for each page without text."""


def _reader(read: Callable[[str], tuple[str, list[Block]]]) -> Callable[[bytes], Content]:
    return lambda data: (*read(decoded_page(data)), [])


READERS: dict[str, Callable[[bytes], Content]] = {
    ".pdf": read_pdf,
    **dict.fromkeys((".md", ".markdown"), _reader(read_markdown)),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _reader(read_html)),
}
"""By suffix: the function that reads a file's bytes."""
