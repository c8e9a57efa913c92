"""`Limits` on images and rows. Importing this module does not import torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Minimum and maximum pixels of one image, and maximum image tokens of a row; None: the base's own limit."""

    pixels: tuple[int, int] | None = None
    image_tokens: int | None = None
