"""Synthetic DICOM files, written tag by tag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

PERSON = {
    "PatientName": "Zwiebel^Quentin",
    "PatientID": "QZ-4711-0815",
    "PatientBirthDate": "19540207",
    "InstitutionName": "Klinik Sankt Nimmerlein",
    "ReferringPhysicianName": "Morgenrot^Adele",
    "AccessionNumber": "ACC998877",
    "StudyDate": "20240229",
    "OtherPatientIDs": "ALT-5566",
}
"""Values that must never appear outside a file."""

PRIVATE = {value for text in PERSON.values() for value in (text, *text.split("^"))}


def write_dicom(path: Path, pixels: np.ndarray, syntax: str = ExplicitVRLittleEndian, **tags: Any) -> Path:
    """Write `pixels` as one file: (height, width), (frames, height, width), or (height, width, 3) with RGB tags."""
    known = Dataset()
    known.file_meta = FileMetaDataset()
    known.file_meta.TransferSyntaxUID = syntax
    known.file_meta.MediaStorageSOPClassUID = known.SOPClassUID = CTImageStorage
    known.file_meta.MediaStorageSOPInstanceUID = known.SOPInstanceUID = generate_uid()
    known.StudyInstanceUID, known.SeriesInstanceUID = generate_uid(), generate_uid()
    known.Modality, known.PhotometricInterpretation, known.SamplesPerPixel = "CT", "MONOCHROME2", 1
    frames, *size = (1, *pixels.shape) if tags.get("SamplesPerPixel") == 3 or pixels.ndim == 2 else pixels.shape
    known.Rows, known.Columns = size[:2]
    if frames > 1:
        known.NumberOfFrames = frames
    bits = pixels.dtype.itemsize * 8
    known.BitsAllocated = known.BitsStored = bits
    known.HighBit, known.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    for name, value in {**PERSON, **tags}.items():
        setattr(known, name, value)
    known.PixelData = pixels.tobytes()
    known["PixelData"].VR = "OW" if bits > 8 else "OB"
    path.parent.mkdir(parents=True, exist_ok=True)
    known.save_as(path, enforce_file_format=True)
    return path


def ramp(low: int = -1000, high: int = 1000, side: int = 32) -> np.ndarray:
    """int16, from `low` at the first pixel to `high` at the last."""
    return np.linspace(low, high, side * side).round().astype(np.int16).reshape(side, side)


def cut_in_the_header(path: Path) -> Path:
    """A file that is cut off within its tags."""
    write_dicom(path, ramp())
    path.write_bytes(path.read_bytes()[:200])
    return path
