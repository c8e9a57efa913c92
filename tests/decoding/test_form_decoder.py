"""Decoding returns the distribution that training learns, without relying on any state inside the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import exp, log

import pytest
import torch
from numpy.random import default_rng
from PIL import Image

from datasets_vision.example import Turn
from tests.decoding.oracle import NESTED, answer_logprob, answer_shares, closed_form, form_of
from vlm_ft.answers.box_format import GRID, STANDARD
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Choice, FieldSpec, Flag, Integer, Items, Text
from vlm_ft.answers.prediction import Prediction, option_name
from vlm_ft.bases.families import TOKEN_TYPES
from vlm_ft.bases.load import Base
from vlm_ft.bases.tiny import TINY
from vlm_ft.conversation import Row
from vlm_ft.decoding.decisions import quoted
from vlm_ft.decoding.form_decoder import _Fields
from vlm_ft.decoding.rows import Branch, BranchResult
from vlm_ft.decoding.tokens import AnswerTokens
from vlm_ft.decoding.writing import Sampling, write
from vlm_ft.errors import FormError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request

EVERY_FAMILY = pytest.mark.parametrize("name", list(TINY))
TEXT = (Turn("user", "Is it good, or what is it?"),)
FINDINGS = Items(
    fields=(
        FieldSpec(name="kind", kind=Choice(options=NESTED)),
        FieldSpec(name="box", kind=BoxKind()),
    ),
    max_items=2,
)


def asked(base: Base, form: Form, *, texts: tuple[Turn, ...] = TEXT, side: int = 48) -> Request:
    images = (Image.new("RGB", (64, side), "teal"),) if base.reader.sees else ()
    return Request(images=images, turns=texts, form=form.with_boxes(base.family.boxes))


@EVERY_FAMILY
def test_a_distribution_matches_enumeration_of_the_options(name: str, bare: Callable[[str], Engine]) -> None:
    """Every option's answer, run in full without a cache, has the probability that the decoder found for it."""
    engine, form = bare(name), closed_form()
    request = asked(engine.base, form)
    (answer,) = engine.predict([request])
    for place, field in enumerate(form.fields[:2]):
        found = answer.fields[field.name].distribution
        assert found is not None
        assert sum(found.values()) == pytest.approx(1, abs=1e-6)
        options = field.kind.options if isinstance(field.kind, Choice) else (True, False)
        before = {spec.name: answer.values[spec.name] for spec in form.fields[:place]}
        narrow = form.narrow([spec.name for spec in form.fields[: place + 1]])
        other = Request(request.images, request.turns, form=narrow)
        (again,) = engine.predict([other])  # a prompt for the fields up to this one, so that it is the last
        for option in options:
            row = Row(narrow, request.turns, request.images, narrow.target({**again.values, field.name: option}))
            logprob = sum(answer_logprob(engine.base, row))
            earlier = sum(log(again.fields[name].probability or 0) for name in before)
            assert again.fields[field.name].distribution[option_name(option)] == pytest.approx(
                exp(logprob - earlier), rel=2e-3, abs=1e-6
            )


@EVERY_FAMILY
def test_the_rest_of_the_batch_does_not_change_an_answer(name: str, bare: Callable[[str], Engine]) -> None:
    """Rows of different lengths and forms, with and without text, are answered as if each were alone."""
    engine = bare(name)
    forms = [closed_form(), form_of(ok=Flag(), findings=FINDINGS), form_of(note=Text(max_length=20), ok=Flag())]
    requests = [asked(engine.base, form, side=side) for form, side in zip(forms, (48, 90, 48), strict=True)]
    requests += [asked(engine.base, forms[0], side=90)]
    if engine.base.reader.sees:
        requests += [asked(engine.base, forms[0], texts=())]
    together = engine.predict(requests)
    for request, answer in zip(requests, together, strict=True):
        (alone,) = engine.predict([request])
        assert answer.error is None
        assert answer.values == alone.values
        for name_of, entry in answer.fields.items():
            other = alone.fields[name_of].distribution
            assert (entry.distribution is None) == (other is None)
            assert dict(entry.distribution or {}) == pytest.approx(dict(other or {}), abs=1e-5)


