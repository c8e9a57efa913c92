"""What the handlers of several tabs share: who asks, what that user may do, and how errors are shown."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from vlm_ft.errors import UserError
from vlm_ft.work.tokens import Right
from vlm_ft.work.workplace import Workplace


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turns a user's error into Gradio's, which the page shows."""
    try:
        yield
    except UserError as error:
        raise gr.Error(error.public(), print_exception=False) from error


def user_of(request: gr.Request | None) -> str | None:
    """Whose token a request carries; None if the service needs none."""
    return getattr(request, "username", None)


def require(work: Workplace, request: gr.Request | None, right: Right) -> str | None:
    """The user of a request. Raises Gradio's error, which the page shows, if the user lacks the right."""
    user = user_of(request)
    if not work.may(user, right):
        raise gr.Error(f"Your token does not include the right to {right}.", print_exception=False)
    return user
