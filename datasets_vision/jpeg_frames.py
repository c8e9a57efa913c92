"""Decode JPEG frames of DICOM files that pydicom's own decoders do not support: 12-bit, lossless, JPEG-LS.

This is a decoder plugin for pydicom: `is_available`, `DECODER_DEPENDENCIES` and a decoding function.
"""

from __future__ import annotations

import re
from typing import Any

_REQUIRES = ("imagecodecs>=2026.3",)
_JPEG = {"1.2.840.10008.1.2.4.51", "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"}
_JPEG_LS = {"1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81"}
_START_OF_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xf7]..(.)(..)(..)", re.DOTALL)  # bits, height, width

DECODER_DEPENDENCIES = dict.fromkeys(_JPEG | _JPEG_LS, _REQUIRES)
LABEL = "imagecodecs"


def is_available(uid: str) -> bool:
    """Whether the plugin decodes this transfer syntax."""
    return uid in DECODER_DEPENDENCIES


def register() -> None:
    """Register the plugin with pydicom; a second call does nothing."""
    from pydicom.pixels.decoders.base import get_decoder

    for syntax in DECODER_DEPENDENCIES:
        decoder = get_decoder(syntax)
        if LABEL not in decoder.available_plugins:
            decoder.add_plugin(LABEL, (__name__, "decode_frame"))


def decode_frame(source: bytes, runner: Any) -> bytes:
    """The frame's samples, colours interleaved; raises ValueError if its size differs from the data set's."""
    import imagecodecs

    found = _START_OF_FRAME.search(source)
    stated = found and (int.from_bytes(found[2]), int.from_bytes(found[3]))
    if stated != (runner.rows, runner.columns):
        raise ValueError("the size of the compressed frame differs from the data set's")
    if str(runner.transfer_syntax) in _JPEG_LS:
        frame = imagecodecs.jpegls_decode(source)
    elif runner.samples_per_pixel > 1:  # as stored: pydicom converts colours itself
        frame = imagecodecs.jpeg_decode(source, colorspace="RGB", outcolorspace="RGB")
    else:
        frame = _signed(imagecodecs.jpeg_decode(source), runner)
    if runner.samples_per_pixel > 1:
        runner.set_option("planar_configuration", 0)
    runner.set_option("bits_allocated", frame.dtype.itemsize * 8)
    return bytes(frame.tobytes())


def _signed(frame: Any, runner: Any) -> Any:
    """Sign-extend samples that have fewer bits than their container."""
    spare = frame.dtype.itemsize * 8 - runner.bits_stored
    if runner.pixel_representation == 0 or spare <= 0:
        return frame
    return (frame.view(f"i{frame.dtype.itemsize}") << spare) >> spare
