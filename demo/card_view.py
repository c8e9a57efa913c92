"""An adapter's card in a few lines: what it is, what it learned from, and its figures on test examples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

from vlm_ft.adapters import Card
from vlm_ft.evaluation.results import main_figure

from .wording import words

FIRST_FIGURES = 4
METRICS = {"macro_f1": "macro-F1", "f1": "F1", "mae": "mean absolute error", "rouge_l": "ROUGE-L", "iou": "IoU"}


def in_a_line(card: Card, name: str) -> str:
    """What an adapter is for and how good it is: "steel · Product defects · kind macro-F1 0.98"."""
    figure = main_figure(card)
    if figure is None:
        return f"{name} · {card.form.title} · not evaluated"
    field, metric, value = figure
    return f"{name} · {card.form.title} · {words(field)} {METRICS[metric]} {value:.2f}"


def card_view(card: Card, name: str) -> str:
    """The adapter's facts as a definition list, its figures as a table; all text is escaped."""
    facts = {
        "Name": name,
        "Task": card.form.title,
        "Answers": ", ".join(map(words, card.form.names)),
        "Base": card.base.name,
        "Learned from": _learned(card),
        "Calibration": "not calibrated" if card.confidence is None else card.confidence.bound.in_words,
    }
    listed = "".join(f"<dt>{term}</dt><dd>{escape(fact)}</dd>" for term, fact in facts.items())
    return f'<div class="card"><dl>{listed}</dl>{_figures(card)}</div>'


def figures(metrics: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """(name in words, figure) for each of a card's metrics, with its interval if it has one."""
    for name, entry in metrics.items():
        interval = f" ({entry['low']:.2f} to {entry['high']:.2f})" if {"low", "high"} <= entry.keys() else ""
        yield _named(name), f"{entry['value']:.2f}{interval}"


def _named(metric: str) -> str:
    field, _, name = metric.rpartition(".")
    return words(f"{field} {METRICS.get(name, name)}").strip()


def _learned(card: Card) -> str:
    counts = card.provenance.counts
    trained = f"{counts['train']} examples" if "train" in counts else "unstated"
    if card.most_photos is not None and card.most_photos > 1:
        trained += f" of up to {card.most_photos} photos"
    if "test" not in counts:
        return trained
    return f"{trained}, tested on {counts['test']}" if card.metrics else f"{trained}; {counts['test']} kept for testing"


def _figures(card: Card) -> str:
    rows = [
        f"<tr><th scope='row'>{escape(name)}</th><td>{escape(figure)}</td></tr>"
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
