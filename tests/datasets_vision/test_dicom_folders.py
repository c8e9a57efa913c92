"""Folders of DICOM files: classes, patients, frames and tables of labels; no patient is named."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from datasets_vision.example import View
from datasets_vision.formats import detect
from datasets_vision.source import Source, read
from tests.datasets_vision.made_dicom import PERSON, PRIVATE, cut_in_the_header, ramp, write_dicom


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    for index, patient in enumerate(("A", "A", "B")):
        folder = tmp_path / ("train" if index else "test") / ("normal" if patient == "A" else "tumour")
        write_dicom(folder / f"scan{index}.dcm", np.stack([ramp()] * 3), PatientID=f"{PERSON['PatientID']}{patient}")
    return tmp_path


def test_a_folder_of_classes_groups_by_patient_and_names_no_patient(patients):
    assert detect(patients) == "dicom"
    reading = read(Source(path=patients, window="bone", columns={"modality": "Modality"}))
    assert [example.label.image_class for example in reading.examples] == ["normal", "normal", "tumour"]
    assert [example.role for example in reading.examples] == ["test", "train", "train"]
    assert all(example.label.columns == {"modality": "CT"} for example in reading.examples)
    first, second, third = (example.group for example in reading.examples)
    assert first == second != third
    assert all(isinstance(image, View) and image.window == "bone" for e in reading.examples for image in e.images)
    assert not any(private in repr(reading) for private in PRIVATE)


def test_frames_are_first_middle_or_each(patients):
    assert [e.images[0] for e in read(Source(path=patients)).examples] == sorted(patients.rglob("*.dcm"))
    middle = read(Source(path=patients, frames="middle")).examples
    assert [image.frame for e in middle for image in e.images] == [1, 1, 1]
    each = read(Source(path=patients, frames="each")).examples
    assert [image.frame for e in each for image in e.images] == [0, 1, 2] * 3
    assert len({example.id for example in each}) == 9
    assert len({example.group for example in each}) == 2


def test_labels_come_from_a_table_by_path_name_or_stem(tmp_path):
    for name in ("x/one.dcm", "two.dcm", "three.dcm", "four.dcm"):
        write_dicom(tmp_path / name, ramp())
    rows = "file,finding\r\nx/one.dcm,cyst\r\ntwo,none\r\nlost.dcm,cyst\r\nthree.dcm,none\r\n"
    (tmp_path / "labels.csv").write_bytes(b"\xef\xbb\xbf" + rows.encode())
    reading = read(Source(path=tmp_path))
    assert [e.label.columns["finding"] for e in reading.examples] == ["none", "none", "cyst"]  # three, two, x/one
    reasons = sorted(entry.reason for entry in reading.set_aside)
    assert "lost.dcm" in reasons[0]
    assert reasons[1].startswith("not in a class folder")


def test_unusable_files_are_set_aside(patients):
    cut_in_the_header(patients / "train" / "normal" / "cut.dcm")
    (patients / "notes.txt").write_text("x")
    write_dicom(patients / "train" / "zwiebel_quentin" / "a.dcm", ramp())
    write_dicom(patients / "train" / "QZ-4711-0815" / "a.dcm", ramp())
    reading = read(Source(path=patients))
    assert len(reading.examples) == 3
    assert len(reading.set_aside) == 4
    assert sum("class folder has the patient" in entry.reason for entry in reading.set_aside) == 2


def test_a_name_that_is_not_utf8_is_read_like_any_other(patients):
    (patients / "test/normal/scan0.dcm").rename(os.fsdecode(os.fsencode(patients) + b"/test/normal/\xff\xfe.dcm"))
    reading = read(Source(path=patients))
    assert (len(reading.examples), reading.set_aside) == (3, ())
    assert all(example.id.isascii() for example in reading.examples)


def test_ids_are_the_same_in_every_locale(patients, monkeypatch):
    (patients / "test/normal/scan0.dcm").rename(patients / "test/normal/\u00fc.dcm")
    source = Source(path=patients, format="dicom")
    before = [example.id for example in read(source).examples]
    monkeypatch.setattr("os.fsencode", lambda text: str(text).encode("latin-1", "surrogateescape"))
    assert [example.id for example in read(source).examples] == before


def test_a_preset_for_another_modality_sets_the_file_aside(patients):
    write_dicom(patients / "train" / "normal" / "mr.dcm", ramp(), Modality="MR")
    set_aside = read(Source(path=patients, window="lung")).set_aside
    assert ["applies only to CT" in entry.reason for entry in set_aside] == [True]
