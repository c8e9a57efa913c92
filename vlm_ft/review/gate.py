"""The gate: an adapter may replace the current one unless it is worse on some slice of a test set new to both.

Slices are the whole set, each field, and each class of the set that has enough groups of examples. The score of an
answer or of its field is `case_score`. On the whole set, the mean score may not be lower by more than a margin; a
smaller slice counts as worse only if its difference is also more than chance, or nearly every adapter would be refused.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.markup import escape
from rich.table import Table

from vlm_ft.adapters import Card, read_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import Figure, clusters_of
from vlm_ft.answers.kinds import Strict
from vlm_ft.answers.metrics import case_score
from vlm_ft.answers.prediction import Prediction
from vlm_ft.data.cases import Case, stratum_of
from vlm_ft.data.splits import SPLITS, roles_in
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.evaluation.evaluate import predict_in_chunks
from vlm_ft.evaluation.run import open_run
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.registry import Version
from vlm_ft.runs import Run

MARGIN = 0.02
"""How much lower the mean score on a slice may be."""

MIN_GROUPS = 10
"""A slice with fewer groups of examples is not compared."""

WHOLE = "all"


class Slice(Strict):
    """The mean scores of both adapters on some of the test examples, with the 95 % interval of their difference."""

    name: str
    count: int
    current: float
    candidate: float
    low: float
    high: float

    @property
    def difference(self) -> float:
        """The candidate's mean score minus the current adapter's."""
        return self.candidate - self.current


class Comparison(Strict):
    """The slices of a comparison, and the margin by which a slice may be worse."""

    slices: tuple[Slice, ...]
    margin: float

    @property
    def worse(self) -> tuple[Slice, ...]:
        """The slices that are worse by more than the margin and, except on the whole set, by more than chance."""
        return tuple(
            found
            for found in self.slices
            if found.difference < -self.margin and (found.name == WHOLE or found.high < 0)
        )

    @property
    def passed(self) -> bool:
        """Whether the candidate may replace the current adapter."""
        return not self.worse

    @property
    def reason(self) -> str:
        """The result on the whole set, in one line."""
        whole = self.slices[0]
        return f"{whole.candidate:.3f} against {whole.current:.3f} on {whole.count} test examples"


def compare(current: Version, candidate: Path, *, margin: float = MARGIN, batch_size: int = 16) -> Comparison:
    """Compare a run's adapter with the current version of an adapter, on the run's test examples.

    Raises `AdapterError` if the candidate lacks a field of the current version, and `DataError` if there are no test
    examples, or if the current version was trained on some of them.
    """
    run = Run(candidate)
    card, dataset = open_run(run)
    _require_fields(current, card)
    cases = [case for case in dataset.cases["test"] if case.values]
    if not cases:
        raise DataError(candidate, "has no test examples", "give the test role a share")
    _require_unknown(current, cases)
    before, after = (_answers(folder, cases, batch_size) for folder in (current.folder, run.adapter))
    return compared(current.card.form, cases, before, after, margin)


def compared(
    form: Form, cases: Sequence[Case], before: Sequence[Prediction], after: Sequence[Prediction], margin: float = MARGIN
) -> Comparison:
    """Compare the answers of two adapters to the same cases."""
    groups = clusters_of([case.group for case in cases])
    answered = list(zip(cases, before, after, strict=True))

    def slice_of(name: str, places: Sequence[int], asked: Form = form) -> Slice:
        return _slice(name, asked, [answered[place] for place in places], groups[places])

    members = {WHOLE: list(range(len(cases)))} | _classes(form, cases)
    slices = [slice_of(name, places) for name, places in members.items() if name == WHOLE or _enough(groups[places])]
    for name in form.names if len(form.names) > 1 else ():
        places = [place for place, case in enumerate(cases) if name in case.values]
        if _enough(groups[places]):
            slices.append(slice_of(f"field {name}", places, form.narrow([name])))
    return Comparison(slices=tuple(slices), margin=margin)


def table(comparison: Comparison) -> Table:
    """The slices as a terminal table."""
    rows = Table("slice", "n", "current", "new", "difference", "95 % interval")
    for found in comparison.slices:
        mark = " worse" if found in comparison.worse else ""
        rows.add_row(
            escape(found.name),
            str(found.count),
            f"{found.current:.3f}",
            f"{found.candidate:.3f}",
            f"{found.difference:+.3f}{mark}",
            f"{found.low:+.3f} to {found.high:+.3f}",
        )
    return rows


def _classes(form: Form, cases: Sequence[Case]) -> dict[str, list[int]]:
    """The places of the cases of each class."""
    found = defaultdict[str, list[int]](list)
    for place, case in enumerate(cases):
        found[stratum_of(case.values, form)].append(place)
    return {f"class {name}": places for name, places in sorted(found.items()) if name}


def _enough(groups: NDArray[np.int64]) -> bool:
    return len(np.unique(groups)) >= MIN_GROUPS


def _slice(
    name: str, form: Form, answered: Sequence[tuple[Case, Prediction, Prediction]], groups: NDArray[np.int64]
) -> Slice:
    """`answered`: cases, each with the answers of the current adapter and of the candidate."""
    scores = np.array([[case_score(form, case.values, answer) for answer in both] for case, *both in answered])
    gain = Figure.mean(scores[:, 1] - scores[:, 0], groups)
    current, candidate = scores.mean(axis=0)
    return Slice(name=name, count=len(scores), current=current, candidate=candidate, low=gain.low, high=gain.high)


def _require_fields(current: Version, candidate: Card) -> None:
    missing = [name for name in current.card.form.names if name not in candidate.form.names]
    if missing:
        problem = f"does not answer {', '.join(missing)}, which version {current.number} of {current.name} does"
        raise AdapterError(f"adapter {candidate.name}", problem, "add the fields to its recipe")


def _require_unknown(current: Version, cases: Sequence[Case]) -> None:
    """Raise `DataError` if the current version was trained on some of these cases."""
    file = current.folder / SPLITS
    learned = {group for group, role in roles_in(file) if role != "test"} if file.is_file() else set[str]()
    known = sum(case.group in learned for case in cases)
    if known:
        raise DataError(
            f"adapter {current.name}",
            f"version {current.number} was trained on {known} of the {len(cases)} test examples",
            f"set splits.like: {current.folder} in the recipe of the new adapter, and train it again",
        )


def _answers(folder: Path, cases: Sequence[Case], batch_size: int) -> list[Prediction]:
    engine = Engine.open([folder], batch_size=batch_size)
    name = read_card(folder).name
    requests = [Request(case.example.images, case.example.turns, name) for case in cases]
    return predict_in_chunks(engine, requests, batch_size)
