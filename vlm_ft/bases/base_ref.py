"""`BaseRef`: which base something belongs to; light enough to read a card without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlm_ft.answers.kinds import Strict


class BaseRef(Strict):
    """Which base an adapter belongs to; `fingerprint` is of its weight files (`models.load.fingerprint`)."""

    name: str
    revision: str | None = None
    fingerprint: str
    model_type: str
    kind: Literal["vision", "text"] = Field(description="image-text-to-text, or causal")
