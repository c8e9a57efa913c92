"""`Reviews`: people's verdicts on answers, in a folder that training reads (format `reviews`)."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import threading
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from PIL.Image import Image
from pydantic import ValidationError

from datasets_vision.formats.reviews import LINES, PHOTOS
from datasets_vision.placing import end_line, whole_file
from vlm_ft.adapters import Card, version_in_words
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.task import Values
from vlm_ft.data.tiles import with_more_items
from vlm_ft.errors import FormError

Verdict = Literal["accepted", "corrected", "rejected"]


log = logging.getLogger(__name__)


class Review(Strict):
    """One verdict. `photos` are files in the store's folder `photos`; `correct` is None unless fields were corrected.

    `case` identifies the photos and the text. `version` and `card` are the number in the registry, if any, and the
    fingerprint of the version that answered, as in the decision log; reviews of vlm-ft 0.2 have neither. `form` is the
    fingerprint of its form.
    """

    case: str
    time: str
    reviewer: str | None
    adapter: str
    version: int | None = None
    card: str | None = None
    task: str
    form: str
    photos: tuple[str, ...]
    text: str
    answer: dict[str, Any]
    verdict: Verdict
    correct: dict[str, Any] | None = None

    @property
    def answered_by(self) -> str:
        """The adapter's version that gave the answer."""
        return version_in_words(self.version, self.card) if self.card else "unknown"


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
        """Store a verdict on an adapter's answer; `card` is the card of the version that gave it.

        Photos are stored as PNG, without metadata. A correction equal to the answer is stored as accepted. Raises
        `FormError` for an answer or a correction that does not fit the adapter's form, and `OSError` if the folder
        cannot be written.
        """
        form = with_more_items(card.form) if card.tiling is not None else card.form
        answer = form.check(answer)
        if verdict == "corrected":
            if correct is None:
                raise FormError("", "no corrected fields", "correct at least one, or accept the answer")
            correct = form.check(correct)
            if correct == answer:
                verdict, correct = "accepted", None
        with self._lock:
            names = tuple(self._stored(photo) for photo in photos)
        review = Review(
            case=hashlib.sha256(json.dumps([names, text, card.form.task]).encode()).hexdigest()[:24],
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            reviewer=reviewer,
            adapter=card.name,
            version=card.number,
            card=card.fingerprint,
            task=card.form.task,
            form=card.form.fingerprint,
            photos=names,
            text=text,
            answer=answer,
            verdict=verdict,
            correct=correct if verdict == "corrected" else None,
        )
        self._append(json.dumps(review.model_dump(mode="json")))
        return review

    def last(self) -> list[Review]:
        """The last verdict on each adapter's answer to each case, oldest first; the log names lines that are broken."""
        found: dict[tuple[str, str], Review] = {}
        if not self._lines.exists():
            return []
        for number, line in enumerate(self._lines.read_text(encoding="utf-8").split("\n"), 1):
            if not line:
                continue
            try:
                review = Review.model_validate_json(line)
            except ValidationError:
                log.warning("%s:%d: is not a review; remove the line", self._lines, number)
                continue
            found.pop((review.adapter, review.case), None)
            found[review.adapter, review.case] = review
        return list(found.values())

    def of(self, adapter: str, task: str) -> list[Review]:
        """The last verdicts on the answers of one adapter, from which its next version is trained; oldest first."""
        return [review for review in self.last() if (review.adapter, review.task) == (adapter, task)]

    def copy(self, reviews: Sequence[Review], folder: Path) -> None:
        """Write these reviews, with their photos, into another store, replacing those that it contains."""
        for name in {name for review in reviews for name in review.photos}:
            with whole_file(folder / PHOTOS / name) as part:
                shutil.copyfile(self._photos / name, part)
        with whole_file(folder / LINES) as part:
            lines = [json.dumps(review.model_dump(mode="json")) + "\n" for review in reviews]
            part.write_text("".join(lines), encoding="utf-8")

    def _append(self, line: str) -> None:
        """Append a line, after ending one that was left incomplete."""
        with self._lock:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._lines.open("a+b") as file:
                end_line(file)
                file.write(line.encode() + b"\n")

    def _stored(self, photo: Image) -> str:
        """Store a photo, and return its name."""
        self._photos.mkdir(parents=True, exist_ok=True)
        pixels, name = photo.convert("RGB"), photo_name(photo)
        if not (self._photos / name).exists():
            with whole_file(self._photos / name) as part:
                pixels.save(part, format="PNG")
        return name


def photo_name(photo: Image) -> str:
    """The name under which a photo is stored: the hash of its pixels."""
    pixels = photo.convert("RGB")
    return hashlib.sha256(f"{pixels.size}".encode() + pixels.tobytes()).hexdigest()[:32] + ".png"
