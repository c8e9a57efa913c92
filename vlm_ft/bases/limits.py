"""`Limits`: what images and rows are held to; light enough to read a recipe or a card without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """The least and the most pixels of one image, and the most image tokens of a row; None: as the base has it."""

    pixels: tuple[int, int] | None = None
    image_tokens: int | None = None
