"""`Prediction`: the answer about one image or text, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from typing import Any, Literal, Self

from pydantic import TypeAdapter

Distribution = Mapping[str, float]
"""Option -> probability, summing to one."""

Decision = Literal["answer", "ask a person"]


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A field's value, and how sure the model is.

    `distribution` is over the options of a closed field, given the fields before it, or over the number of items in a
    list. `legal` is the probability that the model gave to what the form allows, before anything else was masked; it is
    low if the model favoured something else. `spread` is the standard deviation of each side of a box, in the box's
    units. `items` describes the entries of a list's value. `decision` is on this field, with the `reason` to ask a
    person; None if the adapter is not calibrated.
    """

    value: Any
    distribution: Distribution | None = None
    legal: float | None = None
    spread: tuple[float, ...] | None = None
    items: tuple[Item, ...] | None = None
    decision: Decision | None = None
    reason: str | None = None

    @property
    def probability(self) -> float | None:
        """The probability of the value; None without a distribution."""
        if self.distribution is None:
            return None
        name = str(len(self.value)) if isinstance(self.value, list) else option_name(self.value)
        return self.distribution.get(name)


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a list: its parts, and the probability that it exists, given the items before it."""

    exists: float
    parts: Mapping[str, FieldValue]

    def score(self, name: str | None) -> float:
        """The probability that the item exists and that its part with this name is right."""
        part = self.parts.get(name or "")
        named = part.probability if part is not None else None
        return self.exists * (1.0 if named is None else named)


def option_name(value: Any) -> str:
    """The key of an option in a distribution: a name, "true", "false", "7"."""
    return value if isinstance(value, str) else json.dumps(value)


def value_in_words(value: Any) -> str:
    """A field's value for people to read: yes or no for a flag; items without their boxes."""
    match value:
        case bool():
            return "yes" if value else "no"
        case []:
            return "none"
        case [dict(), *_]:
            parts = ([value_in_words(part) for part in item.values() if not isinstance(part, list)] for item in value)
            return "; ".join(", ".join(words) or "a box" for words in parts)
        case [*sides]:
            return ", ".join(map(str, sides))
        case _:
            return str(value)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A typed answer, or an error; never a guess.

    `derived` holds the results of the form's derivations (`Form.derive`), by kind. `decision` is "answer" if the
    answer can be used, otherwise "ask a person", for the given `reason`. `strange` is how unlike the training data
    the photo or text is; above 1, the decision is "ask a person". `reward` is the score of a reward model. `error`
    says in one line why there are no fields. `probabilities` says where those of the fields come from, if not from this
    package's own decoder.

    >>> from vlm_ft import Prediction
    >>> answer = Prediction({"passed": FieldValue(True, {"true": 0.9, "false": 0.1})})
    >>> answer.values, answer.fields["passed"].probability
    ({'passed': True}, 0.9)
    >>> Prediction.from_json(answer.to_json()) == answer
    True
    """

    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    decision: Decision = "answer"
    reason: str = ""
    strange: float | None = None
    reward: float | None = None
    error: str | None = None
    derived: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    probabilities: str | None = None

    @property
    def values(self) -> dict[str, Any]:
        return {name: entry.value for name, entry in self.fields.items()}

    @classmethod
    def failed(cls, error: str) -> Prediction:
        """A prediction without fields, with this error."""
        return cls(decision="ask a person", error=error)

    def doubted(self, reason: str) -> Self:
        """The same prediction, left to a person for this reason; one that failed is unchanged."""
        return self if self.error is not None else replace(self, decision="ask a person", reason=reason)

    def to_json(self, indent: int | None = None, **extra: Any) -> str:
        """``{"fields": {name: {"value", ...}}, "decision", "reason", "error", "derived"}``, then `extra`.

        Figures that were not computed are left out. An unpaired surrogate, which a model can write, becomes a question
        mark.
        """
        own = {each.name: getattr(self, each.name) for each in fields(Prediction)}  # without a subclass's fields
        text = json.dumps({**_stated(own), **extra}, indent=indent, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode("utf-8")

    @classmethod
    def from_json(cls, text: str) -> Prediction:
        """The prediction that `to_json` wrote. Raises `ValueError` for any other text."""
        prediction = _CODEC.validate_json(text)
        if not prediction.fields and prediction.error is None:
            raise ValueError("neither fields nor an error")
        return prediction


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _stated({each.name: getattr(value, each.name) for each in fields(value)})
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


def _stated(entries: Mapping[str, Any]) -> dict[str, Any]:
    """A dataclass's entries as plain data, without what was not computed."""
    return {key: _plain(entry) for key, entry in entries.items() if entry is not None or key not in _LEFT_OUT}


_LEFT_OUT = {*FieldValue.__dataclass_fields__, "strange", "reward", "probabilities"} - {"value"}
_CODEC = TypeAdapter(Prediction)
