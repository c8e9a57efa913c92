"""Manuals are parsed into blocks: structure is found, nothing is lost, and unreadable files give a reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from fpdf import FPDF

from datasets_vision.documents.build import read_documents
from datasets_vision.documents.passages import Block, Document, passages
from datasets_vision.formats.contract import SetAside

MARKDOWN = """---
author: nobody
---
# Pump P7

A pump is a machine that moves fluids.

## Replacing the filter

Warning: close both valves first.

1. Open the lid.
2. Lift the filter out.
   - by its handle

## Parts

- **Rotor**: turns in the housing
- **Gasket**: seals the lid

| Fault | Cause | Remedy |
| --- | --- | --- |
| No flow | Closed valve | Open the valve |
"""

HTML = """<html><head><title>Pump P7</title><style>p {}</style><script>var x = "<p>no</p>";</script></head><body>
<nav><a>Home</a></nav><h1>Pump P7</h1><p>A pump is a machine that moves fluids.</p>
<h2>Replacing the filter</h2><p>Warning: close both valves first.<ol><li>Open the lid.<li>Lift the filter out.
<ul><li>by its handle</ul></ol>
<h2>Parts</h2><dl><dt>Rotor</dt><dd>turns in the housing</dd><dt>Gasket<dd>seals the lid</dl>
<table><tr><th>Fault<th>Cause<th>Remedy<tr><td>No flow<td>Closed valve<td>Open the valve</table>
<footer>Page made by nobody</footer>"""


def written(folder: Path, name: str, content: str | bytes) -> list[Document | SetAside]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_documents(path))


def document(folder: Path, name: str, content: str | bytes) -> Document:
    (found,) = written(folder, name, content)
    assert isinstance(found, Document), found
    return found


def shape(found: Document) -> list[tuple[str, str]]:
    return [(block.kind, block.plain) for block in found.blocks]


EXPECTED = [
    ("heading", "Pump P7"),
    ("paragraph", "A pump is a machine that moves fluids."),
    ("heading", "Replacing the filter"),
    ("paragraph", "Warning: close both valves first."),
    ("steps", "1. Open the lid.\n2. Lift the filter out. (by its handle)"),
    ("heading", "Parts"),
    ("definition", "Rotor: turns in the housing\nGasket: seals the lid"),
    ("table", "Fault | Cause | Remedy\nNo flow | Closed valve | Open the valve"),
]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize(("name", "content"), [("a.md", MARKDOWN), ("a.html", HTML)])
def test_markdown_and_html_without_closing_tags_have_the_same_structure(tmp_path, name, content, end):
    found = document(tmp_path, name, "\ufeff" + content.replace("\n", end))
    assert found.title == "Pump P7"
    assert shape(found) == EXPECTED


def pdf(
    pages: Sequence[Sequence[tuple[float, str]]], *, outline: Sequence[tuple[str, int]] = (), password: str = ""
) -> bytes:
    """A PDF of pages with lines of (type size in points, text). `outline`: (title, page from 0)."""
    book = FPDF(unit="pt")
    book.core_fonts_encoding = "cp1252"  # which has bullets
    if password:
        book.set_encryption(owner_password=password, user_password=password)
    for number, lines in enumerate(pages):
        book.add_page()
        for title in (title for title, page in outline if page == number):
            book.start_section(title)
        down = 42.0
        for size, text in lines:
            down += 1.4 * size
            book.set_font("helvetica", size=size)
            book.text(50, down, text)
    return bytes(book.output())


BODY = [
    (18, "2 Care of the pump"),
    (10, "The pump must be cleaned after every shift, and once in every"),
    (10, "month it must be greased. The hous-"),
    (10, "ing is wiped dry."),
    (14, "2.1 Replacing the filter"),
    (10, "1. Open the lid."),
    (10, "2. Lift the filter out with both hands and"),
    (10, "put it on a cloth."),
    (10, "• Keep it upright."),
]


def test_a_pdf_gives_headings_steps_and_whole_words(tmp_path):
    found = document(tmp_path, "a.pdf", pdf([BODY]))
    assert shape(found) == [
        ("heading", "Care of the pump"),
        (
            "paragraph",
            "The pump must be cleaned after every shift, and once in every month it must be greased. "
            "The housing is wiped dry.",
        ),
        ("heading", "Replacing the filter"),
        ("steps", "1. Open the lid.\n2. Lift the filter out with both hands and put it on a cloth."),
        ("bullets", "- Keep it upright."),
    ]
    assert [block.level for block in found.blocks if block.kind == "heading"] == [1, 2]
    assert {block.page for block in found.blocks} == {1}


def test_running_heads_are_left_out_and_page_numbers_kept(tmp_path):
    pages = [[(10, "Pump P7"), (10, f"{'abcdefg'[n]} {'xyz' * n} text {n}."), (8, f"Page {n}")] for n in range(1, 6)]
    found = document(tmp_path, "a.pdf", pdf(pages))
    text = " ".join(block.plain for block in found.blocks)
    assert "Pump P7" not in text
    assert "Page 3" not in text
    assert [n for n in range(1, 6) if f"text {n}." in text] == [1, 2, 3, 4, 5]


def test_bookmarks_are_headings_whatever_their_type_size(tmp_path):
    page = [(10, "Cleaning"), (10, "Wipe the housing with a dry cloth each evening.")]
    found = document(tmp_path, "a.pdf", pdf([page], outline=[("Cleaning", 0)]))
    assert shape(found)[0] == ("heading", "Cleaning")


def test_a_paragraph_that_ends_with_its_page_keeps_its_page(tmp_path):
    pages = [
        [(10, "The pump is idle at night.")],
        [(10, "It starts at six, and")],
        [(10, "stops before noon at the latest.")],
    ]
    blocks = document(tmp_path, "a.pdf", pdf(pages)).blocks
    assert [(block.text, block.page) for block in blocks] == [
        ("The pump is idle at night.", 1),
        ("It starts at six, and stops before noon at the latest.", 2),
    ]


def test_a_page_without_text_is_set_aside_and_the_others_read(tmp_path):
    scan, found = written(tmp_path, "a.pdf", pdf([BODY, []]))
    assert isinstance(scan, SetAside)
    assert scan.place.endswith("a.pdf, page 2")
    assert isinstance(found, Document)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("locked.pdf", pdf([BODY], password="secret"), "encrypted"),
        ("scan.pdf", pdf([[], []]), "no text on any of its 2 pages"),
        ("cut.pdf", pdf([BODY])[:200], "damaged PDF|pages"),
        ("other.pdf", b"PK\x03\x04 a zip", "not a PDF file"),
        ("empty.pdf", b"", "0 bytes"),
        ("empty.md", b"\n\n", "no text"),
        ("latin.md", "Höhe".encode("latin-1"), "not UTF-8: byte 0xf6 at offset 1"),
        ("charset.html", b'<meta charset="klingon"><p>x', "unknown charset 'klingon'"),
        ("menu.html", b"<nav><p>Home</nav><script>x()", "no text"),
        ("photo.jpg", b"\xff\xd8", "files are not manuals"),
    ],
)
def test_an_unreadable_file_says_why(tmp_path, name, content, reason):
    (found,) = written(tmp_path, name, content)
    assert isinstance(found, SetAside)
    assert any(part in found.reason for part in reason.split("|")), found.reason


def test_a_declared_charset_is_followed(tmp_path):
    page = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1"><p>Höhe 3 m'.encode("latin-1")
    assert shape(document(tmp_path, "a.html", page)) == [("paragraph", "Höhe 3 m")]


@pytest.mark.parametrize(
    "page", ["<p>a<b>b</p>c</b></table></ul><li>d<td>e", "<table><tr><td>a<table><tr><td>b", "<p>x<!-- y"]
)
def test_no_broken_html_stops_the_reader(tmp_path, page):
    assert written(tmp_path, "a.html", page)


@pytest.mark.parametrize("longest", [200, 1200])
def test_passages_contain_every_block_once_and_keep_to_the_length(longest):
    blocks = [Block("heading", "One", level=1)]
    blocks += [Block("paragraph", f"Sentence number {n} says a thing or two. " * 9, page=n) for n in range(5)]
    blocks += [Block("heading", "Two", level=2), Block("paragraph", "word" * 700)]
    blocks += [Block("table", items=(("name", "value"), *((f"n{n}", "v" * 20) for n in range(60))), header=True)]
    blocks += [Block("steps", items=tuple((f"Do the thing with number {n}.",) for n in range(60)))]
    found = list(passages(Document("d.md", "D", tuple(blocks)), longest))
    assert all(len(passage.text) <= longest for passage in found)
    text = "".join("".join(passage.text.split()) for passage in found)
    for n in range(5):
        assert text.count(f"Sentencenumber{n}says") == 9
    assert text.count("word") == 700
    assert all(text.count(f"n{n}|") == 1 and text.count(f"number{n}.") == 1 for n in range(60))
    assert {passage.section for passage in found} == {("One",), ("One", "Two")}
    assert [passage.number for passage in found] == list(range(1, len(found) + 1))
