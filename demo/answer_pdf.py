"""An answer as a PDF for the record: what was asked, the answer with its probabilities, and its derived results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from io import BytesIO
from pathlib import Path
from unicodedata import bidirectional

import matplotlib
from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace, TTFFont
from PIL.Image import Image

from vlm_ft.answers.derivations.result import View
from vlm_ft.answers.kinds import FieldSpec, Items, Text
from vlm_ft.answers.prediction import FieldValue, option_name
from vlm_ft.answers.verdict import verdict_of

from .answer_view import NUMBER, visible
from .answered import Answered
from .derived_view import views
from .photo_view import Mark, marks, shorten, undrawn
from .wording import (
    ASK,
    in_words,
    option_in_words,
    percent,
    probability_in_words,
    referral,
    title,
    verdict_in_words,
)

FONT = "DejaVu"
SIZE, SMALL, LARGE = 10, 8.5, 16  # points
LINE = 5  # mm
PHOTO_HEIGHT = 95  # mm, at most
JPEG_QUALITY = 85
MAX_ALTERNATIVES = 3
COLUMNS = ("Field", "Answer", "Probability", "Less likely", "Decision")
MAX_ROW = 2000  # characters in all cells, if they are equally long: a row must fit on a page
UNKNOWN = "\ufffd"
RIGHT_TO_LEFT = ("R", "AL")
PAGES = "\uffff" * 3
"""A placeholder for the number of pages (up to three digits); the font lacks it, so no text from `_plain` has it."""
QUIET = FontFace(color=90)
HEADINGS = FontFace(emphasis="BOLD", fill_color=235)


def answer_pdf(answered: Answered, photos: Sequence[Image]) -> bytes:
    """The PDF of an answer; `photos` have its boxes drawn on them."""
    sheet = _Sheet(answered)
    form, prediction = answered.card.form, answered.prediction
    sheet.rows([(title(name), fact) for name, fact in answered.facts.items()])
    if answered.photos:
        sheet.paragraph(f"Photos: {', '.join(Path(photo).name for photo in answered.photos)}")
    sheet.paragraph(answered.card.notice)
    if (verdict := verdict_of(form, prediction)) is not None:
        sheet.heading(verdict_in_words(verdict))
    if prediction.error is not None:
        sheet.heading("No answer")
        sheet.paragraph(prediction.error)
    elif prediction.decision != "answer":
        sheet.heading(referral(prediction))
    if answered.text:
        sheet.heading("Text")
        sheet.paragraph(answered.text)
    for photo in photos:
        sheet.photo(photo)
    placed = marks(form, prediction, len(photos))
    given = [(visible(field, len(photos)), prediction.fields.get(field.name)) for field in form.fields]
    answers = [(field, entry) for field, entry in given if entry is not None]
    sheet.heading("Answer" if answers else "")
    asked = prediction.decision == "ask a person"  # otherwise, the bound on the whole answer holds for its fields
    closed = [each for each in answers if not isinstance(each[0].kind, Items | Text)]
    decisions = [[entry.decision or ""] if asked else [] for _, entry in closed]
    rows = [[*_closed(*each), *own] for each, own in zip(closed, decisions, strict=True)]
    sheet.rows(rows, COLUMNS if asked else COLUMNS[:-1])
    for field, entry in answers:
        if asked and entry.reason and entry.reason != prediction.reason:
            sheet.paragraph(f"{title(field.name)}: {entry.reason}", quiet=True)
    for field, entry in answers:
        if isinstance(field.kind, Items):
            _items(sheet, field, field.kind, entry, placed)
        if isinstance(field.kind, Text):
            sheet.heading(title(field.name))
            sheet.paragraph(entry.value)
    sheet.paragraph(undrawn(form, prediction, len(photos)), quiet=True)
    for view in views(form, prediction):
        _derived(sheet, view)
    return sheet.finished()


def _closed(field: FieldSpec, entry: FieldValue) -> list[str]:
    """The row of a field: its name, its value, the value's probability, the likeliest other options."""
    others = [pair for pair in (entry.distribution or {}).items() if pair[0] != option_name(entry.value)]
    likeliest = sorted(others, key=lambda pair: -pair[1])[:MAX_ALTERNATIVES]
    alternatives = "; ".join(f"{option_in_words(name)} {percent(share)}" for name, share in likeliest)
    return [
        title(field.name),
        in_words(field.kind, entry.value),
        probability_in_words(entry),
        alternatives,
    ]


def _items(sheet: _Sheet, field: FieldSpec, kind: Items, entry: FieldValue, placed: Sequence[Mark]) -> None:
    share = probability_in_words(entry) and f", {probability_in_words(entry)} sure of their number"
    sheet.heading(f"{title(field.name)}: {len(entry.value)}{share}")
    numbers = {mark.index: str(mark.number) for mark in placed if mark.field == field.name}
    rows = [
        [numbers.get(index, ""), *(in_words(part.kind, item.get(part.name)) for part in kind.fields)]
        for index, item in enumerate(entry.value)
    ]
    sheet.rows(rows, [NUMBER, *(title(part.name) for part in kind.fields)])


