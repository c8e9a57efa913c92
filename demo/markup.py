"""Pieces of HTML that several views share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


def section(title: str, gloss: str, body: str) -> str:
    """A part of an answer under its heading; title and gloss are escaped, the body is HTML."""
    small = f" <small>{escape(gloss)}</small>" if gloss else ""
    return f'<section class="field"><h2>{escape(title)}{small}</h2>{body}</section>'


def table(names: Sequence[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of HTML cells, with the names of its columns; on a narrow page, each row becomes a list."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join(f"<tr>{''.join(map(_cell, names, row))}</tr>" for row in rows)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def advised(advice: str) -> str:
    """An advice with its reason, such as "Ask a person: too dark": escaped, and the advice in bold; "" for none."""
    what, colon, why = advice.partition(":")
    if not what:
        return ""
    return f"<strong>{escape(what + colon)}</strong>{escape(why)}"


def framed(body: str) -> str:
    """HTML in the style of an answer."""
    return f'<div class="answer">{body}</div>'


def minute(time: str) -> str:
    """A time in ISO format, without seconds and zone."""
    return time[:16].replace("T", " ")


def _cell(name: str, cell: str) -> str:
    return f'<td data-of="{escape(name)}">{cell}</td>'
