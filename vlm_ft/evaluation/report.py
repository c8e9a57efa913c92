"""An evaluation as files: JSON to keep, Markdown to paste, and one self-contained page to read."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from datasets_vision.placing import whole_file
from vlm_ft.answers.derivations import Derivation
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import Figure
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag
from vlm_ft.answers.metrics import LOWER_IS_BETTER, Metric, field_score
from vlm_ft.answers.prediction import value_in_words
from vlm_ft.evaluation.derived import in_words
from vlm_ft.evaluation.evaluate import ADAPTER, CaseRow, Evaluation
from vlm_ft.evaluation.pictures import Picture, pictures_of
from vlm_ft.evaluation.reliability import Coverage, Unaided
from vlm_ft.evaluation.rivals import RIVALS
from vlm_ft.inference.request import BASE
from vlm_ft.pages import markdown_table, rendered

BEST, WORST, WRONG = 3, 6, 6
NO_ANSWER = "(no answer)"
MIN_TOP = 0.1  # the risk axis reaches at least this far
EXPLAINED = {
    BASE: "the same model without the adapter, asked the same questions",
    ADAPTER: "the model with the adapter",
    **{name: rival.explanation for name, rival in RIVALS.items()},
}


def write(evaluation: Evaluation, folder: Path) -> None:
    """Write `evaluation.md`, `evaluation.html` and, at the end, `evaluation.json`; the folder is created if missing.

    `read_evaluation` reads the last; the other two are made from it and the images.
    """
    for suffix, text in (
        ("md", markdown(evaluation)),
        ("html", html(evaluation)),
        ("json", json.dumps(evaluation.model_dump(), indent=1, ensure_ascii=False) + "\n"),
    ):
        with whole_file(folder / f"evaluation.{suffix}") as part:
            part.write_text(text, encoding="utf-8", errors="replace")  # a model can write half of a surrogate pair


def markdown(evaluation: Evaluation) -> str:
    """The figures as a table: the best of a row in bold, with an asterisk if its interval overlaps no other."""
    rows = [
        [_inline(line.field), line.name, str(line.count), *map(_marked, line.cells)] for line in figures(evaluation)
    ]
    lines = [
        f"# {_inline(evaluation.form.title)}: {_inline(evaluation.adapter)}",
        "",
        f"{evaluation.counts['test']} test examples; base {_inline(evaluation.base)}.",
        *([_inline(evaluation.notice)] if evaluation.notice else []),
        "",
        markdown_table(["field", "metric", "n", *evaluation.systems], rows, ("n", *evaluation.systems)),
        *(f"\n{_inline(note)}" for note in evaluation.notes),
        "",
        "In brackets: 95 % interval. Bold: best of its row; with *: its interval overlaps no other.",
        *_sureness_lines(evaluation),
    ]
    return "\n".join(lines) + "\n"


def _sureness_lines(evaluation: Evaluation) -> Iterator[str]:
    """Calibration and coverage as Markdown."""
    found = evaluation.sureness
    if not found.reliability and not found.alarms:
        return
    yield from ("", "## How sure it is", "")
    if evaluation.confidence is not None:
        yield from (f"The bound: {evaluation.confidence.bound.in_words}.", "")
        if len(evaluation.confidence.bounds) > 1:
            for name, bound in evaluation.confidence.bounds.items():
                yield f"- {_inline(name)} on its own: {bound.in_words}."
            yield ""
    numbers = ("n", "ECE", "95 % limit if exact", "Brier", "log loss")
    rows = []
    for entry in found.reliability:
        cells = [_ranged(entry.ece), f"{entry.band:.3f}", _ranged(entry.brier), _ranged(entry.log_loss)]
        rows.append([_inline(entry.field), entry.system, str(entry.count), *cells])
    yield from (markdown_table(["field", "system", *numbers], rows, numbers), "")
    if found.unaided is not None:
        yield f"- {without_a_person(found.unaided)}."
    if len(found.unaided_fields) > 1:
        yield from (
            f"- {_inline(name)} on its own: {without_a_person(it)}." for name, it in found.unaided_fields.items()
        )
    for curve in found.coverage:
        yield f"- {curve.by}: {_in_percent(curve.at_risk)} of these examples could be answered with at most 5 % wrong."
    for point in found.operating:
        yield (
            f"- {_inline(point.field)}: with {point.false_rejects:.1%} false rejects, {_in_percent(point.escapes)} of "
            f"those that are {point.positive} escape; area under the ROC curve {point.area:.3f}."
        )

    for alarm in found.alarms:
        flagged = f"{_in_percent(alarm.flagged)} of {alarm.count} flagged as unlike the training data"
        yield f"- {_inline(alarm.of)}: {flagged}."


def without_a_person(unaided: Unaided) -> str:
    """How many examples are answered without a person, and how many of these answers are wrong."""
    wrong = f", of which {_in_percent(unaided.wrong)} are wrong" if unaided.wrong is not None else ""
    return f"{_in_percent(unaided.answered)} of these examples are answered without a person{wrong}"


def _in_percent(figure: Figure) -> str:
    return f"{100 * figure.value:.1f} % [{100 * figure.low:.1f}–{100 * figure.high:.1f}]"


def _ranged(figure: Figure) -> str:
    return f"{figure.value:.3f} [{figure.low:.3f}–{figure.high:.3f}]"


def html(evaluation: Evaluation) -> str:
    """One self-contained page; images are inlined, and all text is escaped.

    An image that cannot be read is replaced by the reason.
    """
    shown = [
        (title, gloss, [_shown(evaluation.form, row) for row in rows])
        for title, gloss, rows in galleries(evaluation)
        if rows
    ]
    pictures = [picture for _, _, cases in shown for _, found, _ in cases for picture in found]
    answers = [row.answers[ADAPTER].prediction for row in evaluation.cases]
    curves, top = _curves(evaluation.sureness.coverage)
    return rendered(
        "vlm_ft.evaluation",
        "report.html.j2",
        evaluation=evaluation,
        figures=figures(evaluation),
        tables=[class_table(field, evaluation.cases) for field in labelled(evaluation)],
        galleries=shown,
        boxed=any(picture.true or picture.answered for picture in pictures),
        failed=sum(answer.error is not None for answer in answers),
        asked=sum(answer.error is None and answer.decision != "answer" for answer in answers),
        explained=EXPLAINED,
        curves=curves,
        top=top,
    )


def _curves(coverage: Sequence[Coverage]) -> tuple[list[tuple[str, str]], float]:
    """Risk-coverage curves, each by name as a line in an SVG of 100 by 100, and the share of wrong answers at its top.

    Coverage is to the right, and risk upwards.
    """
    top = max([MIN_TOP, *(max(curve.wrong) for curve in coverage)])
    points = [(curve.by, zip(curve.answered, curve.wrong, strict=True)) for curve in coverage]
    lines = [(by, " ".join(f"{100 * x:.1f},{100 - 100 * y / top:.1f}" for x, y in line)) for by, line in points]
    return lines, top


@dataclass(frozen=True, slots=True)
class Cell:
    """A system's figure as text, "" if it has none. `clear`: it is the best, and its interval overlaps no other."""

    system: str
    text: str
    interval: str
    best: bool
    clear: bool


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One row of the table: one metric of all systems."""

    field: str
    name: str
    count: int
    cells: tuple[Cell, ...]


def figures(evaluation: Evaluation) -> list[FigureRow]:
    """A row for each figure of the adapter, in order; a system without that figure has an empty cell."""
    rows = []
    for own in evaluation.systems[ADAPTER]:
        metrics = evaluation.by_system(own)
        cells = tuple(_cell(system, metrics) for system in evaluation.systems)
        rows.append(FigureRow(own.field or "whole answer", own.name, own.count, cells))
    return rows


def _cell(system: str, metrics: dict[str, Metric]) -> Cell:
    if system not in metrics:
        return Cell(system, "", "", best=False, clear=False)
    own, others = metrics[system], [metric for name, metric in metrics.items() if name != system]
    lower = own.name in LOWER_IS_BETTER
    best = all(own.value <= other.value if lower else own.value >= other.value for other in others)
    clear = all(own.high < other.low if lower else own.low > other.high for other in others)
    return Cell(
        system,
        f"{own.value:.2f}",
        f"{own.low:.2f}–{own.high:.2f}",
        best=best and bool(others),
        clear=clear and bool(others),
    )


@dataclass(frozen=True, slots=True)
class ClassRow:
    """One class of a closed field: its counts in every column, and its precision, recall and F1."""

    name: str
    count: int
    cells: tuple[tuple[int, float], ...]  # the count, and its share of the row
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class ClassTable:
    """The confusion matrix of a field: true classes in rows, answered classes in columns."""

    field: str
    columns: tuple[str, ...]
    rows: tuple[ClassRow, ...]

    @property
    def extra(self) -> tuple[str, ...]:
        """Classes that were answered but never true."""
        true = {row.name for row in self.rows}
        return tuple(name for name in self.columns if name not in true | {NO_ANSWER})


def class_table(field: FieldSpec, cases: Sequence[CaseRow]) -> ClassTable:
    """Classes in the order of the form, then any others that were answered; failed answers are under "(no answer)"."""
    from sklearn.metrics import precision_recall_fscore_support

    stated = [row for row in cases if field.name in row.truth]
    true = [value_in_words(row.truth[field.name]) for row in stated]
    given = [_answer_text(row, field.name) for row in stated]
    known = [value_in_words(name) for name in (field.kind.options if isinstance(field.kind, Choice) else (True, False))]
    used = {*true, *given}
    columns = [name for name in known if name in used] + sorted(used - {*known, NO_ANSWER})
    columns += [NO_ANSWER] if NO_ANSWER in used else []
    pairs = Counter(zip(true, given, strict=True))
    matrix = [[pairs[name, column] for column in columns] for name in columns]
    shares = zip(*precision_recall_fscore_support(true, given, labels=columns, zero_division=0), strict=True)
    rows = (
        ClassRow(name, sum(counts), tuple((count, count / sum(counts)) for count in counts), *map(float, three))
        for name, counts, (*three, _) in zip(columns, matrix, shares, strict=True)
        if any(counts)
    )
    return ClassTable(field.name, tuple(columns), tuple(rows))


def labelled(evaluation: Evaluation) -> list[FieldSpec]:
    """The choices and flags that some test case states."""
    return [
        field
        for field in evaluation.form.fields
        if isinstance(field.kind, Choice | Flag) and any(field.name in row.truth for row in evaluation.cases)
    ]


def galleries(evaluation: Evaluation) -> Iterator[tuple[str, str, list[CaseRow]]]:
    """Title, explanation and cases: the worst, others that are wrong, the best; no case twice."""

    def score(row: CaseRow) -> tuple[float, str]:
        return row.answers[ADAPTER].score, row.id

    ordered = sorted(evaluation.cases, key=score)
    wrong = [row for row in ordered if row.answers[ADAPTER].score < 1]
    worst, rest = wrong[:WORST], wrong[WORST:]
    best = [row for row in reversed(ordered) if row not in worst][:BEST]
    rest = [row for row in rest if row not in best]
    shown = min(WRONG, len(rest))
    spread = [rest[index * len(rest) // shown] for index in range(shown)]
    yield "Worst", "The answers with the lowest scores.", worst
    yield "Also wrong", "A sample of the other answers with a mistake, from worse to better.", spread
    yield "Best", "The answers with the highest scores.", best


@dataclass(frozen=True, slots=True)
class Compared:
    """A field of a case: the true value and the answer, as text; `score` is None if the field is unobserved."""

    field: str
    truth: str
    answer: str
    score: float | None


def _shown(form: Form, row: CaseRow) -> tuple[CaseRow, tuple[Picture, ...], tuple[Compared, ...]]:
    return (
        row,
        pictures_of(row.images, form.fields, row.truth, row.answers[ADAPTER].prediction.values),
        compared(form, row),
    )


def compared(form: Form, row: CaseRow) -> tuple[Compared, ...]:
    """The true values of a case next to the adapter's answers, for each field and each derived result."""
    fields = [_compared(field, row) for field in form.fields]
    return (*fields, *(_compared_derived(entry, row) for entry in form.derivations))


