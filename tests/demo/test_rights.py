"""Every action on the tabs for work needs a right, and is refused to a user without it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import gradio as gr
import pytest
from vlm_ft.demo.app import build_app

from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.tokens import Tokens, add_token
from vlm_ft.work.workplace import Workplace

RIGHTS = {
    "adapters_tab": {"train": "train", "promote": "admin", "roll_back": "admin"},
    "batch_tab": {"score": "assess", "review": "assess"},
    "errors_panel": {"opened": "train", "of_field": "train", "chosen": "train", "turned": "train"},
    "history_tab": {"found": "admin", "exported": "admin"},
    "jobs_view": {"_stopped": "train", "_resumed": "train"},
    "train_tab": {"check": "train", "train": "train"},
}
FOR_ALL = {"assessed", "answered", "talked", "_refreshed", "show"}
"""Handlers that need no right beyond that to open the app, or that leave out what needs one."""


@pytest.fixture
def blocks(known: Any, tmp_path: Path) -> Iterator[gr.Blocks]:
    """The app with all tabs; its only token is that of a monitor."""
    add_token(tmp_path / "tokens.json", "monitor", ("read",))
    jobs, tokens = Jobs(tmp_path / "jobs"), Tokens(tmp_path / "tokens.json")
    work = Workplace(Registry(tmp_path / "adapters"), Reviews(tmp_path / "reviews"), jobs, tmp_path, tokens)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # Gradio's, for a handler that takes more or fewer values
        yield build_app(known, work=work, history=lambda words, limit: [])
    jobs.close()


def test_every_handler_refuses_a_user_without_the_right(blocks: gr.Blocks) -> None:
    found: dict[str, dict[str, str]] = {}
    for entry in blocks.fns.values():
        if entry.fn is None or "request" not in (names := inspect.signature(entry.fn).parameters):
            continue
        place, name = entry.fn.__module__.rpartition(".")[2], entry.fn.__name__
        if name in FOR_ALL:
            continue
        given = {each: SimpleNamespace(username="monitor") if each == "request" else Mock() for each in names}
        with pytest.raises(gr.Error, match="Your token does not include the right to") as refused:
            entry.fn(**given)
        found.setdefault(place, {})[name] = refused.value.message.split()[-1].rstrip(".")
    assert found == RIGHTS
