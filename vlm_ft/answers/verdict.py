"""`Verdict`: what an answer comes down to, in one line: "fail: fingerprint", "severe", "present: audit rights"."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, Literal

from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, FieldSpec, Flag, Integer
from vlm_ft.answers.prediction import Prediction
from vlm_ft.answers.task import DECISIONS, NOTHING

Tone = Literal["good", "doubtful", "bad", "plain"]
"""How serious a verdict is; "plain" if the form does not say."""

TONES: tuple[Tone, ...] = ("plain", "good", "doubtful", "bad")
"""From the least to the most serious; a verdict has the tone of its most serious value."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a flag says ("" without one), the other values, the tone, and the probability that all of this is right."""

    flag: str
    values: tuple[str, ...]
    tone: Tone
    probability: float | None

    @property
    def text(self) -> str:
        """In words: "FAIL: fingerprint"."""
        return ": ".join(filter(None, [self.flag.upper(), ", ".join(self.values)]))


def verdict_fields(form: Form) -> list[FieldSpec]:
    """The fields that a verdict states: those of the form's headline.

    If the form asks for none of them, its first flag and its first choice, preferably ones that follow from its
    findings, otherwise its first number.
    """
    closed = [field for field in form.fields if isinstance(field.kind, Choice | Flag | Integer)]
    if named := [form.field(name) for name in form.headline.fields]:
        return named
    closed.sort(key=lambda field: field.name not in form.follows)
    firsts = [next((field for field in closed if isinstance(field.kind, kind)), None) for kind in (Flag, Choice)]
    return [field for field in firsts if field is not None] or closed[:1]


def verdict_of(form: Form, prediction: Prediction) -> Verdict | None:
    """The verdict of an answer; None without a closed field.

    If its flag says that nothing was found, it states no more. Each field's probability is conditional on the
    fields before it, so their product is the probability of all.
    """
    stated = [field for field in verdict_fields(form) if field.name in prediction.fields]
    values = {field.name: prediction.fields[field.name].value for field in stated}
    if not stated:
        return None
    flag = next((field for field in stated if isinstance(field.kind, Flag)), None)
    if flag is not None and form.follows.get(flag.name) in DECISIONS and _tone(form, flag, values[flag.name]) == "good":
        stated = [flag]
    tones = [_tone(form, field, values[field.name]) for field in stated]
    shares = [prediction.fields[field.name].probability for field in stated]
    known = [share for share in shares if share is not None]
    return Verdict(
        flag="" if flag is None else _in_words(form, flag, values[flag.name]),
        values=tuple(_in_words(form, field, values[field.name]) for field in stated if field is not flag),
        tone=max(tones, key=TONES.index),
        probability=prod(known) if len(known) == len(shares) else None,
    )


def _in_words(form: Form, field: FieldSpec, value: Any) -> str:
    name = field.name.replace("_", " ")
    match field.kind:
        case Flag():
            return form.headline.words.get(field.name, (name, f"not {name}"))[0 if value else 1]
        case Integer():
            return f"{name} {value}"
        case _:
            return str(value).replace("_", " ")


def _tone(form: Form, field: FieldSpec, value: Any) -> Tone:
    rule = form.follows.get(field.name)
    if rule in DECISIONS:
        return "good" if value is (rule == "none") else "bad"
    if isinstance(field.kind, Choice) and field.name in form.headline.graded:
        place, last = field.kind.options.index(value), len(field.kind.options) - 1
        return "good" if place == 0 else "bad" if place == last else "doubtful"
    return "good" if value == NOTHING else "plain"
