"""`Reviews`: people's verdicts on answers, in a folder that training reads (format `reviews`)."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from PIL.Image import Image
from pydantic import ValidationError

from datasets_vision.formats.reviews import LINES, PHOTOS
from datasets_vision.placing import whole_file
from vlm_ft.adapters import Card
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.task import Values
from vlm_ft.errors import DataError, FormError

Verdict = Literal["accepted", "corrected", "rejected"]


class Review(Strict):
    """One verdict. `photos` are files in the store's folder `photos`; `correct` is None unless fields were corrected.

    `case` identifies the photos and the text; `form` is the fingerprint of the adapter's form.
    """

    case: str
    time: str
    reviewer: str | None
    adapter: str
    task: str
    form: str
    photos: tuple[str, ...]
    text: str
    answer: dict[str, Any]
    verdict: Verdict
    correct: dict[str, Any] | None = None


class Reviews:
    """The verdicts in a folder; adding one is safe from several threads of one process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lines, self._photos = folder / LINES, folder / PHOTOS
        self._lock = threading.Lock()

    def add(
        self,
        card: Card,
        photos: Sequence[Image],
        text: str,
        answer: Values,
        verdict: Verdict,
        correct: Values | None = None,
        reviewer: str | None = None,
    ) -> Review:
        """Store a verdict on an adapter's answer; photos are stored as PNG, without metadata.

        A correction equal to the answer is stored as accepted. Raises `FormError` for a correction that does not fit
        the adapter's form, and `DataError` if the folder cannot be written.
        """
        if verdict == "corrected":
            if correct is None:
                raise FormError("", "no corrected fields", "correct at least one, or accept the answer")
            correct = card.form.check(correct)
            if correct == answer:
                verdict, correct = "accepted", None
        names = tuple(self._stored(photo) for photo in photos)
        review = Review(
            case=hashlib.sha256(json.dumps([names, text, card.form.task]).encode()).hexdigest()[:24],
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            reviewer=reviewer,
            adapter=card.name,
            task=card.form.task,
            form=card.form.fingerprint,
            photos=names,
            text=text,
            answer=answer,
            verdict=verdict,
            correct=correct if verdict == "corrected" else None,
        )
        with self._lock, self._lines.open("a", encoding="utf-8") as file:
            file.write(review.model_dump_json() + "\n")
        return review

    def last(self) -> list[Review]:
        """The last verdict on each case, oldest first. Raises `DataError` for a broken line."""
        found: dict[str, Review] = {}
        if not self._lines.exists():
            return []
        for number, line in enumerate(self._lines.read_text(encoding="utf-8").splitlines(), 1):
            try:
                review = Review.model_validate_json(line)
            except ValidationError as error:
                raise DataError(f"{self._lines}:{number}", "is not a review", "remove the line") from error
            found.pop(review.case, None)
            found[review.case] = review
        return list(found.values())

    def _stored(self, photo: Image) -> str:
        """The name under which a photo is stored: the hash of its pixels."""
        self._photos.mkdir(parents=True, exist_ok=True)
        pixels = photo.convert("RGB")
        name = hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()[:32] + ".png"
        if not (self._photos / name).exists():
            with whole_file(self._photos / name) as part:
                pixels.save(part, format="PNG")
        return name
