"""Read one frame of a DICOM file under a window, as RGB.

Errors name the file and what is wrong with it. No message quotes the value of a tag, which may name a person.
"""

from __future__ import annotations

import contextlib
import os
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.errors import DataError, ImageError
from datasets_vision.example import View, Window
from datasets_vision.windows import DEFAULT_WINDOW, PRESETS, TAG, checked, levels, limits

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PILImage
    from pydicom import Dataset

DICOM_SUFFIXES = frozenset({".dcm", ".dicom", ".dic"})
MAX_PIXELS = 100_000_000  # of any picture, not only of DICOM
MAX_INFLATED = 1 << 30  # bytes of a deflated file once inflated

_PREAMBLE = 128
_DIRECTORY = "DICOMDIR"
_DEFLATED = "1.2.840.10008.1.2.1.99"
_COLOUR = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "YBR_PARTIAL_420"})
_TRANSFER_SYNTAXES = {  # by (implicit VR?, little endian?) as pydicom read the file
    (True, True): "1.2.840.10008.1.2",
    (False, True): "1.2.840.10008.1.2.1",
    (False, False): "1.2.840.10008.1.2.2",
}


@contextlib.contextmanager
def damaged_tags(path: Path) -> Iterator[None]:
    """Turn any exception into a DataError. Wrap all access to a data set in this, because pydicom parses tags lazily.

    pydicom's messages quote values, so they are neither shown nor chained.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise ImageError(path, f"damaged DICOM tags ({type(error).__name__})", "export or copy it again") from None


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its suffix, or by its preamble if it has no suffix or a numeric one (from a UID)."""
    suffix = path.suffix.lower()
    if suffix in DICOM_SUFFIXES:
        return True
    if (suffix and not suffix[1:].isdecimal()) or path.name == _DIRECTORY:
        return False
    return has_preamble(path)


