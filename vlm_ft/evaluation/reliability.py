"""How reliable probabilities are: calibration, coverage at a given risk, and operating points of a flag.

Figures "before fitting" are computed from the calibrated answers, since tempering can be undone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from vlm_ft.answers.calibration import RISK, certainty_and_correctness, distributions_with_truth
from vlm_ft.answers.confidence import FLOOR, Confidence, at_temperatures, closed_fields, tempered
from vlm_ft.answers.form import Form
from vlm_ft.answers.intervals import RESAMPLES, Figure, clusters_of
from vlm_ft.answers.kinds import Flag, Strict
from vlm_ft.answers.prediction import Decision, Distribution, Prediction
from vlm_ft.answers.task import Values

BINS = 10
BY_LOGPROB = "by mean log-probability"  # the ranking that others use, and that no calibration changes
FALSE_REJECTS = (0.01, 0.05, 0.10)

Pairs = Sequence[tuple[Distribution, str]]


class Bin(Strict):
    """Answers of similar confidence: their mean probability, the share that is right, and their number."""

    sure: float
    right: Figure
    count: int


class Reliability(Strict):
    """How reliable a system's probabilities of one field are; lower is better for all three figures.

    `ece`: expected calibration error over ten bins of equal width (Guo et al. 2017); `band`: its 95th percentile in
    simulations in which these probabilities are exact. `brier`: over all options (Brier 1950). `log_loss`: in nats.
    """

    field: str
    system: str
    count: int
    ece: Figure
    band: float
    brier: Figure
    log_loss: Figure
    bins: tuple[Bin, ...]


class Coverage(Strict):
    """Risk against coverage of whole answers, the surest first: shares answered, and shares wrong among those.

    `at_risk`: the largest share of these examples that could be answered with at most 5 % wrong.
    """

    by: str
    answered: tuple[float, ...]
    wrong: tuple[float, ...]
    area: float
    at_risk: Figure


class OperatingPoint(Strict):
    """A flag at a fixed share of false rejects, as inspectors use it: `positive` is the value that must not be missed.

    An example is called positive if its probability is above `threshold`. `false_rejects`: the share of negative
    examples called positive, 1 - specificity. `escapes`: the share of positive examples not called positive, 1 -
    sensitivity. `area`: under the ROC curve.
    """

    field: str
    positive: str
    false_rejects: float
    escapes: Figure
    threshold: float
    area: float


OWN = "its own test examples"


class Alarm(Strict):
    """The share of a set of photos or texts that is flagged as unlike the training data."""

    of: str
    count: int
    flagged: Figure


class Unaided(Strict):
    """What is answered without asking a person: its share of `count` examples, and the share of it that is wrong.

    `judged`: how many of these answers have a label that states a closed field; `wrong` is None if none has.
    """

    count: int
    answered: Figure
    judged: int
    wrong: Figure | None


class Sureness(Strict):
    """All figures about the reliability of one adapter's probabilities.

    `unaided` is about whole answers, None without closed fields; `unaided_fields` about each field on its own, empty if
    the adapter is not calibrated.
    """

    reliability: tuple[Reliability, ...]
    coverage: tuple[Coverage, ...]
    operating: tuple[OperatingPoint, ...]
    alarms: tuple[Alarm, ...] = ()
    unaided: Unaided | None = None
    unaided_fields: dict[str, Unaided] = Field(default_factory=dict)


def alarm(of: str, predictions: Sequence[Prediction], clusters: NDArray[np.int64]) -> Alarm | None:
    """The share of these predictions that is flagged; None if the adapter does not measure familiarity."""
    strange = np.array([entry.strange for entry in predictions], dtype=float)  # NaN if it is not known
    known = ~np.isnan(strange)
    if not known.any():
        return None
    return Alarm(of=of, count=int(known.sum()), flagged=Figure.share(strange[known] > 1, clusters[known]))


def sureness_of(
    form: Form,
    truths: Sequence[Values],
    groups: Sequence[str],
    systems: Mapping[str, Sequence[Prediction]],
    confidence: Confidence | None,
    adapter: str,
) -> Sureness:
    """The figures of every system that gives probabilities; `systems` holds their predictions by name."""
    temperatures = confidence.temperatures if confidence is not None else {}
    clusters = clusters_of(groups)
    reliability, coverage, unaided, unaided_fields = [], [], None, {}
    for system, predictions in systems.items():
        for name in closed_fields(form):
            pairs, places = distributions_with_truth(name, truths, predictions)
            if not pairs:
                continue
            members = clusters[places]
            if system == adapter and temperatures.get(name, 1.0) != 1.0:
                before = [(tempered(found, 1 / temperatures[name]), true) for found, true in pairs]
                reliability.append(_reliability(name, f"{system}, before fitting", before, members))
            reliability.append(_reliability(name, system, pairs, members))
        sure, right = certainty_and_correctness(closed_fields(form), truths, predictions)
        known = ~np.isnan(sure)
        if known.any():
            coverage.append(_coverage(system, sure[known], right[known], clusters[known]))
        if system == adapter and closed_fields(form):
            unaided = _unaided([entry.decision for entry in predictions], known, right, clusters)
            unaided_fields = _unaided_fields(form, truths, predictions, clusters)
        if known.any() and system == adapter:
            undone = {name: 1 / temperature for name, temperature in temperatures.items()}
            raw = systems.get(f"{system}, before fitting") or [at_temperatures(one, undone) for one in predictions]
            logs = np.array([mean_log_probability(one) for one in raw])
            coverage.append(_coverage(f"{system}, {BY_LOGPROB}", logs[known], right[known], clusters[known]))
    operating = []
    for field in form.fields:
        if isinstance(field.kind, Flag):
            pairs, places = distributions_with_truth(field.name, truths, systems[adapter])
            operating += _operating(field.name, positive_of(form, field.name), pairs, clusters[places])
    false_alarms = alarm(OWN, systems[adapter], clusters)
    return Sureness(
        reliability=tuple(reliability),
        coverage=tuple(coverage),
        operating=tuple(operating),
        alarms=(false_alarms,) if false_alarms is not None else (),
        unaided=unaided,
        unaided_fields=unaided_fields,
    )


def _unaided_fields(
    form: Form, truths: Sequence[Values], predictions: Sequence[Prediction], clusters: NDArray[np.int64]
) -> dict[str, Unaided]:
    found = {}
    for name in closed_fields(form):
        entries = [prediction.fields.get(name) for prediction in predictions]
        decisions = [None if entry is None else entry.decision for entry in entries]
        if any(decisions):
            sure, right = certainty_and_correctness((name,), truths, predictions)
            found[name] = _unaided(decisions, ~np.isnan(sure), right, clusters)
    return found


def _unaided(
    decisions: Sequence[Decision | None],
    known: NDArray[np.bool_],
    right: NDArray[np.bool_],
    clusters: NDArray[np.int64],
) -> Unaided:
    """`known`: whether an answer can be judged `right` or wrong."""
    let_through = np.array([decision == "answer" for decision in decisions])
    judged = let_through & known
    return Unaided(
        count=len(decisions),
        answered=Figure.share(let_through, clusters),
        judged=int(judged.sum()),
        wrong=Figure.share(~right[judged], clusters[judged]) if judged.any() else None,
    )


def mean_log_probability(prediction: Prediction) -> float:
    """The mean log-probability of an answer's decisions, in nats: of closed fields, numbers of items and items' parts.

    It is the usual measure of a language model's confidence, and here a rival ranking of answers. Texts do not count.
    """
    decided = [*prediction.fields.values()]
    for entry in prediction.fields.values():
        decided += [part for item in entry.items or () for part in item.parts.values()]
    found = [log(max(entry.probability, FLOOR)) for entry in decided if entry.probability is not None]
    return float(np.mean(found)) if found else -np.inf


def positive_of(form: Form, flag: str) -> str:
    """The value of a flag that must not be missed: a part fails, a scan is abnormal."""
    return "false" if form.follows.get(flag) == "none" else "true"


def escapes_and_false_rejects(
    positive: str, pairs: Pairs, threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which examples are positive but not above the threshold, and which are above it but negative."""
    bad = np.array([true == positive for _, true in pairs], dtype=np.bool_)
    above = np.array([found[positive] > threshold for found, _ in pairs], dtype=np.bool_)
    return bad & ~above, ~bad & above


