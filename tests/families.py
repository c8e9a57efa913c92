"""The tiny vision-language models that a test runs on: some of them, or all for the family matrix."""

from __future__ import annotations

import os

from vlm_ft.bases.tiny import TINY

EVERY = "VLM_FT_EVERY_FAMILY"  # set it to run such tests on every family
SEEING = [name for name, tiny in TINY.items() if tiny.processor is not None]


def families(*some: str) -> list[str]:
    """These families; all that see if the environment asks for them."""
    return SEEING if os.environ.get(EVERY) else list(some)
