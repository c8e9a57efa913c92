"""Remove from photo files what they say about where, when and by whom they were taken, without decoding them.

Pixels, colour profiles and the orientation stay as they are. JPEG, PNG and WebP lose whole segments; TIFF entries are
blanked in place. GIF and BMP have no EXIF data; for DICOM, see `deidentify`.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path

from datasets_vision.placing import whole_file

_ORIENTATION = 0x0112  # EXIF tag
_IN_XMP = re.compile(rb"tiff:Orientation(?:=\"|>)([1-8])")  # where Pillow looks if the EXIF data have none

_JPEG_MARKER = re.compile(rb"\xff+([^\x00\x01\xff\xd0-\xd8])")  # except those within compressed data, and SOI
_EOI, _APP1, _COMMENT = 0xD9, 0xE1, 0xFE
_APPS = range(0xE0, 0xF0)
_KEPT_APPS = {0xE0: b"JFIF\0", 0xE2: b"ICC_PROFILE\0", 0xEE: b"Adobe"}

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_TEXTS = (b"eXIf", b"tEXt", b"zTXt", b"iTXt", b"tIME")
_PNG_START = len(_PNG) + 25  # the header chunk is the first one, and has 25 bytes

_WEBP_TEXTS = (b"EXIF", b"XMP ")
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04  # flags of the chunk VP8X

_TIFF_TEXTS = (269, 270, 271, 272, 285, 305, 306, 315, 316, 333)  # names, descriptions, machines, dates, people
_TIFF_FOLDERS = (330, 34665, 34853, 40965)  # further directories: previews, EXIF, GPS, interoperability
_ICC = 34675
_LARGEST_BASELINE_TAG = 532
_MOST_DIRECTORIES, _MOST_ENTRIES = 5000, 500  # beyond those, a file is not a photo but an attack
_TIFF_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}


def remove_metadata(photo: Path) -> None:
    """Rewrite a photo without EXIF, XMP and IPTC data, comments and previews; other kinds of files stay as they are."""
    with photo.open("rb") as file:
        head = file.read(12)
    clean = _cleaner(head)
    if clean is None:
        return
    content = photo.read_bytes()
    cleaned = clean(content)
    if cleaned != content:
        with whole_file(photo) as part:
            part.write_bytes(cleaned)


def _cleaner(head: bytes) -> Callable[[bytes], bytes] | None:
    if head.startswith(b"\xff\xd8"):
        return _clean_jpeg
    if head.startswith(_PNG):
        return _clean_png
    if head[:4] == b"RIFF" and head[8:] == b"WEBP":
        return _clean_webp
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return _clean_tiff
    return None


def _clean_jpeg(content: bytes) -> bytes:
    kept, exif, xmp, at = [b"\xff\xd8"], b"", b"", 2
    while found := _JPEG_MARKER.search(content, at):
        kept.append(content[at : found.start()])  # compressed data
        marker, start = found[1][0], found.end()
        if marker == _EOI:  # previews with EXIF data of their own may follow
            kept.append(b"\xff\xd9")
            at = len(content)
            break
        at = start + max(2, int.from_bytes(content[start : start + 2], "big"))
        body = content[start + 2 : at]
        if marker == _APP1 and body.startswith(b"Exif\0"):
            exif = exif or body
        elif marker == _APP1:
            xmp += body
        elif marker != _COMMENT and (marker not in _APPS or body.startswith(_KEPT_APPS.get(marker, b"\0none"))):
            kept += [b"\xff", found[1], content[start:at]]
    kept.append(content[at:])  # of a file that was cut off
    if turned := _turned(exif, xmp):
        kept.insert(1, b"\xff\xe1" + (len(turned) + 2).to_bytes(2, "big") + turned)
    return b"".join(kept)


def _clean_png(content: bytes) -> bytes:
    kept, exif, xmp = [_PNG], b"", b""
    at = len(_PNG)
    while at < len(content):
        size, name = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        start, at = at, at + size + 12
        if name == b"eXIf":
            exif = exif or content[start + 8 : at - 4]
        elif name in _PNG_TEXTS:
            xmp += content[start + 8 : at - 4]
        else:
            kept.append(content[start:at])
        if name == b"IEND":
            break
    cleaned = b"".join(kept)
    if turned := _turned(exif, xmp).removeprefix(b"Exif\0\0"):
        chunk = b"eXIf" + turned
        packed = len(turned).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big")
        return cleaned[:_PNG_START] + packed + cleaned[_PNG_START:]
    return cleaned


def _clean_webp(content: bytes) -> bytes:
    chunks, texts = list[tuple[bytes, bytes]](), dict.fromkeys(_WEBP_TEXTS, b"")
    at, end = 12, min(len(content), 8 + int.from_bytes(content[4:8], "little"))
    while at < end:
        name, size = content[at : at + 4], int.from_bytes(content[at + 4 : at + 8], "little")
        body = content[at + 8 : at + 8 + size]
        if name in texts:
            texts[name] = texts[name] or body
        else:
            chunks.append((name, body))
        at += 8 + size + size % 2
    turned = _turned(*texts.values()).removeprefix(b"Exif\0\0")
    if turned:
        chunks.append((b"EXIF", turned))
    if chunks and chunks[0][0] == b"VP8X" and chunks[0][1]:
        body = chunks[0][1]
        flags = body[0] & ~(_WEBP_EXIF | _WEBP_XMP) | (_WEBP_EXIF if turned else 0)
        chunks[0] = (b"VP8X", bytes([flags]) + body[1:])
    packed = (name + len(body).to_bytes(4, "little") + body + b"\0" * (len(body) % 2) for name, body in chunks)
    whole = b"WEBP" + b"".join(packed)
    return b"RIFF" + len(whole).to_bytes(4, "little") + whole


def _clean_tiff(content: bytes) -> bytes:
    order, big = "<" if content[:2] == b"II" else ">", content[2:4] in (b"+\0", b"\0+")
    cleaned, seen = bytearray(content), {0}
    with suppress(struct.error):  # of a file that was cut off
        (first,) = struct.unpack_from(f"{order}{'Q' if big else 'I'}", cleaned, 8 if big else 4)
        waiting = [(first, False)]
        while waiting and len(seen) <= _MOST_DIRECTORIES:
            at, whole = waiting.pop()
            if at not in seen:
                seen.add(at)
                waiting += _clean_directory(cleaned, at, order, big=big, whole=whole)
    return bytes(cleaned)


def _clean_directory(content: bytearray, at: int, order: str, *, big: bool, whole: bool) -> list[tuple[int, bool]]:
    """Leave out the entries of a TIFF's directory that are not about pixels (`whole`: all).

    Returns where the next directory is, and those that these entries name; the latter are left out as a whole.
    """
    entry, count_of, word = (20, "Q", "Q") if big else (12, "H", "I")
    (count,) = struct.unpack_from(order + count_of, content, at)
    start = at + struct.calcsize(order + count_of)
    end = start + entry * count
    (following,) = struct.unpack_from(order + word, content, end)
    kept, found = b"", [(following, whole)]
    for place in range(start, min(end, start + entry * _MOST_ENTRIES), entry):
        tag, values, inside = _tiff_entry(content, place, order, word)
        if not whole and _about_pixels(tag):
            kept += content[place : place + entry]
            continue
        if tag in _TIFF_FOLDERS:
            found += [(folder, True) for folder in islice(_offsets(content, values, order, word), _MOST_ENTRIES)]
        if not inside:
            _blank(content, values)
    content[start : start + len(kept)] = kept
    struct.pack_into(order + count_of, content, at, len(kept) // entry)
    struct.pack_into(order + word, content, start + len(kept), following)
    _blank(content, range(start + len(kept) + struct.calcsize(order + word), end + struct.calcsize(order + word)))
    return found


def _tiff_entry(content: bytearray, place: int, order: str, word: str) -> tuple[int, range, bool]:
    """The tag of an entry, where its values are, and whether that is within the entry."""
    tag, kind, count = struct.unpack_from(f"{order}HH{word}", content, place)
    place += struct.calcsize(f"{order}HH{word}")
    size = _TIFF_SIZES.get(kind, 1) * count
    if size <= struct.calcsize(order + word):
        return tag, range(place, place + size), True
    (start,) = struct.unpack_from(order + word, content, place)
    return tag, range(start, min(start + size, len(content))), False


def _offsets(content: bytearray, values: range, order: str, word: str) -> Iterator[int]:
    size = struct.calcsize(order + word)
    for place in range(values.start, values.stop - size + 1, size):
        yield from struct.unpack_from(order + word, content, place)


def _about_pixels(tag: int) -> bool:
    return tag == _ICC or (tag <= _LARGEST_BASELINE_TAG and tag not in chain(_TIFF_TEXTS, _TIFF_FOLDERS))


def _blank(content: bytearray, places: range) -> None:
    content[places.start : places.stop] = bytes(len(content[places.start : places.stop]))


def _turned(exif: bytes, xmp: bytes) -> bytes:
    """EXIF data that state the orientation alone; b"" for an upright photo."""
    from PIL import Image

    stated, found = Image.Exif(), Image.Exif()
    with suppress(OSError, SyntaxError, ValueError, EOFError, TypeError, IndexError, KeyError, struct.error):
        stated.load(exif)
    in_xmp = _IN_XMP.search(xmp)
    value = stated.get(_ORIENTATION, int(in_xmp[1]) if in_xmp else 1)
    if value not in range(2, 9):
        return b""
    found[_ORIENTATION] = value
    return found.tobytes()