def _reliability(name: str, system: str, pairs: Pairs, clusters: NDArray[np.int64]) -> Reliability:
    best = [max(found, key=lambda option: found[option]) for found, _ in pairs]
    sure = np.array([found[option] for (found, _), option in zip(pairs, best, strict=True)])
    right = np.array([option == true for (_, true), option in zip(pairs, best, strict=True)], dtype=np.float64)
    squares = [sum((share - (option == true)) ** 2 for option, share in found.items()) for found, true in pairs]
    losses = [-np.log(max(found[true], FLOOR)) for found, true in pairs]
    return Reliability(
        field=name,
        system=system,
        count=len(pairs),
        ece=Figure.resampled(expected_calibration_error, clusters, sure, right),
        band=_band(sure),
        brier=Figure.mean(squares, clusters, top=2.0),
        log_loss=Figure.mean(losses, clusters),
        bins=tuple(_bins(sure, right, clusters)),
    )


def expected_calibration_error(sure: NDArray[np.float64], right: NDArray[np.float64]) -> float:
    """The mean, over answers, of the gap in their bin between the share of right answers and the mean probability."""
    gaps = np.bincount(_bin_of(sure), right - sure, BINS)
    return float(np.abs(gaps).sum() / len(sure))


def _bin_of(sure: NDArray[np.float64]) -> NDArray[np.int64]:
    """The number of each probability's bin."""
    return np.minimum((sure * BINS).astype(np.int64), BINS - 1)


