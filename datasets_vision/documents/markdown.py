"""Parse Markdown manuals into blocks."""

from __future__ import annotations

import re

from datasets_vision.documents.html import read_html
from datasets_vision.documents.passages import Block

_FRONT_MATTER = re.compile(r"\A---\r?\n.*?\r?\n---[ \t]*\r?\n", re.S)


def read_markdown(text: str) -> tuple[str, list[Block]]:
    """The title (the first heading, if its level is 1) and the blocks; tables are read, and front matter is skipped."""
    from markdown_it import MarkdownIt

    page = MarkdownIt("commonmark").enable("table").render(_FRONT_MATTER.sub("", text))
    title, blocks = read_html(page)
    first = next((block for block in blocks if block.kind == "heading"), None)
    return title or (first.text if first is not None and first.level == 1 else ""), blocks
