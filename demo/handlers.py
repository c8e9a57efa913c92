"""What the tabs share: the choice of an adapter, settings of events, who asks, and how errors are shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from html import escape
from pathlib import Path
from typing import Any, BinaryIO

import gradio as gr

from vlm_ft.adapters import Card
from vlm_ft.errors import UserError
from vlm_ft.inference.request import Predictor
from vlm_ft.work.tokens import Right
from vlm_ft.work.workplace import Workplace

from .card_view import in_a_line

PRIVATE: dict[str, Any] = {"api_visibility": "private"}
"""The settings of an event that only the page triggers."""

QUIET: dict[str, Any] = {**PRIVATE, "show_progress": "hidden"}
MODEL_QUEUE: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model"}
"""The settings of an event that asks the model, which handles one request at a time."""


def adapter_choice(predictor: Predictor, fits: Callable[[Card], bool], label: str = "Adapter") -> gr.Dropdown:
    """A dropdown of the adapters that fit."""
    choices = fitting(predictor, fits)
    choice = gr.Dropdown(choices, value=choices[0][1] if choices else None, label=label, filterable=False)
    list_when_loaded(choice, predictor, fits)
    return choice


def fitting(predictor: Predictor, fits: Callable[[Card], bool]) -> list[tuple[str, str]]:
    """The adapters that are served now, and fit: what each is, and its name."""
    return [(in_a_line(card, name), name) for name, card in predictor.cards.items() if fits(card)]


def list_when_loaded(
    choice: gr.Dropdown | gr.CheckboxGroup, predictor: Predictor, fits: Callable[[Card], bool]
) -> None:
    """List the adapters that fit whenever the page is loaded."""
    gr.on(None, lambda: gr.update(choices=fitting(predictor, fits)), None, choice, **QUIET)


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turn a user error into Gradio's, which the page shows."""
    try:
        yield
    except UserError as error:
        raise gr.Error(in_toast(error), print_exception=False) from error


def in_toast(error: UserError) -> str:
    """The message of an error, escaped: it may quote a file's name, and Gradio takes the text of a toast for HTML."""
    return escape(error.public(), quote=False)


@contextmanager
def permitted(work: Workplace, request: gr.Request | None, right: Right) -> Iterator[str | None]:
    """The user of a request, with errors shown. Raises Gradio's error for a user without the right."""
    user = user_of(request)
    if not work.may(user, right):
        raise gr.Error(f"Your token does not include the right to {right}.", print_exception=False)
    with errors_shown():
        yield user


def user_of(request: gr.Request | None) -> str | None:
    """Whose token a request carries; None if the service needs none."""
    return getattr(request, "username", None)


@contextmanager
def uploads(files: Iterable[str]) -> Iterator[list[tuple[str, BinaryIO]]]:
    """Uploaded files as `Workplace` expects them: name and content."""
    with ExitStack() as opened:
        yield [(Path(file).name, opened.enter_context(Path(file).open("rb"))) for file in files]
