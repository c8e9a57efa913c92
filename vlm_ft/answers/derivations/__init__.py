"""Results computed from an answer without a model, such as a repair estimate or a maintenance priority.

A derivation is data (the rows of a rate card or of a priority table), so an adapter's card can store it, and serving
computes the same results as training. To add a kind, write one module and add it to `Derivation`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from vlm_ft.answers.derivations.estimate import RateCard
from vlm_ft.answers.derivations.priority import PriorityTable

Derivation = Annotated[RateCard | PriorityTable, Field(discriminator="kind")]
"""Each has `kind`, `name`, `version`, a `result` type, `derivable(paths)` and `derive(values)`."""
