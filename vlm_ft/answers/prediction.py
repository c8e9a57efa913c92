"""`Prediction`: what comes back for one image or text, and its one JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Any, Literal, NamedTuple

from pydantic import TypeAdapter

Distribution = Mapping[str, float]
"""Option -> probability, summing to one."""


class FieldValue(NamedTuple):
    """A field's value, with a distribution over its options where one was computed."""

    value: Any
    distribution: Distribution | None = None

    @property
    def probability(self) -> float | None:
        """Of the value; None without a distribution."""
        if self.distribution is None:
            return None
        option = self.value if isinstance(self.value, str) else json.dumps(self.value)  # true, false, 7
        return self.distribution.get(option)


@dataclass(frozen=True, slots=True)
class Prediction:
    """A typed answer, or an error; never a guess.

    `derived` holds the results of the form's derivations (`Form.derive`), by kind. `decision` is "answer" where the
    answer may stand, "ask a person" otherwise. `raw` is the text that the model wrote. `error` says in one line why
    there are no fields.
    """

    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    decision: Literal["answer", "ask a person"] = "answer"
    raw: str = ""
    error: str | None = None
    derived: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Field name -> value."""
        return {name: entry.value for name, entry in self.fields.items()}

    @classmethod
    def failed(cls, error: str, raw: str = "") -> Prediction:
        """A prediction without fields, for this reason."""
        return cls(decision="ask a person", raw=raw, error=error)

    def to_json(self, indent: int | None = None, **extra: Any) -> str:
        """``{"fields": {name: [value, distribution or null]}, "decision", "raw", "error", "derived"}``.

        `extra` entries follow. Half a surrogate pair, which a model can write, becomes a question mark.
        """
        text = json.dumps({**asdict(self), **extra}, indent=indent, ensure_ascii=False)
        return text.encode("utf-8", "replace").decode("utf-8")

    @classmethod
    def from_json(cls, text: str) -> Prediction:
        """The prediction that `to_json` wrote. Raises `ValueError` for any other text."""
        prediction = _codec().validate_json(text)
        if not prediction.fields and prediction.error is None:
            raise ValueError("neither fields nor an error")
        return prediction


@cache
def _codec() -> TypeAdapter[Prediction]:
    return TypeAdapter(Prediction)
