"""The values of an answer in words; nothing here is escaped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from vlm_ft.answers.kinds import BoxKind, Choice, Flag, Kind
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.verdict import Verdict

YES, NO = "Yes", "No"
ASK = "Ask a person"
MAX_COLUMN = 26  # characters


def words(name: str) -> str:
    """A field's or a class's name with spaces instead of underscores."""
    return name.replace("_", " ")


def option_in_words(name: str) -> str:
    """An option of a distribution, given by its name there."""
    return {"true": YES, "false": NO}.get(name, words(name))


def title(name: str) -> str:
    """A field's name as a heading."""
    return words(name).capitalize()


def column_width(texts: Iterable[str]) -> str:
    """A column width that breaks none of these texts, unless they are long."""
    return f"{10 * min(max(map(len, texts), default=0), MAX_COLUMN) + 40}px"


def percent(share: float) -> str:
    """A probability; "100 %" and "0 %" are kept for certainty."""
    if 0 < share < 0.005:
        return "<1 %"
    return ">99 %" if 0.995 <= share < 1 else f"{100 * share:.0f} %"


def probability_in_words(entry: FieldValue | None) -> str:
    """The probability of a value; "" if there is none."""
    return "" if entry is None or entry.probability is None else percent(entry.probability)


def verdict_in_words(verdict: Verdict) -> str:
    """The verdict with its probability, if it has one: "FAIL: fingerprint, 93 %"."""
    share = "" if verdict.probability is None else f", {percent(verdict.probability)}"
    return f"{verdict.text[:1].upper()}{verdict.text[1:]}{share}"


def referral(answer: Prediction | FieldValue) -> str:
    """The advice to ask a person about an answer or a field of it, with its reason; "" where there is none."""
    if answer.decision != "ask a person":
        return ""
    return f"{ASK}: {answer.reason}" if answer.reason else ASK


def in_words(kind: Kind, value: Any) -> str:
    """The value of a field, or of a part of an item."""
    match kind:
        case Flag():
            return YES if value else NO
        case BoxKind():
            left, top, right, bottom = (round(side / 10) for side in value)
            return f"{left}–{right} % × {top}–{bottom} %"
        case Choice():
            return words(str(value))
        case _:
            return str(value)