def _derived(sheet: _Sheet, view: View) -> None:
    sheet.heading(view.title)
    sheet.paragraph(view.headline, bold=True)
    sheet.paragraph(" ".join(filter(None, (view.remark, view.source))), quiet=True)
    sheet.paragraph(f"{ASK}: {view.warning}" if view.warning else "")
    sheet.rows(view.rows, view.head)
    if view.entries:
        sheet.paragraph(f"{view.rest}: {'; '.join(view.entries)}")


class _Sheet:
    """A PDF that is written from top to bottom; an empty text leaves no gap.

    DejaVu, which comes with matplotlib, covers European scripts. A character that it lacks, or that is written from
    right to left, becomes the replacement character, and the last line says so.
    """

    def __init__(self, answered: Answered) -> None:
        self._pdf = pdf = _Pages(answered.case)
        fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
        pdf.add_font(FONT, "", fonts / "DejaVuSans.ttf")
        pdf.add_font(FONT, "B", fonts / "DejaVuSans-Bold.ttf")
        known = set.intersection(*(set(font.cmap) for font in pdf.fonts.values() if isinstance(font, TTFFont)))
        self._known = {code for code in known if bidirectional(chr(code)) not in RIGHT_TO_LEFT} | {ord("\n")}
        self._lost = False
        heading = self._plain(answered.card.form.title)
        pdf.set_title(heading)
        pdf.set_creation_date(datetime.fromisoformat(answered.time))
        pdf.set_font(FONT, "B", LARGE)
        pdf.add_page()
        self._write(heading, LARGE / 2)

    def heading(self, text: str) -> None:
        """A heading, on the same page as the start of what follows."""
        if not text:
            return
        if self._pdf.will_page_break(4 * LINE):
            self._pdf.add_page()
        self._pdf.ln(2)
        self._pdf.set_font(FONT, "B", SIZE)
        self._write(self._plain(text), LINE)

    def paragraph(self, text: str, *, bold: bool = False, quiet: bool = False) -> None:
        """Text over the whole width."""
        if not text.strip():
            return
        self._pdf.set_font(FONT, "B" if bold else "", SMALL if quiet else SIZE)
        with self._pdf.use_font_face(QUIET if quiet else FontFace()):
            self._write(self._plain(text), LINE)

    def rows(self, rows: Iterable[Sequence[str]], head: Sequence[str] = ()) -> None:
        """A table; without a head, the first of two columns holds the names of facts."""
        rows = list(rows)
        if not rows:
            return
        self._pdf.set_font(FONT, "", SMALL)
        with self._pdf.table(
            col_widths=None if head else (1, 4),
            first_row_as_headings=bool(head),
            headings_style=HEADINGS,
            borders_layout="HORIZONTAL_LINES",
            line_height=LINE,
            text_align="LEFT",
        ) as grid:
            for row in [head, *rows] if head else rows:
                grid.row([self._plain(shorten(cell, MAX_ROW // len(row))) for cell in row])
        self._pdf.ln(1)

    def photo(self, photo: Image) -> None:
        """A photo, as large as the page's width and `PHOTO_HEIGHT` allow."""
        content = BytesIO()
        photo.save(content, "JPEG", quality=JPEG_QUALITY)
        height = min(PHOTO_HEIGHT, self._pdf.epw * photo.height / photo.width)
        if self._pdf.will_page_break(height):
            self._pdf.add_page()
        self._pdf.ln(2)
        self._pdf.image(content, h=height)

    def finished(self) -> bytes:
        """The file."""
        if self._lost:
            remark = f"{UNKNOWN} stands for a character that the font lacks or that is written from right to left"
            self.paragraph(f"{remark}; see the JSON file.", quiet=True)
        return bytes(self._pdf.output())

    def _write(self, text: str, line: float) -> None:
        self._pdf.multi_cell(0, line, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def _plain(self, text: str) -> str:
        """The text in characters that the font has."""
        shown = "".join(sign if ord(sign) in self._known else UNKNOWN for sign in text.replace("\t", " "))
        self._lost |= UNKNOWN in shown
        return shown


class _Pages(FPDF):
    """Pages with the case number and the page's own number at the foot."""

    def __init__(self, case: str) -> None:
        super().__init__()
        self._case = case
        self.alias_nb_pages(PAGES)

    def footer(self) -> None:
        self.set_y(-12)
        self.set_font(FONT, "", SMALL)
        self.cell(0, LINE, f"{self._case}  ·  {self.page_no()} / {PAGES}", align="R")