def _compared(field: FieldSpec, row: CaseRow) -> Compared:
    answer = _answer_text(row, field.name)
    if field.name not in row.truth:
        return Compared(field.name, "(not labelled)", answer, None)
    truth, value = row.truth[field.name], row.answers[ADAPTER].prediction.values.get(field.name)
    return Compared(field.name, value_in_words(truth), answer, field_score(field.kind, truth, value))


def _compared_derived(derivation: Derivation, row: CaseRow) -> Compared:
    """The results derived from the truth and from the answer, which is right if both read the same."""
    true, given = in_words(derivation, row.derived), in_words(derivation, row.answers[ADAPTER].prediction.derived)
    return Compared(derivation.kind, true, given, float(true == given) if derivation.kind in row.derived else None)


def _answer_text(row: CaseRow, name: str) -> str:
    value = row.answers[ADAPTER].prediction.values.get(name)
    return NO_ANSWER if value is None else value_in_words(value)


def _marked(cell: Cell) -> str:
    if not cell.text:
        return ""
    value = f"**{cell.text}**" if cell.best else cell.text
    return value + ("\\*" if cell.clear else "") + f" [{cell.interval}]"


def _inline(text: str) -> str:
    """The text on one line of Markdown, with markup and cell separators escaped."""
    plain = " ".join(text.split())
    for sign in "\\`*_[]|":
        plain = plain.replace(sign, "\\" + sign)
    return plain.replace("<", "&lt;")