def has_preamble(path: Path) -> bool:
    """Whether the file begins like a DICOM file; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(_PREAMBLE + 4)[_PREAMBLE:] == b"DICM"
    except (OSError, ValueError):  # a name with a null byte
        return False


def header(path: Path) -> Dataset:
    """Read every tag before the pixels; raises DataError if that fails."""
    check_image_file(path)
    import pydicom

    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    warnings.filterwarnings("ignore", module="pydicom")  # its warnings quote the tags' values
    with damaged_tags(path):
        _check_inflated(path)
        dataset = pydicom.dcmread(path, stop_before_pixels=True, force=not has_preamble(path))
        if not has_preamble(path) and "Rows" not in dataset and "SOPClassUID" not in dataset:
            raise ImageError(path, "not a DICOM file", "give a DICOM file, or correct its suffix")
        if "TransferSyntaxUID" not in dataset.file_meta:
            implicit, little_endian = dataset.original_encoding
            dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(
                _TRANSFER_SYNTAXES[bool(implicit), bool(little_endian)]
            )
    return dataset


def frame_count(path: Path, dataset: Dataset) -> int:
    """The number of frames in the file; raises DataError if the tag is damaged."""
    count = _integer(path, dataset, "NumberOfFrames", 1)
    if not 1 <= count <= path.stat().st_size:
        raise ImageError(path, f"NumberOfFrames is {count}, which the file cannot hold", "export it again")
    return count


def is_grey(dataset: Dataset) -> bool:
    """Whether the pixels are grey, so that a window applies."""
    kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2")).strip()
    return kind not in _COLOUR and kind != "PALETTE COLOR"


def check_window(path: Path, dataset: Dataset, window: Window) -> None:
    """Raise DataError for an invalid window, or for a preset (in Hounsfield units) on anything but CT."""
    checked(window, path)
    if isinstance(window, str) and window in PRESETS and dataset.get("Modality") != "CT":
        raise DataError(
            path, f"window {window!r} applies only to CT (Hounsfield units)", f"use {TAG} or {DEFAULT_WINDOW}"
        )


def check_image_file(path: Path) -> None:
    """Raise DataError for a file that is missing or empty."""
    if not os.path.isfile(path):  # also False if the system rejects the name
        raise ImageError(path, "no such image file", "check the path")
    if path.stat().st_size == 0:
        raise ImageError(path, "0 bytes, not an image", "copy the file again")


def check_pixel_count(path: Path, width: int, height: int) -> None:
    """Raise DataError for a picture of more than MAX_PIXELS, before it is decoded."""
    if width * height > MAX_PIXELS:
        raise ImageError(path, f"{width}x{height} is more than {MAX_PIXELS} pixels", "scale the image down")


def dicom_size(path: Path) -> tuple[int, int]:
    """(width, height) in pixels, from the header alone; raises DataError."""
    with damaged_tags(path):
        return _size(path, header(path))


def open_dicom(view: View) -> PILImage:
    """The view's frame as RGB; cropping is left to the caller.

    Grey values go through the modality's rescale, then the window. If the view has none, the file's VOI LUT or window
    applies. A file with neither is shown over its full range if it has up to eight bits, else between its 1st and
    99th percentiles. Raises DataError if the file has no picture, is damaged or too large, or if the window does not
    apply.
    """
    from PIL import Image

    with damaged_tags(view.path):
        dataset = header(view.path)
        values = _values(view, dataset)
        kind = str(dataset.get("PhotometricInterpretation", "MONOCHROME2")).strip()
        if is_grey(dataset) and values.ndim == 2:
            return Image.fromarray(_grey(view, dataset, values, inverted=kind == "MONOCHROME1")).convert("RGB")
        if view.window not in (None, TAG):
            raise DataError(view.path, "a window does not apply to a colour picture", "leave it out")
        try:
            return Image.fromarray(_coloured(dataset, values, palette=kind == "PALETTE COLOR"))
        except Exception as error:
            reason = f"its colours ({kind}) cannot be read ({type(error).__name__})"
            raise ImageError(view.path, reason, "export it again") from None


def _size(path: Path, dataset: Dataset) -> tuple[int, int]:
    if "Rows" not in dataset or "Columns" not in dataset:
        raise ImageError(path, f"contains {_class_name(dataset)}, not a picture", "leave it out")
    width, height = _integer(path, dataset, "Columns"), _integer(path, dataset, "Rows")
    if width < 1 or height < 1:
        raise ImageError(path, f"{width}x{height} is not a picture size", "export it again")
    check_pixel_count(path, width, height)
    return width, height


def _values(view: View, dataset: Dataset) -> np.ndarray:
    """One frame as stored, (height, width) or (height, width, 3) in RGB."""
    from pydicom.pixels.decoders.base import get_decoder

    from datasets_vision import jpeg_frames

    path, syntax = view.path, dataset.file_meta.TransferSyntaxUID
    _size(path, dataset)
    count = frame_count(path, dataset)
    if not 0 <= view.frame < count:
        raise ImageError(path, f"has no frame {view.frame}", f"its frames are 0 to {count - 1}")
    jpeg_frames.register()
    try:
        get_decoder(syntax)
    except (NotImplementedError, ValueError):
        name = syntax.name if syntax.is_transfer_syntax else "unknown"
        raise ImageError(
            path, f"transfer syntax {name} cannot be decoded", "convert it with dcmdjpeg or gdcmconv"
        ) from None
    try:
        return _frame(path, syntax, view.frame)
    except Exception as error:
        raise ImageError(path, _decoding_fault(dataset, error), "export or copy it again") from None


def _frame(path: Path, syntax: Any, frame: int) -> np.ndarray:
    """Decode one frame. pydicom reads only that frame, or the whole file if that fails or the file is deflated."""
    import pydicom
    from pydicom.pixels.utils import pixel_array

    failed: Exception | None = None
    if syntax != _DEFLATED:
        try:
            return pixel_array(path, index=frame, transfer_syntax_uid=syntax)
        except Exception as error:
            failed = error
    try:
        whole = pydicom.dcmread(path, force=True)
        whole.file_meta.TransferSyntaxUID = syntax
        return pixel_array(whole, index=frame)
    except Exception as error:
        raise failed or error from None


def _decoding_fault(dataset: Dataset, error: Exception) -> str:
    """The reason in our own words, since pydicom's messages quote values."""
    message = str(error)
    if isinstance(error, AttributeError) and "no pixel data" in message:
        return f"contains no pixel data ({_class_name(dataset)})"
    if "less than expected" in message or "cannot reshape" in message or isinstance(error, EOFError):
        return "truncated: fewer pixels than its size requires"
    if "missing dependencies" in message:
        return f"{dataset.file_meta.TransferSyntaxUID.name} needs a decoder that is not installed"
    return f"pixel data damaged ({dataset.file_meta.TransferSyntaxUID.name}, {type(error).__name__})"


def _grey(view: View, dataset: Dataset, stored: np.ndarray, inverted: bool) -> np.ndarray:
    """uint8, (height, width)."""
    try:
        shown = _windowed(view, dataset, stored)
    except DataError:
        raise
    except Exception as error:
        reason = f"its rescale or window tags are damaged ({type(error).__name__})"
        raise ImageError(view.path, reason, "export it again") from None
    return 255 - shown if inverted else shown


