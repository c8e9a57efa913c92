"""The image tokens of one row held to a budget: the photos of a large case are each seen smaller."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from PIL.Image import Image, Resampling
from PIL.Image import new as blank

from vlm_ft.errors import DataError

SMALLEST = 32 * 32
"""Pixels of a photo below which it is not lowered."""

_STEPS = 14  # halvings of the span of areas: the largest that fits is met within a hundredth


def within_budget(processor: Any, image_token_id: int, images: Sequence[Image], budget: int) -> list[Image]:
    """The photos, the larger ones lowered to one area (pixels), so that together they take at most `budget` tokens.

    Their shapes stay. Raises DataError where even the smallest photos take more: a family of fixed image
    tokens, or too many photos.
    """
    sizes = tuple(image.size for image in images)
    if _tokens(processor, image_token_id, sizes) <= budget:
        return list(images)
    least = _tokens(processor, image_token_id, _lowered(sizes, SMALLEST))
    if least > budget:
        raise DataError(
            "",
            f"{len(images)} photos take {least} image tokens at their smallest, more than image_tokens {budget}",
            "raise it, lower pixels.minimum, or show fewer photos",
        )
    low, high = float(SMALLEST), float(max(width * height for width, height in sizes))
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        fits = _tokens(processor, image_token_id, _lowered(sizes, middle)) <= budget
        low, high = (middle, high) if fits else (low, middle)
    return [
        image if image.size == size else image.resize(size, Resampling.BICUBIC)
        for image, size in zip(images, _lowered(sizes, low), strict=True)
    ]


def _lowered(sizes: Sequence[tuple[int, int]], area: float) -> tuple[tuple[int, int], ...]:
    """Sizes of at most `area` pixels, in their shapes."""
    factors = [min(1.0, math.sqrt(area / (width * height))) for width, height in sizes]
    return tuple(
        (max(1, round(width * factor)), max(1, round(height * factor)))
        for (width, height), factor in zip(sizes, factors, strict=True)
    )


@lru_cache(maxsize=4096)
def _tokens(processor: Any, image_token_id: int, sizes: tuple[tuple[int, int], ...]) -> int:
    """Image tokens of photos of these sizes, as the processor itself counts them."""
    photos = [blank("RGB", size) for size in sizes]
    batch = processor(text=[str(processor.image_token) * len(photos)], images=[photos], return_tensors="pt")
    return int((batch["input_ids"] == image_token_id).sum())