def _band(sure: NDArray[np.float64]) -> float:
    random = np.random.default_rng(0)
    outcomes = (random.random((RESAMPLES, len(sure))) < sure).astype(np.float64)
    return float(np.quantile([expected_calibration_error(sure, drawn) for drawn in outcomes], 0.95))


def _bins(sure: NDArray[np.float64], right: NDArray[np.float64], clusters: NDArray[np.int64]) -> list[Bin]:
    places, found = _bin_of(sure), []
    for place in np.unique(places):
        inside = places == place
        share = Figure.share(right[inside], clusters[inside])
        found.append(Bin(sure=float(sure[inside].mean()), right=share, count=int(inside.sum())))
    return found


def coverage_at_risk(sure: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """The largest share of these examples, the surest first, that can be answered with at most 5 % wrong."""
    _, places = np.unique(-sure, return_inverse=True)  # equally sure answers are given or withheld together
    answered = np.bincount(places).cumsum()
    wrong = np.bincount(places, ~right).cumsum() / answered
    return float(answered[wrong <= RISK].max(initial=0) / len(sure))


def _coverage(by: str, sure: NDArray[np.float64], right: NDArray[np.bool_], clusters: NDArray[np.int64]) -> Coverage:
    order = np.argsort(-sure, kind="stable")
    counts = np.arange(1, len(sure) + 1)
    wrong = (~right[order]).cumsum() / counts
    shown = np.unique(np.linspace(0, len(sure) - 1, 50).astype(int))
    return Coverage(
        by=by,
        answered=tuple((counts[shown] / len(sure)).tolist()),
        wrong=tuple(wrong[shown].tolist()),
        area=float(wrong.mean()),
        at_risk=Figure.resampled(coverage_at_risk, clusters, sure, right),
    )


def _operating(name: str, positive: str, pairs: Pairs, clusters: NDArray[np.int64]) -> list[OperatingPoint]:
    bad = np.array([true == positive for _, true in pairs], dtype=np.bool_)
    sure = np.array([found[positive] for found, _ in pairs])
    if bad.all() or not bad.any():
        return []
    from sklearn.metrics import roc_auc_score

    area = float(roc_auc_score(bad, sure))
    points = []
    thresholds = [float(np.quantile(sure[~bad], 1 - share, method="higher")) for share in FALSE_REJECTS]
    for threshold in dict.fromkeys(thresholds):  # with few examples, some coincide
        escaped, rejected = escapes_and_false_rejects(positive, pairs, threshold)
        points.append(
            OperatingPoint(
                field=name,
                positive=positive,
                false_rejects=float(rejected[~bad].mean()),
                escapes=Figure.share(escaped[bad], clusters[bad]),
                threshold=threshold,
                area=area,
            )
        )
    return points