def test_a_form_with_one_possible_answer_is_batched_with_others(bare: Callable[[str], Engine]) -> None:
    engine, only = bare("fast_vlm"), form_of(kind=Choice(options=("only",)))
    requests = [asked(engine.base, form) for form in (only, closed_form(), only)]
    answers = engine.predict(requests)
    assert [answer.values["kind"] for answer in answers[::2]] == ["only", "only"]
    assert answers[0].fields["kind"].probability == 1
    assert answers[1].values == engine.predict(requests[1:2])[0].values
    assert engine.predict(requests[:1])[0].values == {"kind": "only"}


@pytest.mark.parametrize("name", ["fast_vlm", "qwen3_vl"])
def test_the_legal_probability_matches_enumeration_of_the_tokens(name: str, bare: Callable[[str], Engine]) -> None:
    """It is the lowest sum, over the places where options part, of their next tokens' share of the whole vocabulary."""
    engine = bare(name)
    request = asked(engine.base, form_of(kind=Choice(options=NESTED)))
    (answer,) = engine.predict([request])
    tokens = AnswerTokens(engine.base.reader.tokenizer)
    opening = '{"kind":"'
    options = tokens.ids([quoted(option)[1:] + "}" for option in NESTED])
    chosen = options[NESTED.index(answer.values["kind"])]
    shares = answer_shares(engine.base, Row(request.form, TEXT, request.images, request.form.target(answer.values)))
    shares = shares[len(tokens.ids([opening])[0]) :]
    sums = []
    for place in range(len(chosen)):
        nexts = {option[place] for option in options if option[:place] == chosen[:place]}
        if len(nexts) > 1:
            sums.append(float(shares[place, sorted(nexts)].sum()))
    assert answer.fields["kind"].legal == pytest.approx(min(sums), rel=1e-3)
    assert min(sums) < 0.5  # a random model would rather say something else


@EVERY_FAMILY
def test_a_text_matches_greedy_decoding(name: str, bare: Callable[[str], Engine]) -> None:
    """Token by token, with the whole prompt run again each time and no cache, the text is the same."""
    engine, form = bare(name), form_of(note=Text(max_length=12))
    request = asked(engine.base, form)
    (answer,) = engine.predict([request])
    base, tokens = engine.base, AnswerTokens(engine.base.reader.tokenizer, None)
    conversation = engine._conversation(engine.base.reader.limits)
    guide, written = tokens.text_matcher(12), list[int]()
    (opening,) = tokens.ids(['{"note":"'])
    while not guide.is_accepting():
        batch = conversation.encode([Row(form, request.turns, request.images)])
        tail = torch.tensor([[*opening, *written]])
        kinds = {"input_ids": None, "attention_mask": 1, **dict.fromkeys(TOKEN_TYPES, base.family.answer_token_type)}
        for key, kind in kinds.items():
            if key in batch:
                batch[key] = torch.cat([batch[key], tail if kind is None else torch.full_like(tail, kind)], 1)
        with torch.inference_mode():
            logits = base.model(**batch, use_cache=False).logits[0, -1, : tokens.vocabulary]
        token = int(logits.masked_fill(~tokens.legal(guide), float("-inf")).argmax())
        guide.consume_token(token)
        written.append(token)
    assert answer.values["note"] == tokens.text(written)[:-1]


class Fixed:
    """Stands in for a model: a table gives the scores after each sequence of an option's tokens."""

    def __init__(self, tokens: AnswerTokens, shares: dict[str, float], end: str) -> None:
        self.tokens = tokens
        written = tokens.ids([option + end for option in shares])
        self.shares = dict(zip(written, shares.values(), strict=True))
        self.passes = 0

    def seen(self, branch: Branch, before: dict[tuple[int, ...], tuple[int, ...]], skip: int) -> BranchResult:
        """`before`: the tokens of each chain of places; `skip`: tokens that come before the option."""
        ids = before[branch.after] + branch.tokens
        begun = ids[skip:]
        scores = torch.full((self.tokens.vocabulary,), -50.0)
        for option, share in self.shares.items():
            if option[: len(begun)] == begun and len(option) > len(begun):
                scores[option[len(begun)]] = scores[option[len(begun)]].exp().add(share).log()
        places = tuple(range(1000 * self.passes, 1000 * self.passes + len(branch.tokens)))
        before[branch.after + places] = ids
        return BranchResult(scores, float(scores.logsumexp(0)), places)


def played(tokens: AnswerTokens, form: Form, shares: dict[str, float], sampling: Sampling | None = None):
    outcomes, passes = all_played(tokens, form, shares, ('{"kind":"', '"}'), sampling)
    return outcomes[("kind",)], passes


