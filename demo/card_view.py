"""An adapter's card in a few lines: what it is, what it learned from, how well it did on its test examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from demo.markup import words
from vlm_ft.adapters import Card

FIRST_FIGURES = 4


def card_view(card: Card, name: str) -> str:
    """The facts of the adapter of that name as a list of terms, the figures as a table; all escaped."""
    facts = {
        "Name": escape(name),
        "Task": escape(card.form.title),
        "Answers": escape(", ".join(map(words, card.form.names))),
        "Base": escape(card.base.name),
        "Learned from": escape(_learned(card)),
    }
    listed = "".join(f"<dt>{term}</dt><dd>{fact}</dd>" for term, fact in facts.items())
    return f'<div class="card"><dl>{listed}</dl>{_figures(card)}</div>'


def figures(metrics: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, figure) for every number in a card's metrics, with its interval where it has one.

    A figure is a number, or a mapping with `value` and, where known, `low` and `high`.
    """
    for name, entry in metrics.items():
        yield from _figure(str(name), entry)


def _figure(name: str, entry: Any) -> Iterator[tuple[str, str]]:
    if isinstance(entry, bool):
        return
    if isinstance(entry, int | float):
        yield name, _number(entry)
    elif isinstance(entry, Mapping) and isinstance(entry.get("value"), int | float):
        yield name, _with_interval(entry)
    elif isinstance(entry, Mapping):
        for inner, value in entry.items():
            yield from _figure(f"{name} {inner}".strip(), value)
    elif isinstance(entry, list | tuple):
        for value in entry:
            if isinstance(value, Mapping):
                place = f"{value.get('field', '')} {value.get('name', '')}".strip()
                yield from _figure(place or name, value)


def _with_interval(entry: Mapping[str, Any]) -> str:
    value = _number(entry["value"])
    if not all(isinstance(entry.get(end), int | float) for end in ("low", "high")):
        return value
    return f"{value} ({_number(entry['low'])} to {_number(entry['high'])})"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.2f}"


def _learned(card: Card) -> str:
    counts = card.provenance.counts
    trained = f"{counts['train']} examples" if "train" in counts else "unstated"
    if "test" not in counts:
        return trained
    return f"{trained}, tested on {counts['test']}" if card.metrics else f"{trained}; {counts['test']} kept for testing"


def _figures(card: Card) -> str:
    rows = [
        f"<tr><th scope='row'>{escape(words(name.replace('.', ' ')))}</th><td>{escape(figure)}</td></tr>"
        for name, figure in figures(card.metrics)
    ]
    if not rows:
        return '<p class="rest">Not evaluated yet.</p>'
    table = "<table><caption>On its test examples (95 % interval)</caption>{}</table>".format
    if len(rows) <= FIRST_FIGURES:
        return table("".join(rows))
    rest = "".join(rows[FIRST_FIGURES:])
    more = f"<details><summary>{len(rows) - FIRST_FIGURES} more</summary><table>{rest}</table></details>"
    return table("".join(rows[:FIRST_FIGURES])) + more
