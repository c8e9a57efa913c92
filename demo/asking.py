"""Ask an adapter about photos, a text or the passages of a PDF; user errors become messages."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.errors import DataError, UserError
from vlm_ft.inference import photo_decoder
from vlm_ft.inference.request import Predictor, Request, new_case

from .answer_view import message_view
from .answered import Answered
from .photos import opened, reads_photos, reads_text, reads_texts_alone, require_kept

MAX_TEXT = 20_000  # characters
MAX_PASSAGES = 40  # of a PDF
MAX_NAMED = 8  # pages without text
BROKEN = "Something went wrong on the server; details are in its log. Try again, or contact the operator."

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Question:
    """What one answer is about: the photos of one case, a text, or both. `passage`: where in a PDF the text is."""

    photos: tuple[str, ...] = ()
    text: str = ""
    passage: str = ""


@dataclass(frozen=True, slots=True)
class Given:
    """What a user has given: photos and a PDF (paths of uploads), a text. `apart`: each photo gets its own answer."""

    photos: Sequence[str] = ()
    text: str = ""
    apart: bool = False
    pdf: str | None = None

    def questions(self, card: Card) -> tuple[list[Question], str]:
        """What the adapter can read of it, as questions, and a remark on what is left out.

        Raises `DataError` if there is nothing, or too much.
        """
        photos = tuple(self.photos) if reads_photos(card) else ()
        text = self.text.strip() if reads_text(card) else ""
        pdf = self.pdf if reads_texts_alone(card) else None
        if not photos and not text and not pdf:
            inputs = " or ".join(["a photo"] * reads_photos(card) + ["a text"] * reads_text(card))
            raise DataError("", f"Give {inputs} first, then press Assess.")
        if len(text) > MAX_TEXT:  # Gradio leaves the limit to the browser
            raise DataError("", f"the text is longer than {MAX_TEXT} characters", "shorten it")
        if pdf:
            return _of_pdf(pdf, text)
        if self.apart and len(photos) > 1:
            return [Question((photo,), text) for photo in photos], ""
        return [Question(photos, text)], ""


def _of_pdf(pdf: str, text: str) -> tuple[list[Question], str]:
    """A question about each passage, after the text if there is one, and a remark on what is left out."""
    require_kept([pdf])
    passages, without_text = photo_decoder.shared().passages(Path(pdf))
    if not passages:
        raise DataError(pdf, "contains headings only", "give a PDF with text")
    asked = passages[:MAX_PASSAGES]
    remarks = [f"Only the first {len(asked)} of {len(passages)} passages are answered."] * (len(asked) < len(passages))
    if without_text:
        pages = ", ".join(map(str, without_text[:MAX_NAMED])) + " …" * (len(without_text) > MAX_NAMED)
        remarks.append(f"No text was found on page {pages}: a scan or a figure.")
    questions = [
        Question(
            text="\n\n".join(filter(None, [text, passage.text])),
            passage=", ".join(filter(None, [passage.pages, passage.heading])),
        )
        for passage in asked
    ]
    return questions, " ".join(remarks)


@dataclass(frozen=True, slots=True)
class Asked:
    """The answers, the decoded photos of the first one, and a remark; or an HTML message that says why not."""

    answers: tuple[Answered, ...] = ()
    photos: tuple[Image, ...] = ()
    message: str = ""
    remark: str = ""


def ask(predictor: Predictor, adapter: str, given: Given, by: str | None = None) -> Asked:
    """Ask about what was given. `by`: who asks."""
    card = predictor.cards.get(adapter)
    if card is None:
        return Asked(message=message_view(f"adapter {adapter!r} is no longer loaded; reload this page"))
    try:
        questions, remark = given.questions(card)
        photos = [opened(card, question.photos) for question in questions]
        cases = [new_case() for _ in questions]
        requests = [
            Request(seen, _turns(question), adapter, by=by, case=number)
            for question, seen, (number, _) in zip(questions, photos, cases, strict=True)
        ]
        answers = predictor.predict(requests)
    except UserError as error:
        return Asked(message=message_view(error.public(), card.notice))
    except Exception:  # the page stays usable; the log has the details
        log.exception("assessing with adapter %r failed", adapter)
        return Asked(message=message_view(BROKEN, card.notice))
    answered = (
        Answered(*case, answer, question.photos, question.text, question.passage)
        for case, answer, question in zip(cases, answers, questions, strict=True)
    )
    return Asked(tuple(answered), photos[0], remark=remark)


def _turns(question: Question) -> tuple[Turn, ...]:
    return (Turn("user", question.text),) if question.text else ()
