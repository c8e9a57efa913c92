"""Out-of-fold answers: of each example, the answer of the adapter whose fold had set the example aside.

A data set too small to spare examples for calibration is calibrated on these. Their reliability is measured without
looking at what is judged: each fold's temperatures and threshold are fitted on the answers of the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from vlm_ft.answers.calibration import LEVEL, RISK, calibrated, judged
from vlm_ft.answers.confidence import Confidence, at_temperatures, with_confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import wilson
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import ADAPTER, Evaluation
from vlm_ft.evaluation.reliability import Coverage, Figure, Reliability, sureness_of
from vlm_ft.evaluation.rivals import PROBE

BEFORE = f"{ADAPTER}, before fitting"


@dataclass(frozen=True)
class Answers:
    """Answers of one system to some examples, at the temperature 1, with what is true of them."""

    truths: Sequence[Values]
    predictions: Sequence[Prediction]
    groups: Sequence[str]

    @classmethod
    def of(cls, evaluation: Evaluation, system: str = ADAPTER) -> Answers:
        """What a system answered in an evaluation."""
        fitted = evaluation.confidence.temperatures if evaluation.confidence and system == ADAPTER else {}
        undone = {name: 1 / temperature for name, temperature in fitted.items()}
        return cls(
            [case.truth for case in evaluation.cases],
            [at_temperatures(case.answers[system].prediction, undone) for case in evaluation.cases],
            [case.group for case in evaluation.cases],
        )

    @classmethod
    def pooled(cls, folds: Sequence[Answers]) -> Answers:
        """The answers of all folds together."""
        return cls(
            [truth for fold in folds for truth in fold.truths],
            [prediction for fold in folds for prediction in fold.predictions],
            [group for fold in folds for group in fold.groups],
        )

    def fit(self, form: Form, *, risk: float = RISK, level: float = LEVEL) -> Confidence:
        """The confidence that fits these answers; see `calibrated`."""
        return calibrated(form, self.truths, self.predictions, self.groups, risk=risk, level=level)


@dataclass(frozen=True)
class Reliable:
    """How reliable the answers of all folds are, each at what was fitted on the other folds.

    `decided`: the answers. `answered`: the share of examples that the threshold lets through; `wrong`: the share of
    wrong ones among these, None if there are none.
    """

    reliability: tuple[Reliability, ...]
    coverage: tuple[Coverage, ...]
    decided: tuple[Prediction, ...]
    answered: Figure
    wrong: Figure | None


def read_folds(folder: Path, form: Form) -> list[Answers]:
    """The answers of every run below the folder of a cross-validation.

    Raises `DataError` if there are fewer than two, or they fill another form.
    """
    folds = []
    for file in sorted(folder.glob("*/evaluation/evaluation.json")):
        try:
            evaluation = Evaluation.model_validate_json(file.read_bytes())
        except ValidationError as error:
            raise DataError(file, "cannot be read as an evaluation", "run the cross-validation again") from error
        if evaluation.form.fingerprint != form.fingerprint:
            raise DataError(file, "answers another form than the adapter", "cross-validate the adapter's own recipe")
        folds.append(Answers.of(evaluation))
    if len(folds) < 2:
        raise DataError(folder, "holds no folds of a cross-validation", "give the --out of vlm-ft crossval")
    return folds


def cross_fitted(form: Form, folds: Sequence[Answers]) -> list[Prediction]:
    """The answers of all folds, each at the temperatures and the threshold fitted on the other folds."""
    decided = []
    for place, fold in enumerate(folds):
        confidence = Answers.pooled([*folds[:place], *folds[place + 1 :]]).fit(form)
        decided += [with_confidence(form, answer, confidence) for answer in fold.predictions]
    return decided


def reliable(evaluations: Sequence[Evaluation]) -> Reliable | None:
    """The reliability of the folds' answers; None if they fill different forms."""
    form = evaluations[0].form
    if any(evaluation.form.fingerprint != form.fingerprint for evaluation in evaluations):
        return None
    folds = [Answers.of(evaluation) for evaluation in evaluations]
    decided = cross_fitted(form, folds)
    pooled = Answers.pooled(folds)
    systems = {BEFORE: pooled.predictions, ADAPTER: decided}
    if all(PROBE in evaluation.systems for evaluation in evaluations):
        systems[PROBE] = Answers.pooled([Answers.of(each, PROBE) for each in evaluations]).predictions
    found = sureness_of(form, pooled.truths, pooled.groups, systems, None, ADAPTER)
    _, right = judged(form, pooled.truths, decided)
    let_through = np.array([answer.decision == "answer" for answer in decided])
    return Reliable(
        found.reliability,
        found.coverage,
        tuple(decided),
        answered=_share(let_through),
        wrong=_share(~right[let_through]) if let_through.any() else None,
    )


def _share(flags: NDArray[np.bool_]) -> Figure:
    share = float(flags.mean())
    return Figure.of(share, wilson(share, len(flags)))
