"""Read files as UTF-8 text, up to a limit of bytes."""

from __future__ import annotations

from pathlib import Path

from datasets_vision.errors import DataError

_HEAD = 1 << 16  # bytes: in CVAT's XML, the part before the first image grows with the project's labels


def read_text(path: Path, max_bytes: int, remedy: str = "split it into parts") -> str:
    """A file's text without a byte order mark; raises DataError for more than `max_bytes`, and as `decoded` does."""
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise DataError(path, f"{size} bytes are more than {max_bytes}", remedy)
        data = path.read_bytes()
    except OSError as error:
        raise DataError(path, f"cannot be read ({error.strerror})", "check the path and its permissions") from error
    return decoded(path, without_mark(path, data))


def head_of(path: Path, max_bytes: int = _HEAD) -> str:
    """The beginning of a file, by which to recognise it, without a byte order mark; bytes not in UTF-8 are replaced."""
    with path.open("rb") as file:
        return file.read(max_bytes).decode("utf-8-sig", errors="replace")


def without_mark(path: Path, data: bytes) -> bytes:
    """The first bytes of a file without a byte order mark; raises DataError for a UTF-16 mark."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise DataError(path, f"not UTF-8: byte 0x{data[0]:02x} at offset 0 starts a UTF-16 BOM", "save it as UTF-8")
    return data.removeprefix(b"\xef\xbb\xbf")


def decoded(place: object, data: bytes, encoding: str = "utf-8") -> str:
    """Decode bytes of a file; if that fails, raises DataError with the byte and its offset."""
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        problem = f"not {encoding.upper()}: byte 0x{data[error.start]:02x} at offset {error.start}"
        raise DataError(place, problem, "save it as UTF-8") from error
