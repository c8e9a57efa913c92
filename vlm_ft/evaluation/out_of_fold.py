"""Out-of-fold answers: each example is answered by the adapter that was not trained on it.

An adapter can be calibrated on these if the data set is too small to spare examples for calibration. To measure their
reliability fairly, each fold's temperatures and threshold are fitted on the answers of the other folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from vlm_ft.answers.calibration import LEVEL, RISK, calibrated
from vlm_ft.answers.confidence import Confidence, at_temperatures, closed_fields, with_confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import Values
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import ADAPTER, Evaluation, read_evaluation
from vlm_ft.evaluation.reliability import Sureness, sureness_of
from vlm_ft.evaluation.rivals import PROBE
from vlm_ft.recipe import Recipe, Splits
from vlm_ft.runs import Run

BEFORE = f"{ADAPTER}, before fitting"


@dataclass(frozen=True)
class Answers:
    """Answers of one system to some examples, at temperature 1, with the true values."""

    truths: Sequence[Values]
    predictions: Sequence[Prediction]
    groups: Sequence[str]

    @classmethod
    def of(cls, evaluation: Evaluation, system: str = ADAPTER) -> Answers:
        """A system's answers in an evaluation, before its own calibration."""
        fitted = evaluation.confidence.temperatures if evaluation.confidence and system == ADAPTER else {}
        undone = {name: 1 / temperature for name, temperature in fitted.items()}
        answers = [at_temperatures(case.answers[system].prediction, undone) for case in evaluation.cases]
        return cls(
            [case.truth for case in evaluation.cases],
            [_undecided(answer) for answer in answers],
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


def read_folds(folder: Path, recipe: Recipe, form: Form) -> list[Answers]:
    """The answers of every fold of a cross-validation of this recipe; runs of its variants are skipped.

    Raises `DataError` if a fold is missing, or answered another form or with other thresholds than `form`.
    """
    folds: dict[int, Answers] = {}
    count = 0
    for file in sorted(folder.glob("*/evaluation/evaluation.json")):
        trained = Run(file.parents[1]).recipe
        if trained.splits.folds is None or _without_splits(trained) != _without_splits(recipe):
            continue
        evaluation = read_evaluation(file)
        if (evaluation.form.fingerprint, evaluation.form.thresholds) != (form.fingerprint, form.thresholds):
            raise DataError(
                file, "answers a different form from the adapter's", "cross-validate with the same settings"
            )
        folds[trained.splits.fold], count = Answers.of(evaluation), trained.splits.folds
    missing = sorted(set(range(count)) - set(folds))
    if not folds or missing:
        what = f"lacks fold {missing[0]} of {count}" if missing else "holds no folds of this recipe"
        raise DataError(folder, what, "run vlm-ft crossval on the recipe, with its --set")
    return list(folds.values())


def _without_splits(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"splits": Splits()})


def _undecided(answer: Prediction) -> Prediction:
    """The answer without the decision from calibration; an unfamiliar example is still left to a person."""
    if answer.error is not None or (answer.strange or 0) > 1:
        return answer
    return replace(answer, decision="answer", reason="")


def cross_fitted(form: Form, folds: Sequence[Answers]) -> list[Prediction]:
    """The answers of all folds, each with the temperatures and the threshold fitted on the other folds."""
    decided = []
    for place, fold in enumerate(folds):
        confidence = Answers.pooled([*folds[:place], *folds[place + 1 :]]).fit(form)
        decided += [with_confidence(form, answer, confidence) for answer in fold.predictions]
    return decided


def fold_reliability(evaluations: Sequence[Evaluation]) -> Sureness | None:
    """The reliability of the answers of all folds, each calibrated on the other folds.

    None if the folds' forms differ or have no closed fields.
    """
    form = evaluations[0].form
    if not closed_fields(form) or any(evaluation.form.fingerprint != form.fingerprint for evaluation in evaluations):
        return None
    folds = [Answers.of(evaluation) for evaluation in evaluations]
    pooled = Answers.pooled(folds)
    systems = {BEFORE: pooled.predictions, ADAPTER: cross_fitted(form, folds)}
    if all(PROBE in evaluation.systems for evaluation in evaluations):
        systems[PROBE] = Answers.pooled([Answers.of(each, PROBE) for each in evaluations]).predictions
    return sureness_of(form, pooled.truths, pooled.groups, systems, None, ADAPTER)
