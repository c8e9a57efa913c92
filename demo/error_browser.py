"""An adapter's test samples: where it was wrong, and what another threshold of a flag would miss or reject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

from vlm_ft.answers.calibration import distributions_with_truth
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import wilson
from vlm_ft.answers.kinds import Flag
from vlm_ft.answers.prediction import option_name
from vlm_ft.evaluation.evaluate import ADAPTER, CaseRow, Evaluation, read_evaluation
from vlm_ft.evaluation.pictures import pictures_of
from vlm_ft.evaluation.reliability import escapes_and_false_rejects, positive_of
from vlm_ft.evaluation.report import compared, labelled
from vlm_ft.registry import Version

from .markup import framed, section, table
from .wording import option_in_words, percent, probability_in_words, referral, title, words

ANY, EVERY = "Any field", "Every class"
WRONG, ALL, ESCAPES, FALSE_REJECTS = "Wrong answers", "All samples", "Escapes", "False rejects"
PER_PAGE = 8
MAX_TEXT = 600  # characters of a sample's text
NONE_STORED = "This version has no stored test answers: run vlm-ft evaluate before vlm-ft promote."
LEGEND = "Green corners: labelled boxes. Amber boxes: the adapter's."


@dataclass(frozen=True, slots=True)
class Selection:
    """Which samples to show: those with a true class of a field, and which of these."""

    field: str = ANY
    true: str = EVERY
    show: str = WRONG
    threshold: float = 0.5


def evaluation_of(version: Version) -> Evaluation | None:
    """The stored evaluation of a version. Raises `DataError` if it cannot be read."""
    file = version.evaluation
    return _read(file, file.stat().st_mtime_ns) if file.is_file() else None


@lru_cache(maxsize=2)
def _read(file: Path, changed: int) -> Evaluation:
    return read_evaluation(file)


def fields_of(evaluation: Evaluation) -> list[tuple[str, str]]:
    """The fields by which samples can be chosen, as (title, name)."""
    return [(ANY, ANY), *((title(field.name), field.name) for field in labelled(evaluation))]


def classes_of(evaluation: Evaluation, field: str) -> list[tuple[str, str]]:
    """The true classes of a field, as (title, name)."""
    found = sorted({option_name(row.truth[field]) for row in evaluation.cases if field in row.truth})
    return [(EVERY, EVERY), *((option_in_words(name), name) for name in found)]


def is_flag(evaluation: Evaluation, field: str) -> bool:
    """Whether the field is a flag, so that a threshold applies."""
    return field in evaluation.form.names and isinstance(evaluation.form.field(field).kind, Flag)


def threshold_now(form: Form, flag: str) -> float:
    """The probability above which the adapter currently rejects."""
    threshold = form.thresholds.get(flag, 0.5)
    return threshold if positive_of(form, flag) == "true" else 1 - threshold


def samples(evaluation: Evaluation, choice: Selection) -> list[CaseRow]:
    """The chosen samples: of one field, the most probable answers first; of any field, the worst ones first."""
    if choice.field == ANY:
        rows = sorted(evaluation.cases, key=lambda row: row.answers[ADAPTER].score)
        return [row for row in rows if choice.show == ALL or row.answers[ADAPTER].score < 1]
    rows = [row for row in evaluation.cases if choice.field in row.truth]
    rows = [row for row in rows if choice.true in (EVERY, option_name(row.truth[choice.field]))]
    rows = [row for row in rows if _shown(evaluation.form, row, choice)]
    return sorted(rows, key=lambda row: -(_probability(row, choice.field) or 0))


def _shown(form: Form, row: CaseRow, choice: Selection) -> bool:
    answer = row.answers[ADAPTER].prediction
    if choice.show in (ESCAPES, FALSE_REJECTS):
        pairs, _ = distributions_with_truth(choice.field, [row.truth], [answer])
        escaped, rejected = escapes_and_false_rejects(positive_of(form, choice.field), pairs, choice.threshold)
        return bool((escaped if choice.show == ESCAPES else rejected).any())
    return choice.show == ALL or answer.values.get(choice.field) != row.truth[choice.field]


def threshold_view(evaluation: Evaluation, flag: str, threshold: float) -> str:
    """What a threshold on the probability of a flag's bad value would miss and reject, on all test samples."""
    form, answers = evaluation.form, [row.answers[ADAPTER].prediction for row in evaluation.cases]
    pairs, _ = distributions_with_truth(flag, [row.truth for row in evaluation.cases], answers)
    if not pairs:
        return framed('<p class="none">The answers have no probabilities.</p>')
    positive = positive_of(form, flag)
    escaped, rejected = escapes_and_false_rejects(positive, pairs, threshold)
    bad = sum(true == positive for _, true in pairs)
    rows = [
        ["Escapes", *_share(int(escaped.sum()), bad)],
        ["False rejects", *_share(int(rejected.sum()), len(pairs) - bad)],
    ]
    setting = threshold if positive == "true" else 1 - threshold
    use = f"To use this threshold: vlm-ft calibrate RUN --threshold {flag}={setting:.3g}, then promote the run."
    gloss = f"if {title(flag)} = {option_in_words(positive)} from a probability above {percent(threshold)}"
    names = ["", "Samples", "Share", "95 % interval"]
    return framed(section("Misses and false rejects", gloss, table(names, rows) + f"<p>{escape(use)}</p>"))


def _share(count: int, of: int) -> list[str]:
    if not of:
        return ["none of this class", "", ""]
    low, high = wilson(count / of, of)
    return [f"{count} of {of}", f"{100 * count / of:.1f} %", f"{100 * low:.1f} to {100 * high:.1f} %"]


def samples_view(evaluation: Evaluation, rows: Sequence[CaseRow], page: int) -> str:
    """One page of samples: photo, label, answer, and its probability."""
    if not rows:
        return framed('<p class="none">No matching samples.</p>')
    first = page * PER_PAGE
    shown = rows[first : first + PER_PAGE]
    counted = f'<p role="status">{first + 1} to {first + len(shown)} of {len(rows)}. {LEGEND}</p>'
    return framed(counted + "".join(_sample(evaluation.form, row) for row in shown))


def _sample(form: Form, row: CaseRow) -> str:
    answer = row.answers[ADAPTER].prediction
    pictures = "".join(
        f'<p class="none">{escape(picture.problem)}</p>'
        if picture.problem
        else f'<img src="{picture.data}" alt="photo {number}" width="{picture.width}" height="{picture.height}">'
        for number, picture in enumerate(pictures_of(row.images, form.fields, row.truth, answer.values), 1)
    )
    text = f'<p class="text">{escape(row.text[:MAX_TEXT])}</p>' if row.text else ""
    error = f"<p>No answer: {escape(answer.error)}</p>" if answer.error else ""
    cells = [
        [
            escape(title(entry.field)),
            escape(words(entry.truth)),
            escape(words(entry.answer)),
            escape(probability_in_words(answer.fields.get(entry.field))),
            "<strong>wrong</strong>" if entry.score is not None and entry.score < 1 else "",
        ]
        for entry in compared(form, row)
    ]
    answers = table(["Field", "Label", "Answer", "Probability", ""], cells)
    return section(row.id, referral(answer), f'<div class="sample">{pictures}<div>{text}{error}{answers}</div></div>')


def _probability(row: CaseRow, field: str) -> float | None:
    entry = row.answers[ADAPTER].prediction.fields.get(field)
    return entry.probability if entry is not None else None