def all_played(
    tokens: AnswerTokens,
    form: Form,
    shares: dict[str, float],
    around: tuple[str, str],
    sampling: Sampling | None = None,
):
    """`around`: what is written before and after the option that `shares` are about."""
    model, before = Fixed(tokens, shares, around[1]), {(): ()}
    writer = write(form, tokens, 10_000, sampling)
    branches, skip = next(writer), len(tokens.ids(around[:1])[0])
    try:
        while True:
            seen = []
            for branch in branches:
                model.passes += 1
                seen.append(model.seen(branch, before, skip))
            branches = writer.send(seen)
    except StopIteration as end:
        return end.value, model.passes


@pytest.fixture(scope="module")
def tokens(tiny_base: Callable[[str], Base]) -> AnswerTokens:
    return AnswerTokens(tiny_base("qwen3").reader.tokenizer)


def test_the_most_probable_option_wins_not_the_greedy_path(tokens: AnswerTokens) -> None:
    shares = {"scratch": 0.30, "scrape": 0.25, "dent": 0.45}
    outcome, _ = played(tokens, form_of(kind=Choice(options=tuple(shares))), shares)
    assert outcome.value == "dent"
    assert dict(zip(outcome.options.values, outcome.mass, strict=True)) == pytest.approx(shares, abs=1e-6)


def test_improbable_options_are_not_distinguished(tokens: AnswerTokens) -> None:
    """No pass is spent on options with a total probability of 0.0006; they share it."""
    shares = {"scratch": 0.0001, "scrape": 0.0002, "scrap": 0.0003, "dent": 0.6994, "pit": 0.3}
    outcome, passes = played(tokens, form_of(kind=Choice(options=tuple(shares))), shares)
    assert passes == 1
    assert outcome.mass.sum() == pytest.approx(1)
    assert outcome.mass[:3].sum() == pytest.approx(0.0006, rel=1e-3)
    assert outcome.mass[3:] == pytest.approx([0.6994, 0.3], rel=1e-3)


def test_samples_follow_the_distribution(tokens: AnswerTokens) -> None:
    shares = {"scratch": 0.30, "scrape": 0.25, "dent": 0.45}
    form, random = form_of(kind=Choice(options=tuple(shares))), default_rng(0)
    drawn = [played(tokens, form, shares, Sampling(random))[0] for _ in range(600)]
    counts = {name: sum(outcome.value == name for outcome in drawn) / len(drawn) for name in shares}
    assert counts == pytest.approx(shares, abs=0.06)  # three standard errors
    cold = [played(tokens, form, shares, Sampling(random, 0.05))[0].value for _ in range(50)]
    assert len(set(cold)) == 1


@pytest.mark.parametrize("name", list(TINY))
def test_an_option_has_one_tokenization(name: str, tiny_base: Callable[[str], Base]) -> None:
    """Training's tokens of an answer are a path through the same trees that decoding follows."""
    tokens = AnswerTokens(tiny_base(name).reader.tokenizer)
    form = form_of(kind=Choice(options=NESTED), count=Integer(minimum=0, maximum=120), findings=FINDINGS)
    values = {"kind": "scratch", "count": 12, "findings": [{"kind": "de", "box": [1, 20, 300, 1000]}]}
    targets = tokens.target_tokens(form, values, None)
    assert tokens.text(targets.ids) == form.target(values)
    assert len(targets.choices) == sum(targets.decided)
    for options in (NESTED, tuple(map(str, range(121)))):
        ids = tokens.ids([f'{option}","x":' for option in options])
        assert len({tuple(one) for one in ids}) == len(options)
        assert not any(a != b and a == b[: len(a)] for a in ids for b in ids)


def test_the_side_of_a_box_is_the_median(tokens: AnswerTokens) -> None:
    """Neither the most probable option nor the mean: with 300 at 0.4, 500 at 0.25 and 900 at 0.35, it is 500."""
    shares = {300: 0.4, 500: 0.25, 900: 0.35}
    form = form_of(where=BoxKind()).with_boxes(STANDARD)
    written = {str(side): share for side, share in shares.items()}
    outcomes, _ = all_played(tokens, form, written, ('{"where":[', ","))
    left = outcomes[("where", 0)]
    assert left.value == 500
    assert left.legal == pytest.approx(1, abs=1e-6)


