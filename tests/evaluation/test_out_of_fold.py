"""Out-of-fold answers are fitted without using the fold that is evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.forms import form_of
from vlm_ft.answers.confidence import Confidence, tempered, with_confidence
from vlm_ft.answers.intervals import Figure
from vlm_ft.answers.kinds import Choice
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import DataError
from vlm_ft.evaluation.evaluate import ADAPTER, CaseRow, Evaluation
from vlm_ft.evaluation.out_of_fold import Answers, cross_fitted, fold_reliability, read_folds
from vlm_ft.recipe import Recipe

OPTIONS = ("dent", "scratch", "rust")
FORM = form_of(kind=Choice(options=OPTIONS))
OVERCONFIDENCE = 2.5


def fold(seed: int, count: int = 300) -> Answers:
    """Answers whose true probabilities are those at a higher temperature."""
    random = np.random.default_rng(seed)
    exact = random.dirichlet(np.ones(3), count)
    truths = [{"kind": OPTIONS[random.choice(3, p=row)]} for row in exact]
    stated = [tempered(dict(zip(OPTIONS, row.tolist(), strict=True)), 1 / OVERCONFIDENCE) for row in exact]
    answers = [Prediction({"kind": FieldValue(max(found, key=found.__getitem__), found)}) for found in stated]
    return Answers(truths, answers, [f"{seed}-{number}" for number in range(count)])


def evaluation_of(answers: Answers, confidence: Confidence | None = None) -> Evaluation:
    cases = [
        CaseRow(
            id=group,
            group=group,
            images=(),
            text="",
            truth=truth,
            answers={"adapter": {"prediction": answer, "score": 0}},
        )
        for group, truth, answer in zip(answers.groups, answers.truths, answers.predictions, strict=True)
    ]
    return Evaluation.model_construct(form=FORM, confidence=confidence, cases=cases, systems={})


def test_overconfidence_is_undone() -> None:
    folds = [fold(seed) for seed in range(3)]
    assert folds[0].fit(FORM).temperatures["kind"] == pytest.approx(OVERCONFIDENCE, rel=0.2)
    raw, fitted = Answers.pooled(folds).predictions, cross_fitted(FORM, folds)
    truths = Answers.pooled(folds).truths

    def loss(answers: list[Prediction]) -> float:
        shares = [
            answer.fields["kind"].distribution[truth["kind"]] for answer, truth in zip(answers, truths, strict=True)
        ]
        return float(-np.log(np.maximum(shares, 1e-9)).mean())

    assert loss(list(fitted)) < loss(list(raw)) - 0.1


def test_a_fold_is_not_fitted_on_its_own_labels() -> None:
    folds = [fold(seed) for seed in range(3)]
    wrong = replace(folds[0], truths=[{"kind": "rust"}] * len(folds[0].truths))
    count = len(folds[0].truths)
    assert cross_fitted(FORM, folds)[:count] == cross_fitted(FORM, [wrong, *folds[1:]])[:count]
    assert cross_fitted(FORM, folds)[count:] != cross_fitted(FORM, [wrong, *folds[1:]])[count:]


def test_decisions_of_a_folds_own_calibration_are_undone() -> None:
    """They were based on a threshold that a small `calibrate` role rarely certifies."""
    confidence = fold(0).fit(FORM)
    uncertified = confidence.model_copy(update={"bound": confidence.bound.model_copy(update={"threshold": None})})
    raw = fold(1, 50)
    decided = [with_confidence(FORM, answer, uncertified) for answer in raw.predictions]
    assert {answer.decision for answer in decided} == {"ask a person"}
    found = Answers.of(evaluation_of(replace(raw, predictions=decided), uncertified))
    assert {answer.decision for answer in found.predictions} == {"answer"}
    for undone, before in zip(found.predictions, raw.predictions, strict=True):
        assert undone.fields["kind"].distribution == pytest.approx(before.fields["kind"].distribution, abs=1e-6)


def at_risk(folds: Sequence[Answers]) -> Figure:
    found = fold_reliability([evaluation_of(each) for each in folds])
    assert found is not None
    return next(entry.at_risk for entry in found.coverage if entry.by == ADAPTER)


def test_examples_of_one_group_widen_the_interval_of_the_share_at_risk() -> None:
    apart = [fold(seed) for seed in range(3)]
    tied = [
        Answers(*([one for one in part for _ in range(5)] for part in (each.truths, each.predictions, each.groups)))
        for each in apart
    ]
    alone = [replace(each, groups=[""] * len(each.groups)) for each in tied]
    wide, narrow = (at_risk(folds) for folds in (tied, alone))
    assert wide.value == narrow.value
    assert wide.high - wide.low > 1.5 * (narrow.high - narrow.low)


def test_a_folder_without_folds_is_refused(tmp_path: Path) -> None:
    recipe = Recipe(name="made", task="product_defects", data=[{"path": "."}])
    with pytest.raises(DataError, match="holds no folds of this recipe"):
        read_folds(tmp_path, recipe, FORM)
