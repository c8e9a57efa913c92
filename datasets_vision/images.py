"""Open images from any source as upright RGB, or fail with a one-line error."""

from __future__ import annotations

import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from datasets_vision.dicom import check_image_file, check_pixel_count, dicom_size, is_dicom, open_dicom
from datasets_vision.errors import DataError, ImageError, cause
from datasets_vision.example import Picture, View
from datasets_vision.walk import IMAGE_SUFFIXES, walk
from datasets_vision.windows import TAG, checked, levels, limits

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

MAX_ASPECT = 200
"""The largest ratio of the longer to the shorter side; base models' processors reject more."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # not EPS or PDF: decoding them starts other programs
_REMEDY = "use a JPEG, PNG, WebP, BMP, TIFF, GIF or DICOM file"
_READ_ERRORS = (OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, KeyError, struct.error)
_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 swap width and height
_HEADER_LOCK = threading.Lock()  # Pillow's own limit is global to the process


def open_image(picture: Picture, *, largest: int | None = None) -> PILImage:
    """Decode a picture as RGB, upright by its EXIF orientation, transparency over white; a path gives its first frame.

    `largest` limits the pixels of the result: a larger picture is scaled down with its aspect ratio kept. JPEG files
    are then decoded at a half, a quarter or an eighth of their size, which takes a fraction of the time.

    Without a window, 16-bit grey is divided by 257, and 32-bit and float grey are stretched from their minimum to
    their maximum; a preset treats the stored values as Hounsfield units. For DICOM, see `open_dicom`.

    Raises DataError for a file that is missing, empty, truncated or not an image; for one that has more than
    MAX_PIXELS or an aspect ratio above `MAX_ASPECT` (checked in the header, before decoding); for a frame or crop
    that does not exist; and for a window on a colour picture.
    """
    view = picture if isinstance(picture, View) else View(picture)
    upright = open_dicom(view) if is_dicom(view.path) else _upright(view, largest)
    shown = upright.crop(_crop(view, *upright.size)) if view.crop else upright
    if largest is not None:
        shown.thumbnail(_within(shown.size, largest), reducing_gap=2)
    return shown


def image_size(picture: Picture) -> tuple[int, int]:
    """(width, height) of the upright picture in pixels, from the header alone; raises DataError as `open_image` does.

    A truncated file passes, since truncation is noticed only during decoding.
    """
    view = picture if isinstance(picture, View) else View(picture)
    if is_dicom(view.path):
        width, height = dicom_size(view.path)
    else:
        with _header(view.path) as image:
            width, height = image.size
            if image.format != "TIFF" and exif_orientation(image) in (5, 6, 7, 8):  # Pillow rotates TIFFs itself
                width, height = height, width
    left, top, right, bottom = _crop(view, width, height)
    return right - left, bottom - top


def opened(picture: Picture | PILImage, *, largest: int | None = None) -> PILImage:
    """A picture as `open_image` opens it; an image in memory is converted and scaled in the same way."""
    if isinstance(picture, Path | View):
        return open_image(picture, largest=largest)
    image = picture if picture.mode == "RGB" else _rgb(picture)
    if largest is None or image.width * image.height <= largest:
        return image
    return image.resize(_within(image.size, largest), reducing_gap=2)


def size_of(picture: Picture | PILImage) -> tuple[int, int]:
    """(width, height) in pixels of a picture, by `image_size`, or of an image in memory."""
    return image_size(picture) if isinstance(picture, Path | View) else picture.size


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix (ignoring case), or by its first bytes for DICOM without a suffix."""
    return path.suffix.lower() in IMAGE_SUFFIXES or is_dicom(path)


def find_images(folder: Path) -> Iterator[Path]:
    """Every image below `folder`, in natural order: 2 before 10."""
    return filter(is_image, walk(folder))


@contextmanager
def _header(path: Path) -> Iterator[PILImage]:
    """The image, opened but not decoded."""
    from PIL import Image, UnidentifiedImageError

    check_image_file(path)
    try:
        with _HEADER_LOCK:  # our own check below, which names the size, replaces Pillow's warning and error
            pillow_limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            try:
                image = Image.open(path, formats=_FORMATS)
            finally:
                Image.MAX_IMAGE_PIXELS = pillow_limit
    except UnidentifiedImageError as error:
        raise ImageError(path, "not a readable image", _REMEDY) from error
    except _READ_ERRORS as error:
        raise ImageError(path, f"damaged image header ({cause(error)})", _REMEDY) from error
    width, height = image.size
    with image:
        check_pixel_count(path, width, height)
        if max(width, height) > MAX_ASPECT * min(width, height):
            raise ImageError(path, f"{width}x{height} has an aspect ratio above {MAX_ASPECT}", "split it")
        yield image


def _within(size: tuple[int, int], largest: int) -> tuple[int, int]:
    """`size` scaled down to at most `largest` pixels, with its aspect ratio kept."""
    width, height = size
    scale = min(1.0, (largest / (width * height)) ** 0.5)
    return max(1, int(width * scale)), max(1, int(height * scale))


def _upright(view: View, largest: int | None) -> PILImage:
    from PIL import ImageOps

    with _header(view.path) as image:
        try:
            if view.frame and not 0 <= view.frame < (frames := getattr(image, "n_frames", 1)):
                raise DataError(view.path, f"has no frame {view.frame}", f"its frames are 0 to {frames - 1}")
            image.seek(view.frame)
            if largest is not None and view.crop is None and view.window is None:  # both need full resolution
                image.draft(None, _within(image.size, largest))
            image.load()
            upright = ImageOps.exif_transpose(image)
            return _rgb(upright) if view.window is None else _windowed(view, upright)
        except _READ_ERRORS as error:
            raise ImageError(view.path, f"truncated or damaged image ({cause(error)})", "save it again") from error


def _crop(view: View, width: int, height: int) -> tuple[int, int, int, int]:
    """The view's crop, which must lie inside the upright image; the whole image if it has none."""
    left, top, right, bottom = view.crop or (0, 0, width, height)
    if not (0 <= left < right <= width and 0 <= top < bottom <= height):
        raise ImageError(view.path, f"the crop {view.crop} lies outside the image {width}x{height}", "correct it")
    return left, top, right, bottom


def exif_orientation(image: PILImage) -> int:
    """The EXIF orientation of an opened image, 1 (upright) to 8; 1 if missing or unreadable."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole file to look for a late EXIF chunk
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except _READ_ERRORS:
        return 1


def _rgb(image: PILImage) -> PILImage:
    from PIL import Image

    if image.mode.startswith("I;16"):
        return _grey(image, low=0, high=65535)
    if image.mode in ("I", "F"):
        low, high = image.getextrema()
        return _grey(image, low=float(str(low)), high=float(str(high)))
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _windowed(view: View, image: PILImage) -> PILImage:
    import numpy as np
    from PIL import Image

    window = checked(view.window or TAG, view.path)
    if window == TAG:
        remedy = "give a preset, percentiles or (centre, width)"
        raise DataError(view.path, "only DICOM files have a window tag", remedy)
    if image.mode not in ("L", "I", "F") and not image.mode.startswith("I;16"):
        raise DataError(view.path, "a window does not apply to a colour picture", "leave it out")
    values = np.asarray(image)
    return Image.fromarray(levels(values, *limits(window, values))).convert("RGB")


def _grey(image: PILImage, low: float, high: float) -> PILImage:
    import numpy as np
    from PIL import Image

    return Image.fromarray(levels(np.asarray(image), low, high)).convert("RGB")
