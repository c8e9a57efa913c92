"""Which values of a scan are shown: a window from a tag, a preset, two percentiles, or centre and width."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from datasets_vision.errors import DataError, nearest
from datasets_vision.example import Window

if TYPE_CHECKING:
    import numpy as np

TAG = "tag"
"""The window stated in the file itself."""

PRESETS: dict[str, tuple[float, float]] = {
    "brain": (40, 80),
    "stroke": (35, 40),
    "subdural": (75, 215),
    "temporal bone": (600, 2800),
    "lung": (-600, 1500),
    "mediastinum": (50, 350),
    "angiography": (300, 600),
    "abdomen": (50, 400),
    "liver": (60, 160),
    "spine": (50, 250),
    "bone": (400, 1800),
}
"""(centre, width) in Hounsfield units, so for computed tomography only."""

DEFAULT_WINDOW = "p1-p99"
"""The window for a file of more than eight bits that has none."""

_PERCENTILES = re.compile(r"p([0-9]+(?:\.[0-9]+)?)-p([0-9]+(?:\.[0-9]+)?)")


def checked(window: Window, place: object = "") -> Window:
    """Return the window if it is valid; otherwise raise DataError at `place`."""
    if not isinstance(window, str):
        if not window[1] > 0:
            raise DataError(place, f"window {tuple(window)} has no width", "give (centre, width), with a width above 0")
        return window
    if (found := _PERCENTILES.fullmatch(window)) is not None:
        if not float(found[1]) < float(found[2]) <= 100:
            remedy = f"give two percentiles from 0 to 100, the smaller first, as in {DEFAULT_WINDOW}"
            raise DataError(place, f"invalid window {window!r}", remedy)
    elif window not in PRESETS and window != TAG:
        raise DataError(place, f"unknown window {window!r}", nearest(window, [*PRESETS, TAG, DEFAULT_WINDOW]))
    return window


def limits(window: Window, values: np.ndarray) -> tuple[float, float]:
    """The values shown as black and as white under a preset, two percentiles of `values`, or (centre, width)."""
    import numpy as np

    if isinstance(window, str) and (found := _PERCENTILES.fullmatch(window)) is not None:
        known = values[np.isfinite(values)] if values.dtype.kind == "f" else values
        if known.size == 0:
            return 0.0, 0.0
        low, high = np.percentile(known, (float(found[1]), float(found[2])))
        if low == high:  # nearly all pixels have one value, as in a mask or a black frame with a mark
            low, high = known.min(), known.max()
        return float(low), float(high)
    centre, width = PRESETS[window] if isinstance(window, str) else window
    return centre - width / 2, centre + width / 2


def levels(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale `values` to uint8: 0 at `low` and below, 255 at `high` and above; NaN becomes 0."""
    import numpy as np

    scale = 255 / (high - low) if high > low else 0.0
    stretched = np.nan_to_num((values.astype(np.float64) - low) * scale, nan=0.0, posinf=255.0, neginf=0.0)
    return np.clip(np.rint(stretched), 0, 255).astype(np.uint8)
