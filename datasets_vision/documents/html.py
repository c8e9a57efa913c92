"""Parse HTML manuals into blocks with the standard library's tolerant parser, and Markdown manuals by way of HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser

from datasets_vision.documents.passages import Block, BlockKind
from datasets_vision.errors import DataError
from datasets_vision.formats.text_files import decoded

_HIDDEN = frozenset({"script", "style", "nav", "footer", "noscript", "template", "svg", "form", "button", "aside"})
_HEADINGS = {f"h{level}": level for level in range(1, 7)}
_BREAKS = frozenset({"p", "div", "section", "article", "main", "blockquote", "header", "figure", "figcaption", "hr"})
_VOID = frozenset({"br", "hr", "img", "input", "meta", "link", "col", "wbr", "source", "area", "base", "embed"})
_CHARSET = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?\s*([-\w]+)", re.I)
_TERM = re.compile(r"(?P<term>[^.:;!?]{2,60}?)\s*(?::|\s[–—])\s+(?P<meaning>\S.*)", re.S)
_TERM_WORDS = 6
_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---[ \t]*\r?\n", re.S)


def decoded_page(data: bytes) -> str:
    """Decode a page by its byte order mark, its declared charset, or UTF-8; raises DataError if that fails."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        name = "utf-16"
    else:
        found = _CHARSET.search(data[:4096])
        name = found[1].decode("ascii") if found and not data.startswith(b"\xef\xbb\xbf") else "utf-8"
    try:
        return decoded("", data, name).removeprefix("\ufeff")
    except LookupError as error:
        raise DataError("", f"declares the unknown charset {name!r}", "save it as UTF-8") from error


def read_html(text: str) -> tuple[str, list[Block]]:
    """The page's title ("" if it has none) and its blocks; menus, scripts, forms and footers are left out."""
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.title, list(_with_definitions(reader.blocks))


def read_markdown(text: str) -> tuple[str, list[Block]]:
    """The title (the first heading, if its level is 1) and the blocks; tables are read, and front matter is skipped."""
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark").enable("table").render(_FRONT_MATTER.sub("", text))
    title, blocks = read_html(page)
    first = next((block for block in blocks if block.kind == "heading"), None)
    return title or (first.text if first is not None and first.level == 1 else ""), blocks


class _Reader(HTMLParser):
    """Collects text until a tag shows what kind of block it is. Unclosed tags are closed with their parent."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.title = ""
        self._text: list[str] = []
        self._hidden: list[str] = []
        self._lists: list[tuple[str, list[tuple[str, ...]]]] = []
        self._term = ""
        self._rows: list[list[str]] | None = None
        self._header = False
        self._verbatim = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if self._hidden or tag in _HIDDEN:
            if tag not in _VOID:
                self._hidden.append(tag)
            return
        if tag == "br":
            self._text.append("\n" if self._verbatim else " ")
        elif tag in ("ul", "ol", "dl"):
            self._end_item()
            self._lists.append((tag, []))
        elif tag in ("li", "dt", "dd"):
            self._end_item()
        elif tag == "table" and self._rows is None:
            self._flush()
            self._rows, self._header = [], False
        elif self._rows is not None:
            self._start_cell(tag, self._rows)
        elif tag in _HEADINGS or tag == "pre" or (tag in _BREAKS and not self._lists):
            self._flush()
            self._verbatim = tag == "pre"
        elif tag in _BREAKS:
            self._text.append(" ")

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:
                del self._hidden[self._hidden.index(tag) :]
            return
        if tag == "title":
            self.title = self.title or self._take_text()
        elif tag == "table" and self._rows is not None:
            self._end_table()
        elif self._rows is not None:
            self._text.append(" ")
        elif tag in _HEADINGS:
            if text := self._take_text():
                self.blocks.append(Block("heading", text.rstrip(" #"), level=_HEADINGS[tag]))
        elif tag in ("ul", "ol", "dl") and self._lists:
            self._end_list()
        elif tag == "dt":
            self._term = self._take_text()
        elif tag in ("li", "dd"):
            self._end_item()
        elif tag == "pre":
            self._flush("code")
            self._verbatim = False
        elif tag in _BREAKS and not self._lists:
            self._flush()

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._text.append(data)

    def close(self) -> None:
        """Close all tables and lists that the page left open."""
        super().close()
        if self._rows is not None:
            self._end_table()
        while self._lists:
            self._end_list()
        self._flush()

    def _take_text(self) -> str:
        text, self._text = "".join(self._text), []
        return text.strip("\n") if self._verbatim else " ".join(text.split()).rstrip(" ¶")

    def _flush(self, kind: BlockKind = "paragraph") -> None:
        if text := self._take_text():
            self.blocks.append(Block(kind, text))

    def _end_item(self) -> None:
        if not self._lists:
            self._flush()
            return
        tag, entries = self._lists[-1]
        text = self._take_text()
        if tag == "dl" and text and self._term:
            entries.append((self._term, text))
            self._term = ""
        elif tag == "dl" and text:
            self._term = text
        elif text:
            entries.append((text,))

    def _end_list(self) -> None:
        self._end_item()
        tag, entries = self._lists.pop()
        self._term = ""
        if not entries:
            return
        if self._lists and tag != "dl":  # an inner list belongs to the entry that contains it
            outer = self._lists[-1][1]
            joined = "; ".join(entry[0] for entry in entries)
            outer[-1:] = [(f"{outer[-1][0]} ({joined})" if outer else joined,)]
            return
        pairs = [entry for entry in entries if len(entry) == 2]
        if tag == "dl" and pairs:
            self.blocks.append(Block("definition", items=tuple(pairs)))
        elif tag != "dl":
            self.blocks.append(Block("steps" if tag == "ol" else "bullets", items=tuple(entries)))

    def _start_cell(self, tag: str, rows: list[list[str]]) -> None:
        if tag == "tr":
            self._end_cell()
            rows.append([])
        elif tag in ("td", "th"):
            self._end_cell()
            if not rows:
                rows.append([])
            self._header = self._header or (tag == "th" and len(rows) == 1)
            rows[-1].append("")

    def _end_cell(self) -> None:
        text = self._take_text()
        if self._rows and self._rows[-1]:
            self._rows[-1][-1] = (self._rows[-1][-1] + " " + text).strip()

    def _end_table(self) -> None:
        self._end_cell()
        rows = tuple(tuple(row) for row in self._rows or () if any(row))
        self._rows = None
        if rows:
            self.blocks.append(Block("table", items=rows, header=self._header and len(rows) > 1))


def _with_definitions(blocks: list[Block]) -> Iterator[Block]:
    """The blocks; a list in which every entry reads "term: meaning" becomes definitions."""
    for block in blocks:
        found = [_TERM.fullmatch(item[0]) for item in block.items] if block.kind == "bullets" else []
        terms = [match for match in found if match is not None and len(match["term"].split()) <= _TERM_WORDS]
        if terms and len(terms) == len(block.items):
            pairs = tuple((match["term"].strip(), match["meaning"].strip()) for match in terms)
            yield Block("definition", items=pairs, page=block.page)
        else:
            yield block