def test_the_spread_of_a_side_is_its_standard_deviation(tokens: AnswerTokens) -> None:
    """The shares are around the median, where the numbers are told apart to the last digit."""
    shares = {500: 0.25, 501: 0.5, 505: 0.25}
    form = form_of(where=BoxKind()).with_boxes(STANDARD)
    outcomes, _ = all_played(tokens, form, {str(side): each for side, each in shares.items()}, ('{"where":[', ","))
    mean = sum(side * share for side, share in shares.items())
    expected = sum(share * (side - mean) ** 2 for side, share in shares.items()) ** 0.5
    left, *_ = _Fields(form, outcomes, None).read(BoxKind(), ("where",)).spread
    assert left == pytest.approx(expected, abs=0.5)  # stored as a whole number


def test_the_target_of_an_interpolated_side_has_the_side_as_its_mean(tiny_base: Callable[[str], Base]) -> None:
    """Each option is one digit, so the target is shared between a token and its neighbour."""
    tokens = AnswerTokens(tiny_base("fast_vlm").reader.tokenizer)
    form, box = form_of(where=BoxKind()).with_boxes(GRID), [0, 370, 555, 1000]
    targets = tokens.target_tokens(form, {"where": box}, None)
    decided = [token for token, known in zip(targets.ids, targets.decided, strict=True) if known]
    digit = {tokens.ids([str(number)])[0][0]: number for number in range(10)}
    means = [
        digit[first] * (1 - share) + digit[second] * share
        for first, (second, share) in zip(decided, targets.shares, strict=True)
    ]
    assert means == pytest.approx(GRID.exact(box, None))


def test_an_interpolated_side_is_the_mean_of_its_distribution(bare: Callable[[str], Engine]) -> None:
    """A left side is one decision, so its mean can be computed from one plain pass per digit."""
    engine = bare("fast_vlm")
    form = form_of(where=BoxKind()).with_boxes(GRID)
    request = Request(images=(Image.new("RGB", (64, 48), "teal"),), turns=TEXT, form=form)
    (answer,) = engine.predict([request])
    shares = []
    for digit in range(10):
        stored = round(1000 * digit / 9)
        target = form.target({"where": [min(stored, 999), 0, 1000, 1000]})
        row = Row(form, TEXT, request.images, target)
        shares.append(exp(answer_logprob(engine.base, row)[0]))
    assert sum(shares) == pytest.approx(1, abs=1e-4)
    mean = sum(digit * share for digit, share in enumerate(shares))
    left, _, right, _ = answer.values["where"]
    assert min(abs(1000 * mean / 9 - side) for side in (left, right)) < 1  # corners come in either order


def test_thresholds_decide_flags_and_further_items(bare: Callable[[str], Engine]) -> None:
    """With a threshold just below the probability the answer is yes, just above it no; other fields are unaffected."""
    engine = bare("fast_vlm")
    form = form_of(passed=Flag(), findings=FINDINGS)
    request = asked(engine.base, form)

    def answer(**thresholds: float) -> Prediction:
        (found,) = engine.predict([replace(request, form=request.form.with_thresholds(thresholds))])
        return found

    probability = answer().fields["passed"].distribution["true"]
    assert answer(passed=probability - 1e-3).values["passed"] is True
    assert answer(passed=probability + 1e-3).values["passed"] is False
    assert len(answer(findings=1e-9).values["findings"]) == FINDINGS.max_items
    assert answer(findings=1 - 1e-9).values["findings"] == []
    with pytest.raises(FormError, match="threshold of kind: is not a flag or a list"):
        closed_form().with_thresholds({"kind": 0.5})
    with pytest.raises(FormError, match=r"1\.0 is not a probability between 0 and 1"):
        closed_form().with_thresholds({"passed": 1.0})


def test_the_number_of_items_has_a_distribution(bare: Callable[[str], Engine]) -> None:
    engine = bare("fast_vlm")
    (answer,) = engine.predict([asked(engine.base, form_of(findings=FINDINGS))])
    entry = answer.fields["findings"]
    assert entry.distribution is not None
    assert entry.items is not None
    assert sum(entry.distribution.values()) == pytest.approx(1)
    assert len(entry.items) == len(entry.value)
    for item in entry.items:
        assert 0 < item.score("kind") <= item.exists <= 1
