"""`Prediction`: what comes back for one image or text, whatever happened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Distribution = Mapping[str, float]
"""Option -> probability, summing to one."""


@dataclass(frozen=True, slots=True)
class FieldValue:
    """A field's value, with a distribution over its options where one was computed."""

    value: Any
    distribution: Distribution | None = None


@dataclass(frozen=True, slots=True)
class Prediction:
    """A typed answer, or an error value; never a guess.

    `derived` is what follows from the fields without a model (`Form.derive`), by the kind of derivation.
    `decision` is "answer" where the answer may stand, "ask a person" otherwise. `raw` is the text that the
    model wrote. `error` says in one line why there are no fields.
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
        """The error value."""
        return cls(decision="ask a person", raw=raw, error=error)
