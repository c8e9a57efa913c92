"""A decoder that some files make hang or die, in the place of `open_image`."""

from __future__ import annotations

import os
import time
from pathlib import Path

from PIL import Image

from datasets_vision.images import open_image


def hostile(path: Path) -> Image.Image:
    """Hangs or dies if the file's name says so."""
    if path.name == "hangs.png":
        time.sleep(600)
    if path.name == "dies.png":
        os.abort()
    return open_image(path)
