"""What the app needs for work on adapters: reviews, jobs and versions. The service provides it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol

import gradio as gr

from vlm_ft.adapters import Card
from vlm_ft.errors import UserError
from vlm_ft.registry import Registry, Version
from vlm_ft.review.store import Reviews

Right = Literal["assess", "review", "train", "admin"]
History = Callable[[str, int], Sequence[Mapping[str, Any]]]
"""(words, most) -> the newest entries of the decision log that contain the words."""


class Job(Protocol):
    """A command that takes a while."""

    @property
    def id(self) -> str:
        """Its name."""

    @property
    def kind(self) -> str:
        """preflight, score, train or promote."""

    @property
    def title(self) -> str:
        """What it works on."""

    @property
    def state(self) -> str:
        """queued, running, done, failed or stopped."""

    @property
    def created(self) -> str:
        """When it was submitted."""

    @property
    def arguments(self) -> Sequence[str]:
        """Of its command."""


class Jobs(Protocol):
    """All jobs."""

    def all(self) -> Sequence[Job]:
        """Every job, oldest first."""

    def get(self, job: str) -> Job:
        """One job."""

    def log(self, job: str) -> str:
        """The end of what it has printed."""

    def result(self, job: str) -> Path:
        """What it has written, if it is done."""

    def stop(self, job: str) -> Job:
        """Stop it."""

    def resume(self, job: str) -> Job:
        """Continue it."""


class Work(Protocol):
    """The place of work."""

    @property
    def registry(self) -> Registry:
        """The versions of the adapters."""

    @property
    def reviews(self) -> Reviews:
        """The verdicts on answers."""

    @property
    def jobs(self) -> Jobs:
        """The jobs."""

    @property
    def root(self) -> Path | None:
        """The folder below which folders can be scored."""

    def may(self, user: str | None, right: Right) -> bool:
        """Whether this user has the right."""

    def score(
        self,
        card: Card,
        files: Sequence[tuple[str, BinaryIO]],
        folder: str,
        table: Literal["csv", "parquet", "jsonl"],
        by: str | None,
    ) -> Job:
        """Score files (name and content), or a folder below `root`."""

    def train(self, card: Card, minutes: float | None, by: str | None) -> Job:
        """Train an adapter's next version."""

    def preflight(
        self, name: str, files: Sequence[tuple[str, BinaryIO]], folder: str, recipe: str, task: str, by: str | None
    ) -> Job:
        """Look at new data, a zip file (name and content) or a folder below `root`, before training on them."""

    def train_new(self, checked: str, minutes: float | None, by: str | None) -> Job:
        """Train an adapter on data that were checked."""

    def promote(self, trained: str, margin: float, by: str | None) -> Job:
        """Compare a trained adapter with the current version, which it replaces if it is not worse."""

    def roll_back(self, card: Card, by: str | None) -> Version:
        """Serve the version that was current before."""


@contextmanager
def errors_shown() -> Iterator[None]:
    """Turns a user's error into Gradio's, which the page shows."""
    try:
        yield
    except UserError as error:
        raise gr.Error(error.public(), print_exception=False) from error


def require(work: Work, request: gr.Request | None, right: Right) -> str | None:
    """The user of a request. Raises Gradio's error, which the page shows, if the user lacks the right."""
    user = getattr(request, "username", None)
    if not work.may(user, right):
        raise gr.Error(f"Your token does not include the right to {right}.", print_exception=False)
    return user
