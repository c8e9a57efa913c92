"""An answer that the app has given: what was asked, which adapter answered, and under which case number."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from vlm_ft.adapters import Card, version_in_words
from vlm_ft.inference.request import Attributed

from .photo_view import Mark, drawn, marks, shorten

MAX_NAME = 60  # characters


@dataclass(frozen=True, slots=True, eq=False)  # Gradio hashes it to see whether it has changed
class Answered:
    """`case`: its number, as in the decision log. `photos`: paths of uploads. `passage`: where in a PDF it is."""

    case: str
    time: str
    prediction: Attributed
    photos: tuple[str, ...]
    text: str
    passage: str = ""

    @property
    def card(self) -> Card:
        """The card of the adapter that answered."""
        assert self.prediction.card is not None  # the app asks adapters
        return self.prediction.card

    @property
    def version(self) -> str:
        """The adapter's version, as `version_in_words` has it."""
        return version_in_words(self.card.number, self.card.fingerprint)

    @property
    def facts(self) -> dict[str, str]:
        """What identifies the answer, in words."""
        facts = {"case": self.case, "time": self.time, "adapter": self.card.name, "version": self.version}
        return {**facts, "passage": self.passage} if self.passage else facts

    def to_json(self) -> str:
        """The answer as indented JSON, with what identifies it, the names of its photos, and its notice."""
        photos = [Path(photo).name for photo in self.photos]
        notice = {"notice": self.card.notice} if self.card.notice else {}
        facts = {**self.facts, **self.prediction.origin}  # the version as in the service's answers
        return self.prediction.to_json(indent=2, **facts, photos=photos, **notice)

    @property
    def about(self) -> str:
        """What was asked about, in a few words: the photo, the passage, or the start of the text."""
        return shorten(self.passage or ", ".join(Path(photo).name for photo in self.photos) or self.text, MAX_NAME)

    @property
    def marks(self) -> list[Mark]:
        """Its boxes."""
        return marks(self.card.form, self.prediction, len(self.photos))

    def drawn(self, photos: Sequence[Image], numbers: Container[int] | None = None) -> list[Image]:
        """Its photos with their boxes, all of them or those with these numbers."""
        placed = [mark for mark in self.marks if numbers is None or mark.number in numbers]
        return [drawn(photo, [mark for mark in placed if mark.photo == place]) for place, photo in enumerate(photos)]
