"""`BaseRef`: identifies a base. Importing this module does not import torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from vlm_ft.answers.kinds import Strict


class BaseRef(Strict):
    """The base that an adapter belongs to; `fingerprint` is of its weight files (`bases.load.fingerprint`)."""

    name: str
    revision: str | None = None
    fingerprint: str
    model_type: str
    kind: Literal["vision", "text"] = Field(description="image-text-to-text, or causal")
