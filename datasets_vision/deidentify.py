"""De-identified copies of DICOM files, with a log of what was removed from each.

The log (JSON lines, in the folder of copies) names tags and never their values; source files appear as keyed hashes.
The key is stored beside the folder of copies, not in it: only the key can link a pseudonym to a person. Text burned
into the pixels stays in the copy, and the log says where it is likely to be.
"""

from __future__ import annotations

import io
import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from datasets_vision.burned_in import PixelBox, text_areas
from datasets_vision.confidentiality import Dates, Pseudonyms, private_words, strip
from datasets_vision.dicom import damaged_tags, frame_count, header, is_dicom
from datasets_vision.errors import DataError
from datasets_vision.example import View
from datasets_vision.images import open_image
from datasets_vision.placing import complete_lines
from datasets_vision.walk import Skipped, walk

if TYPE_CHECKING:
    from pydicom import Dataset

LOG = "deidentified.jsonl"
NOTICE = "Text burned into the pixels is NOT removed. Check every file whose entry has text_areas or unchecked."
KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Copied:
    """One file's entry in the log. `text_areas` are [left, top, right, bottom] in pixels, over the checked frames."""

    source: str  # a keyed hash of the path
    file: str  # the copy, relative to the log
    removed: list[str]
    blanked: list[str]
    replaced: list[str]
    private: int
    burned_in_annotation: str  # the tag's value: YES, NO or empty
    text_areas: list[PixelBox]
    unchecked: str | None  # why the pixels could not be checked

    @property
    def doubts(self) -> list[str]:
        """Why a person must check the pixels."""
        doubts = [f"likely text at {', '.join(map(str, self.text_areas))}"] if self.text_areas else []
        doubts += ["its BurnedInAnnotation tag is YES"] if self.burned_in_annotation == "YES" else []
        return doubts + ([self.unchecked] if self.unchecked is not None else [])


@dataclass(slots=True)
class Outcome:
    """What happened to the files of a folder."""

    copied: list[Copied] = field(default_factory=list)
    already_copied: int = 0
    doubtful: int = 0
    failed: list[str] = field(default_factory=list)  # one line each
    skipped: list[Path] = field(default_factory=list)  # files that are not DICOM, hidden folders, and links to folders

    @property
    def exit_code(self) -> int:
        """0: every file was copied; 1: some were not; 3: all were, but some pictures must be checked."""
        return 1 if self.failed else 3 if self.doubtful else 0


def deidentify(
    source: Path,
    out: Path,
    *,
    key_file: Path | None = None,
    dates: Dates = "remove",
    report: Callable[[str], None] = lambda line: None,
) -> Outcome:
    """Copy every DICOM file below `source` to `out`, without anything that may identify a person or place.

    Nothing is overwritten; a second call copies the files that the first did not. `key_file` (by default `out` with
    .key added) is created if it is missing; with the same key, later files of a patient get the same pseudonyms.
    `report` is called with a line for each file that failed or whose pixels must be checked. Raises DataError for
    folders that overlap or cannot be used, if there is no DICOM file, and for an invalid log.
    """
    _check_folders(source, out)
    pseudonyms = Pseudonyms(_key(key_file or out.with_name(f"{out.name}.key")), dates)
    out.mkdir(parents=True, exist_ok=True)
    done, outcome = _read_log(out / LOG), Outcome()
    folders: Skipped = []
    for path in walk(source, skipped=folders):
        relative = path.relative_to(source) if source.is_dir() else Path(path.name)
        name = pseudonyms.of("path", relative.as_posix()).hex()[:24]
        if not is_dicom(path):
            outcome.skipped.append(path)
        elif (entry := done.get(name)) is not None and (out / entry["file"]).is_file():
            outcome.already_copied += 1
            outcome.doubtful += bool(entry["doubtful"])
        else:
            try:
                copied = _copy(path, relative, out, pseudonyms, name)
            except (DataError, OSError) as error:
                outcome.failed.append(str(error))
                report(f"not copied: {error}")
                continue
            outcome.copied.append(copied)
            if copied.doubts:
                outcome.doubtful += 1
                report(f"{out / copied.file}: check its pixels: {'; '.join(copied.doubts)}")
    outcome.skipped += [folder for folder, _ in folders]
    return outcome


def _copy(path: Path, relative: Path, out: Path, pseudonyms: Pseudonyms, name: str) -> Copied:
    import pydicom

    with damaged_tags(path):
        dataset = header(path)
        if "Rows" not in dataset:
            raise DataError(path, "contains no picture", "reports and plans are not copied")
        frame_count(path, dataset)
        words, burned = private_words(dataset), str(dataset.get("BurnedInAnnotation") or "").strip().upper()
        areas, unchecked = _find_text(path, dataset)
        copy = Path(*(_safe_name(part, words, pseudonyms) for part in relative.parts))
        target = out / copy
        if target.exists() or target == out / LOG:
            raise DataError(path, f"{target} already exists but is not in the log", "give an empty folder")
        whole = pydicom.dcmread(path, force=True)
        whole.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
        _clear_hidden_overlays(whole)
        changes = strip(whole, pseudonyms)
        data = _encoded(whole)
    tags = (sorted(changes.removed), sorted(changes.blanked), sorted(changes.replaced))
    burned = burned if burned in ("YES", "NO") else ""
    entry = Copied(name, copy.as_posix(), *tags, changes.private, burned, areas, unchecked)
    _write_copy(target, data, out / LOG, {**asdict(entry), "doubtful": bool(entry.doubts)})
    return entry