def _windowed(view: View, dataset: Dataset, stored: np.ndarray) -> np.ndarray:
    from pydicom.pixels.processing import apply_modality_lut

    values = apply_modality_lut(stored, _macro(dataset, "PixelValueTransformationSequence", view.frame))
    values = values * float(dataset.get("DoseGridScaling") or 1)
    window = view.window
    if window is None or window == TAG:
        shown = _by_tag(dataset, _macro(dataset, "FrameVOILUTSequence", view.frame), values)
        if shown is not None:
            return shown
        if window == TAG:
            raise DataError(view.path, "has no window tag", f"give a preset, {DEFAULT_WINDOW}, or (centre, width)")
        bits = int(dataset.BitsStored)
        full_range = bits <= 8 and (values == stored).all()  # a rescale moves the values out of the range of their bits
        window = (2 ** (bits - 1) - 0.5, 2**bits - 1) if full_range else DEFAULT_WINDOW
    check_window(view.path, dataset, window)
    padding = dataset.get("PixelPaddingValue")
    inside = values[stored != padding] if isinstance(padding, int) else values
    return levels(values, *limits(window, inside if inside.size else values))


def _by_tag(dataset: Dataset, voi: Dataset, values: np.ndarray) -> np.ndarray | None:
    """Apply the VOI LUT, else the first window, by the functions in PS3.3 C.11.2.1; None if the file has neither."""
    import numpy as np

    if voi.get("VOILUTSequence"):
        from pydicom.pixels.processing import apply_voi

        table = voi.VOILUTSequence[0]
        return levels(apply_voi(np.rint(values).astype(np.int64), voi), 0, 2 ** int(table.LUTDescriptor[2]) - 1)
    centre, width = _first(voi.get("WindowCenter")), _first(voi.get("WindowWidth"))
    if centre is None or width is None or width <= 0:
        return None
    match str(voi.get("VOILUTFunction") or "LINEAR").strip():
        case "SIGMOID":
            return levels(1 / (1 + np.exp(-4 * (values.astype(np.float64) - centre) / width)), 0, 1)
        case "LINEAR_EXACT":
            return levels(values, centre - width / 2, centre + width / 2)
        case _:
            if width <= 1:
                return levels(values > centre - 0.5, 0, 1)
            return levels(values, centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)


def _macro(dataset: Dataset, name: str, frame: int) -> Dataset:
    """The data set with a frame's rescale or window: its own functional group, the shared one, or the file itself."""
    for groups, place in (("PerFrameFunctionalGroupsSequence", frame), ("SharedFunctionalGroupsSequence", 0)):
        items = dataset.get(groups) or []
        if place < len(items) and items[place].get(name):
            found: Dataset = items[place][name].value[0]
            return found
    return dataset


def _coloured(dataset: Dataset, values: np.ndarray, palette: bool) -> np.ndarray:
    """uint8, (height, width, 3)."""
    from pydicom.pixels.processing import apply_color_lut

    if palette:
        values = apply_color_lut(values, dataset)[..., :3]
        top = 2 ** (8 * values.dtype.itemsize) - 1
    else:
        top = 2 ** int(dataset.BitsStored) - 1
    return levels(values, 0, top)


def _first(value: Any) -> float | None:
    if value is None or isinstance(value, str):
        return float(value) if value else None
    if isinstance(value, int | float):
        return float(value)
    return float(value[0]) if len(value) else None


def _integer(path: Path, dataset: Dataset, name: str, default: int | None = None) -> int:
    """The value of a tag that must be an integer; errors do not quote it."""
    try:
        value = dataset.get(name)
        if value in (None, "") and default is not None:
            return default
        return int(str(value))
    except Exception:
        raise ImageError(path, f"{name} is not an integer", "export it again") from None


def _class_name(dataset: Dataset) -> str:
    uid = dataset.get("SOPClassUID")
    return uid.name if uid is not None and uid.name != str(uid) else "an unknown object"


def _check_inflated(path: Path) -> None:
    """Raise DataError if a deflated file, which must be read whole, would inflate to more than MAX_INFLATED."""
    import pydicom

    if not has_preamble(path):
        return
    try:
        meta = pydicom.filereader.read_file_meta_info(path)
    except Exception:  # anything, as in damaged_tags; the read that follows reports it
        return
    if meta.get("TransferSyntaxUID") != _DEFLATED:
        return
    inflating, size = zlib.decompressobj(-zlib.MAX_WBITS), 0
    with path.open("rb") as file:
        file.seek(_PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength))
        rest = file.read(1 << 16)
        while rest and not inflating.eof and size <= MAX_INFLATED:
            size += len(inflating.decompress(rest, 1 << 20))
            rest = inflating.unconsumed_tail or file.read(1 << 16)
    if size > MAX_INFLATED:
        raise ImageError(path, f"inflates to more than {MAX_INFLATED} bytes", "scale the image down")
