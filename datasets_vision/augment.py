"""Augmentation that keeps labels correct: boxes move with the image, and a draw that hides an object is rejected."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import BOX_SCALE, LabelledObject, normalised_box, photo_of

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # no check for newer versions on import

MIN_VISIBLE = 0.4
"""The share of an object's area that must stay visible."""

Step = tuple[str, dict[str, Any]]


def _brightness(limit: float) -> Step:
    return ("RandomBrightnessContrast", {"brightness_limit": limit, "contrast_limit": limit, "p": 0.8})


def _crop(max_share: float) -> Step:
    """Crop up to `max_share` of each side and keep the size: scale, shift and crop in one, without padding.

    It must stay the only cropping step, because MIN_VISIBLE applies to each step separately.
    """
    return ("CropAndPad", {"percent": (-max_share, 0.0), "keep_size": True, "p": 0.8})


def _colour(hue: int, saturation: int) -> Step:
    limits = {"hue_shift_limit": hue, "sat_shift_limit": saturation, "val_shift_limit": 0}
    return ("HueSaturationValue", {**limits, "p": 0.5})


_MIRROR: Step = ("HorizontalFlip", {"p": 0.5})
_TURNS: tuple[Step, ...] = (_MIRROR, ("VerticalFlip", {"p": 0.5}), ("RandomRotate90", {"p": 0.5}))
_LIGHT: tuple[Step, ...] = (_brightness(0.15), _crop(0.1))
_LENS: tuple[Step, ...] = (
    ("GaussianBlur", {"sigma_limit": (0.3, 0.9), "blur_limit": 0, "p": 0.2}),
    ("GaussNoise", {"std_range": (0.005, 0.03), "p": 0.3}),  # last: its draws depend on the image's size
)
_PATIENT: Step = (
    "Affine",
    # "ellipse" keeps the boxes of round objects tight; lesions are round rather than square.
    {
        "rotate": (-3, 3),
        "scale": (0.95, 1.05),
        "translate_percent": (-0.02, 0.02),
        "rotate_method": "ellipse",
        "p": 0.8,
    },
)

AUGMENTATIONS: dict[str, tuple[Step, ...]] = {
    "none": (),
    "light": _LIGHT,
    "flips": _LIGHT + _TURNS,  # for surfaces without a fixed orientation
    "surfaces": (_brightness(0.2), _crop(0.12), *_TURNS, *_LENS),
    "cars": (_brightness(0.2), _colour(6, 20), _crop(0.12), _MIRROR, *_LENS),  # cars are upright
    "aircraft": (_brightness(0.25), _colour(4, 15), _crop(0.15), *_TURNS, *_LENS),
    "scans": (_brightness(0.06), _PATIENT),  # grey levels and sides carry meaning
    "documents": (_brightness(0.15), _crop(0.04), ("ImageCompression", {"quality_range": (55, 95), "p": 0.4}), *_LENS),
    "objects": (_brightness(0.25), _colour(10, 30), _crop(0.2), _MIRROR, *_LENS),
    "waste": (_brightness(0.25), _colour(10, 30), _crop(0.2), *_TURNS, *_LENS),  # seen from above
}
"""The steps of each preset: the name of an albumentations transform and its arguments."""

_LATERAL = frozenset(["left", "right", "lh", "rh", "port", "starboard", "driver", "passenger", "nearside", "offside"])
_VERTICAL = frozenset(["top", "bottom", "upper", "lower", "upside", "underside", "above", "below", "overhead"])
BROKEN_WORDS: dict[str, frozenset[str]] = {
    "HorizontalFlip": _LATERAL,
    "VerticalFlip": _LATERAL | _VERTICAL,  # a mirror image, however it is rotated
    "RandomRotate90": _LATERAL | _VERTICAL,
}
"""The words in a label that each step makes wrong."""


def steps_of(preset: str) -> tuple[Step, ...]:
    """The steps of a preset. Raises DataError for an unknown one."""
    if preset not in AUGMENTATIONS:
        raise DataError("", f"unknown augmentation {preset!r}", nearest(preset, AUGMENTATIONS))
    return AUGMENTATIONS[preset]


def broken_word(preset: str, labels: Iterable[str]) -> tuple[str, str] | None:
    """The first (label, word) that the preset makes wrong, such as ("left_door", "left") for a flip; None if safe."""
    words = frozenset[str]().union(*(BROKEN_WORDS.get(name, frozenset()) for name, _ in steps_of(preset)))
    for label in labels:
        for word in re.findall(r"[a-z]+", label.lower().replace("l/h", "lh").replace("r/h", "rh")):
            if word in words:
                return label, word
    return None


def safe_presets(labels: Iterable[str]) -> list[str]:
    """The presets that keep every label correct."""
    names = list(labels)
    return [preset for preset in AUGMENTATIONS if broken_word(preset, names) is None]


def augment_together(
    images: Sequence[PILImage], objects: tuple[LabelledObject, ...] | None, preset: str, seed: int
) -> tuple[tuple[PILImage, ...], tuple[LabelledObject, ...] | None]:
    """Apply the same random draw of `preset` to every RGB image of one example, so that they stay aligned.

    The same seed gives the same draw. Sizes may differ, since a draw is relative to the image size. Boxes are in
    0..1000 of the image before and after. If less than MIN_VISIBLE of an object's area would stay visible in its image
    (see `photo_of`), everything is returned unchanged. Raises DataError for an unknown preset.
    """
    if not steps_of(preset) or not images:
        return tuple(images), objects
    boxed: list[dict[int, tuple[int, int, int, int]]] = [{} for _ in images]
    for place, obj in enumerate(objects or ()):
        if obj.box is not None:
            boxed[photo_of(obj, len(images))][place] = obj.box
    drawn = [_draw(image, boxes, preset, seed) for image, boxes in zip(images, boxed, strict=True)]
    if any(len(kept) < len(boxes) for (_, kept), boxes in zip(drawn, boxed, strict=True)):
        return tuple(images), objects
    pixels = tuple(image for image, _ in drawn)
    if objects is None:
        return pixels, None
    moved = {place: box for _, kept in drawn for place, box in kept.items()}
    return pixels, tuple(
        replace(obj, box=normalised_box(*moved[place], 1, 1)) if place in moved else obj
        for place, obj in enumerate(objects)
    )


def _draw(
    image: PILImage, boxed: dict[int, tuple[int, int, int, int]], preset: str, seed: int
) -> tuple[PILImage, dict[int, tuple[float, float, float, float]]]:
    """The augmented image, and the boxes (0..1) that stayed visible, by object index."""
    import albumentations
    import numpy as np
    from PIL import Image

    pipeline = albumentations.Compose(
        [getattr(albumentations, name)(**arguments) for name, arguments in AUGMENTATIONS[preset]],
        bbox_params=albumentations.BboxParams(
            format="albumentations", label_fields=["places"], min_visibility=MIN_VISIBLE
        ),
    )
    # One generator for all steps: given `seed`, every step would start the same random sequence,
    # and all flips would coincide.
    pipeline.set_random_state(np.random.default_rng(seed), random.Random(seed))
    drawn = pipeline(
        image=np.asarray(image.convert("RGB")),
        bboxes=[[side / BOX_SCALE for side in box] for box in boxed.values()],
        places=list(boxed),
    )
    kept = {int(place): tuple(map(float, box)) for place, box in zip(drawn["places"], drawn["bboxes"], strict=True)}
    return Image.fromarray(drawn["image"]), kept  # type: ignore[return-value]  # four sides each