def _find_text(path: Path, dataset: Dataset) -> tuple[list[PixelBox], str | None]:
    """The areas of likely text in the first, middle and last frames, and why any of them could not be checked."""
    import numpy as np

    areas: list[PixelBox] = []
    try:
        last = frame_count(path, dataset) - 1
        for frame in sorted({0, round(last / 2), last}):
            found = text_areas(np.asarray(open_image(View(path, frame))))
            areas += [box for box in found if box not in areas]
    except DataError as error:
        return areas, error.reason
    return areas, None


def _clear_hidden_overlays(dataset: Dataset) -> None:
    """Zero the unused bits of the pixels, in which old files store overlays (PS3.5 8.1.2, retired)."""
    import numpy as np

    stored, allocated = int(dataset.get("BitsStored") or 0), int(dataset.get("BitsAllocated") or 0)
    syntax = dataset.file_meta.TransferSyntaxUID
    hidden = any(
        element.tag.group >> 8 == 0x60 and element.tag.element == 0x0102 and element.value for element in dataset
    )
    if not hidden or syntax.is_compressed or "PixelData" not in dataset or not 0 < stored < allocated <= 32:
        return
    words = np.frombuffer(dataset.PixelData, dtype=f"{'<' if syntax.is_little_endian else '>'}u{allocated // 8}")
    shift = int(dataset.HighBit) + 1 - stored
    dataset.PixelData = (words & (((1 << stored) - 1) << shift)).astype(words.dtype).tobytes()


def _encoded(dataset: Dataset) -> bytes:
    """The file's new bytes, with an empty preamble and only the required file meta information."""
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID, SecondaryCaptureImageStorage

    meta = FileMetaDataset()
    meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = UID(dataset.get("SOPClassUID") or SecondaryCaptureImageStorage)
    meta.MediaStorageSOPInstanceUID = UID(dataset.get("SOPInstanceUID") or "")
    dataset.file_meta, dataset.preamble = meta, b"\0" * 128
    written = io.BytesIO()
    dataset.save_as(written, enforce_file_format=True)
    return written.getvalue()


def _write_copy(target: Path, data: bytes, log: Path, entry: dict[str, Any]) -> None:
    """Write the copy under a temporary name, then its log line, then rename it, so that every copy has a log line."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    new = not log.exists()
    with log.open("a", encoding="utf-8") as file:
        lines = ([{"notice": NOTICE}] if new else []) + [entry]
        file.writelines(json.dumps(line) + "\n" for line in lines)
        file.flush()
        os.fsync(file.fileno())
    part.rename(target)


def _safe_name(part: str, words: set[str], pseudonyms: Pseudonyms) -> str:
    """The name of a folder or file, or a pseudonym if it contains a private word (see `private_words`)."""
    letters = "".join(filter(str.isalnum, part)).casefold()
    if not any(word in letters for word in words):
        return part
    suffix = Path(part).suffix
    return pseudonyms.of("name", part).hex()[:16] + (suffix if suffix.lower() == ".dcm" else "")


def _read_log(log: Path) -> dict[str, dict[str, Any]]:
    """The log's entries by source."""
    entries = {}
    for number, line in enumerate(complete_lines(log), 1):
        try:
            entry = json.loads(line)
            if "notice" not in entry:
                entries[str(entry["source"])] = {"file": str(entry["file"]), "doubtful": entry["doubtful"]}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{log}:{number}", "not a line of a de-identification log", "use another folder") from error
    return entries


def _key(path: Path) -> bytes:
    if path.is_file():
        key = path.read_bytes()
        if len(key) < KEY_BYTES:
            raise DataError(path, f"{len(key)} bytes are too few for a key", "delete it to create a new one")
        return key
    key = secrets.token_bytes(KEY_BYTES)
    path.parent.mkdir(parents=True, exist_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(key)
    return key


def _check_folders(source: Path, out: Path) -> None:
    if not os.path.exists(source):
        raise DataError(source, "no such file or folder", "check the path")
    if out.exists() and not out.is_dir():
        raise DataError(out, "is a file, not a folder", "give a folder for the copies")
    here, there = source.resolve(), out.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise DataError(out, f"overlaps with {source}", "give a separate folder for the copies")
    if not any(map(is_dicom, walk(source))):
        raise DataError(source, "contains no DICOM file", "check the path")
