"""`Prompts`: a batch of prompts for the decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_ft.answers.box_format import Size
from vlm_ft.answers.form import Form


@dataclass(frozen=True)
class Prompts:
    """A batch of prompts, and what the decoder needs to know about each row.

    `batch`: the model's inputs, padded left. `sizes`: the size of each row's image as the base sees it, for boxes in
    pixels. `constants`: the tokens of a sample prompt of each row's form (`Conversation.constant`).
    """

    batch: dict[str, Any]
    forms: Sequence[Form]
    sizes: Sequence[Size | None]
    constants: Sequence[Sequence[int]]

    @property
    def lengths(self) -> list[int]:
        return [int(length) for length in self.batch["attention_mask"].sum(1)]
