"""The pieces of HTML that several views are made of."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def words(name: str) -> str:
    """A field's or a class's name as one reads it; not escaped."""
    return name.replace("_", " ")


def section(title: str, gloss: str, body: str) -> str:
    """A part of an answer under its heading; title and gloss are escaped, the body is HTML."""
    small = f" <small>{escape(gloss)}</small>" if gloss else ""
    return f'<section class="field"><h3>{escape(title)}{small}</h3>{body}</section>'


def table(head: str, rows: Iterable[Iterable[str]]) -> str:
    """A table of HTML cells below the HTML of its head; on a narrow page it scrolls by itself."""
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<div class="wide" tabindex="0" role="region" aria-label="table">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def columns(names: Iterable[str]) -> str:
    """The head of a table whose columns have these names, escaped."""
    return "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
