"""De-identified copies: no byte of them identifies the person, and the picture is the same."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ImplicitVRLittleEndian
from typer.testing import CliRunner

from datasets_vision.burned_in import PixelBox, text_areas
from datasets_vision.confidentiality import TEXT_KEPT, Pseudonyms, strip
from datasets_vision.deidentify import LOG, NOTICE, deidentify
from datasets_vision.images import open_image
from datasets_vision.source import Source, read
from tests.datasets_vision.made import DATA
from tests.datasets_vision.made_dicom import PERSON, PRIVATE, ramp, write_dicom
from vlm_ft.cli import app
from vlm_ft.errors import DataError

SAMPLES = DATA / "scan_abnormalities" / "dicom_samples"
CHESTS = DATA / "scan_abnormalities" / "chest_xray_nih"
MARKS = {
    "AE": "QQMARKQQ",
    "AS": "077Y",
    "DA": "19540207",
    "DT": "19540207112233",
    "LO": "QQMARKQQ",
    "LT": "QQMARKQQ",
    "PN": "QQMARKQQ^QQMARKQQ",
    "SH": "QQMARKQQ",
    "ST": "QQMARKQQ",
    "TM": "112233",
    "UC": "QQMARKQQ",
    "UI": "1.2.3.777777.1",
    "UR": "http://qqmarkqq/",
    "UT": "QQMARKQQ",
}
NEVER = (b"QQMARKQQ", b"19540207", b"112233", b"077Y", b"777777.1", b"qqmarkqq")


def marked(vr_wanted: str) -> Dataset:
    """All of the standard's tags with this VR, each with a mark that must not survive."""
    known = Dataset()
    for tag, (vr, *_) in DicomDictionary.items():
        keyword = keyword_for_tag(tag)
        if vr == vr_wanted and tag >> 16 > 0x0007 and keyword not in TEXT_KEPT:
            known.add_new(tag, vr, MARKS[vr])
    return known


@pytest.mark.parametrize("dates", ["remove", "shift"])
@pytest.mark.parametrize("vr", sorted(MARKS))
def test_no_text_date_or_uid_of_the_whole_dictionary_survives(tmp_path, vr, dates):
    path = write_dicom(tmp_path / "in" / "a.dcm", ramp())
    known = pydicom.dcmread(path)
    flat, nested = marked(vr), marked(vr)
    for element in flat:
        if element.keyword not in ("SOPClassUID", "SpecificCharacterSet"):
            known[element.tag] = element
    known.DerivationCodeSequence = Sequence([nested])
    known.PerFrameFunctionalGroupsSequence = Sequence([nested])
    known.add_new(0x00091001, "LO", "QQMARKQQ")
    known.save_as(path)
    assert len(flat) > 1
    outcome = deidentify(tmp_path / "in", tmp_path / "out", dates=dates)
    assert not outcome.failed
    left = (tmp_path / "out" / "a.dcm").read_bytes() + (tmp_path / "out" / LOG).read_bytes()
    assert not [mark for mark in NEVER if mark in left and (mark != b"112233" or dates == "remove")]


def test_identity_is_removed_and_what_the_picture_needs_is_kept(tmp_path):
    institution = Dataset()
    institution.CodeValue, institution.CodingSchemeDesignator, institution.CodeMeaning = "KSN", "99X", "Nimmerlein"
    path = write_dicom(
        tmp_path / "in" / "a.dcm",
        ramp(),
        InstitutionCodeSequence=Sequence([institution]),
        PatientSex="M",
        PatientWeight=81,
        BurnedInAnnotation="NO",
        WindowCenter=40,
        WindowWidth=400,
        RescaleSlope=1,
        RescaleIntercept=-24,
        BodyPartExamined="CHEST",
        PixelSpacing=[0.5, 0.5],
        KVP=120,
    )
    whole = pydicom.dcmread(path)
    whole.preamble = b"Zwiebel^Quentin".ljust(128, b"\0")
    whole.file_meta.SourceApplicationEntityTitle = "NIMMERLEIN"
    whole.private_block(0x0011, "Zwiebel", create=True).add_new(1, "LO", "Zwiebel")
    whole.add_new(0x60003000, "OW", b"\1\0" * 64)
    whole.save_as(path)
    assert all(value.encode() in path.read_bytes() for value in PERSON.values())
    deidentify(tmp_path / "in", tmp_path / "out")
    written = (tmp_path / "out" / "a.dcm").read_bytes()
    assert not [word for word in (*PRIVATE, "Nimmerlein", "NIMMERLEIN") if word.encode() in written]
    known = pydicom.dcmread(tmp_path / "out" / "a.dcm")
    assert (known.WindowCenter, known.RescaleIntercept, known.KVP, known.PixelSpacing) == (40, -24, 120, [0.5, 0.5])
    assert (known.Modality, known.BodyPartExamined, known.BurnedInAnnotation) == ("CT", "CHEST", "NO")
    assert (known.PatientIdentityRemoved, known.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert known.PatientSex == known.PatientBirthDate == known.StudyDate == ""
    assert "PatientWeight" not in known
    assert 0x60003000 not in known
    assert known.file_meta.MediaStorageSOPInstanceUID == known.SOPInstanceUID
    entry = json.loads((tmp_path / "out" / LOG).read_text().splitlines()[1])
    assert {"InstitutionName", "PatientWeight", "InstitutionCodeSequence"} <= set(entry["removed"])
    assert {"PatientID", "StudyInstanceUID"} <= set(entry["replaced"])
    assert entry["private"] == 2
    assert (open_pixels(path) == open_pixels(tmp_path / "out" / "a.dcm")).all()


def open_pixels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path))


@pytest.mark.skipif(not SAMPLES.is_dir(), reason=f"no {SAMPLES}; set VLM_FT_DATA")
def test_real_copies_show_the_same_picture(tmp_path):
    outcome = deidentify(SAMPLES, tmp_path / "out")
    assert [line.split(":")[0].rsplit("/")[-1] for line in outcome.failed] == ["badVR.dcm"]
    assert len(outcome.copied) == 11
    for copied in outcome.copied:
        copy = tmp_path / "out" / copied.file
        assert pydicom.dcmread(copy).PixelData == pydicom.dcmread(SAMPLES / copied.file).PixelData
        if copied.unchecked is None:
            assert (open_pixels(copy) == open_pixels(SAMPLES / copied.file)).all(), copied.file
    left = b"".join(path.read_bytes() for path in sorted((tmp_path / "out").iterdir()))
    known = [pydicom.dcmread(path, stop_before_pixels=True) for path in sorted(SAMPLES.glob("*.dcm"))]
    names = {str(each.get(tag)) for each in known for tag in ("PatientName", "StudyInstanceUID", "SOPInstanceUID")}
    assert not [name for name in names - {"", "None"} if name.encode() in left]


def test_one_key_gives_consistent_uids_and_patients(tmp_path):
    for index in range(3):
        write_dicom(
            tmp_path / "in" / f"{index}.dcm",
            ramp(),
            StudyInstanceUID="1.2.3.4",
            ReferencedImageSequence=Sequence([reference("1.2.3.5")]),
            SeriesInstanceUID="1.2.3.5",
            PatientID="A" if index < 2 else "B",
        )
    deidentify(tmp_path / "in", tmp_path / "one")
    deidentify(tmp_path / "in", tmp_path / "two", key_file=tmp_path / "one.key")
    deidentify(tmp_path / "in", tmp_path / "other")
    one, two, other = (
        [pydicom.dcmread(tmp_path / name / f"{index}.dcm") for index in range(3)] for name in ("one", "two", "other")
    )
    assert [known.PatientID for known in one] == [known.PatientID for known in two]
    assert one[0].PatientID == one[1].PatientID != one[2].PatientID
    assert one[0].PatientID != other[0].PatientID
    assert {known.StudyInstanceUID for known in one} == {two[0].StudyInstanceUID} != {"1.2.3.4"}
    assert one[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID == one[0].SeriesInstanceUID
    assert one[0].SOPClassUID == pydicom.uid.CTImageStorage
    assert (tmp_path / "one.key").stat().st_mode & 0o077 == 0
    groups = {example.group for example in read(Source(path=tmp_path / "one", image_class="([0-9])")).examples}
    assert len(groups) == 2


def test_pseudonyms_are_the_same_in_every_locale(monkeypatch):
    before = Pseudonyms(b"key").patient("J\u00fcrgen\udcff")
    monkeypatch.setattr("os.fsencode", lambda text: text.encode("latin-1", "surrogateescape"))
    assert Pseudonyms(b"key").patient("J\u00fcrgen\udcff") == before


def reference(uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = pydicom.uid.CTImageStorage, uid
    return item


def test_dates_move_by_the_same_days_for_a_patient():
    def dated(patient: str, date: str) -> Dataset:
        known = Dataset()
        known.PatientID, known.StudyDate, known.AcquisitionDateTime = patient, date, f"{date}101112.5"
        known.StudyTime, known.PatientBirthDate = "101112", "19540207"
        return known

    sets = [dated("A", "20240229"), dated("A", "20240310"), dated("B", "20240229")]
    for known in sets:
        strip(known, Pseudonyms(b"k" * 32, "shift"))
    days = [np.datetime64(f"{k.StudyDate[:4]}-{k.StudyDate[4:6]}-{k.StudyDate[6:]}") for k in sets]
    assert (days[1] - days[0]).astype(int) == 10
    assert days[0] < np.datetime64("2024-02-29")
    assert days[0] != days[2]
    assert sets[0].AcquisitionDateTime == f"{sets[0].StudyDate}101112.5"
    assert (sets[0].StudyTime, sets[0].PatientBirthDate) == ("101112", "")
    assert len(sets[0].DeidentificationMethodCodeSequence) == 2


def test_overlays_in_unused_bits_are_cleared(tmp_path):
    words = ramp(0, 4095).astype(np.uint16)
    path = write_dicom(tmp_path / "in" / "a.dcm", words | 0xF000, BitsStored=12, HighBit=11)
    whole = pydicom.dcmread(path)
    whole.add_new(0x60000100, "US", 16)
    whole.add_new(0x60000102, "US", 12)
    whole.save_as(path)
    deidentify(tmp_path / "in", tmp_path / "out")
    assert pydicom.dcmread(tmp_path / "out" / "a.dcm").PixelData == words.tobytes()


def test_implicit_files_keep_ambiguous_elements(tmp_path):
    path = write_dicom(tmp_path / "in" / "a.dcm", ramp(), ImplicitVRLittleEndian, PixelPaddingValue=-1000)
    deidentify(tmp_path / "in", tmp_path / "out")
    assert pydicom.dcmread(tmp_path / "out" / "a.dcm").PixelPaddingValue == -1000
    assert (open_pixels(path) == open_pixels(tmp_path / "out" / "a.dcm")).all()


def test_file_and_folder_names_do_not_identify_the_patient(tmp_path):
    path = write_dicom(tmp_path / "in" / "tumour" / "zwiebel, Quentin" / "QZ47110815.dcm", ramp())
    uid = pydicom.dcmread(path).SOPInstanceUID
    path.with_name(f"{uid}.dcm").write_bytes(path.read_bytes())
    deidentify(tmp_path / "in", tmp_path / "out")
    copies = sorted(file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*.dcm"))
    assert len(copies) == 2
    assert all(copy.startswith("tumour/") and copy.count("/") == 2 for copy in copies)
    left = "".join(copies) + (tmp_path / "out" / LOG).read_text()
    assert not [word for word in (*PRIVATE, "QZ47110815", "zwiebel", str(uid)) if word in left]


def test_a_second_call_continues_and_overwrites_nothing(tmp_path, monkeypatch):
    for index in range(4):
        write_dicom(tmp_path / "in" / f"{index}.dcm", ramp())
    calls = 0
    real_rename = Path.rename

    def stops(self: Path, target: Path) -> Path:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real_rename(self, target)

    monkeypatch.setattr(Path, "rename", stops)
    with pytest.raises(KeyboardInterrupt):
        deidentify(tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    first = (tmp_path / "out" / "0.dcm").read_bytes()
    with (tmp_path / "out" / LOG).open("a") as log:
        log.write('{"source": "cut o')
    outcome = deidentify(tmp_path / "in", tmp_path / "out")
    assert (outcome.already_copied, len(outcome.copied), outcome.exit_code) == (2, 2, 0)
    assert (tmp_path / "out" / "0.dcm").read_bytes() == first
    assert len(list((tmp_path / "out").glob("*.dcm*"))) == 4
    assert deidentify(tmp_path / "in", tmp_path / "out").already_copied == 4


def test_a_foreign_file_is_left_alone(tmp_path):
    write_dicom(tmp_path / "in" / "a.dcm", ramp())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.dcm").write_text("mine")
    outcome = deidentify(tmp_path / "in", tmp_path / "out")
    assert "already exists" in outcome.failed[0]
    assert outcome.exit_code == 1
    assert (tmp_path / "out" / "a.dcm").read_text() == "mine"


def test_files_without_a_copy_are_reported_and_set_the_exit_code(tmp_path):
    write_dicom(tmp_path / "in" / "good.dcm", ramp())
    (tmp_path / "in" / "notes.txt").write_text("x")
    runner, order = CliRunner(), ["data", "deidentify", str(tmp_path / "in"), str(tmp_path / "out")]
    done = runner.invoke(app, order)
    assert done.exit_code == 0, done.output
    assert "1 copied, 0 already there, 0 failed, 1 not DICOM, 0 to be checked" in done.stdout
    assert NOTICE in done.output
    written = np.zeros((64, 256), np.uint8)
    cv2.putText(written, "ZWIEBEL Q", (4, 20), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 1, cv2.LINE_AA)
    write_dicom(tmp_path / "in" / "text.dcm", written)
    done = runner.invoke(app, order)
    assert done.exit_code == 3
    assert "likely text at (" in done.output
    (tmp_path / "in" / "bad.dcm").write_bytes(b"nonsense")
    done = runner.invoke(app, order)
    assert done.exit_code == 1
    assert "not copied: " in done.output
    assert not [word for word in PRIVATE if word in done.output]


def test_a_folder_without_dicom_is_refused(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("x")
    with pytest.raises(DataError, match="in: contains no DICOM file; check the path"):
        deidentify(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


@pytest.mark.parametrize("name", ["in", "in/deeper", "."])
def test_copies_must_be_in_a_separate_folder(tmp_path, name):
    write_dicom(tmp_path / "in" / "a.dcm", ramp())
    with pytest.raises(DataError, match="give a separate folder"):
        deidentify(tmp_path / "in", tmp_path / name)


def test_an_invalid_log_or_key_is_reported(tmp_path):
    write_dicom(tmp_path / "in" / "a.dcm", ramp())
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / LOG).write_text('{"notice": ""}\n[1]\n')
    with pytest.raises(DataError, match=f"{LOG}:2: not a line of a de-identification log"):
        deidentify(tmp_path / "in", tmp_path / "out")
    (tmp_path / "short.key").write_bytes(b"abc")
    with pytest.raises(DataError, match="too few for a key"):
        deidentify(tmp_path / "in", tmp_path / "out2", key_file=tmp_path / "short.key")


WORDS = ("DOE JANE", "12.03.1961", "ID 448812", "ST MARY HOSP", "2024/05/17", "F 063Y", "ACC 99812", "Dr Miller")


def phantom(rng: np.random.Generator) -> np.ndarray:
    """A smooth body with organs, a bony ring and noise; no text."""
    side = 256
    image = np.zeros((side, side), np.float32)
    middle = (side // 2, side // 2)
    cv2.ellipse(image, middle, (int(side * 0.42), int(side * 0.34)), 0, 0, 360, 90, -1)
    cv2.ellipse(image, middle, (int(side * 0.40), int(side * 0.32)), 0, 0, 360, 200, int(rng.integers(2, 6)))
    for _ in range(12):
        place = tuple(int(value) for value in rng.integers(side // 4, 3 * side // 4, 2))
        axes = tuple(int(value) for value in rng.integers(3, side // 8, 2))
        cv2.ellipse(image, place, axes, float(rng.integers(180)), 0, 360, float(rng.integers(40, 220)), -1)
    image = cv2.GaussianBlur(image, (0, 0), 1.2) + rng.normal(0, 6, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8)


def planted(image: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, PixelBox]:
    """A copy with a word near its upper or lower edge, brighter or darker than the background."""
    image, word = image.copy(), WORDS[rng.integers(len(WORDS))]
    size, thick = float(rng.uniform(0.35, 0.7)), int(rng.integers(1, 3))
    (width, height), _ = cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, size, 1)
    left = int(rng.integers(3, max(4, image.shape[1] - width - 3)))
    bottom = height + 4 if rng.random() < 0.5 else image.shape[0] - 5
    ground = image[bottom - height : bottom, left : left + width].mean()
    level = 235 if ground < 150 else 10
    cv2.putText(image, word, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, level, thick if size > 0.5 else 1)
    return image, (left, bottom - height, left + width, bottom)


def meet(one: PixelBox, other: PixelBox) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def rates(pictures: list[np.ndarray], rng: np.random.Generator) -> tuple[float, float]:
    """(share of planted words that are found, share of unchanged pictures that raise an alarm)."""
    found = alarms = 0
    for picture in pictures:
        alarms += bool(text_areas(picture))
        image, box = planted(picture, rng)
        found += any(meet(box, area) for area in text_areas(image))
    return found / len(pictures), alarms / len(pictures)


def test_planted_text_is_found_and_clean_scans_raise_few_alarms():
    rng = np.random.default_rng(0)
    recall, alarms = rates([phantom(rng) for _ in range(24)], rng)
    assert recall >= 0.9
    assert alarms <= 0.1


@pytest.mark.skipif(not CHESTS.is_dir(), reason=f"no {CHESTS}; set VLM_FT_DATA")
def test_planted_text_is_found_on_real_films():
    rng = np.random.default_rng(0)
    paths = sorted(CHESTS.rglob("*.jpg"))[::40]
    pictures = [np.asarray(open_image(path).convert("L")) for path in paths]
    recall, alarms = rates(pictures, rng)
    assert recall >= 0.9
    assert alarms <= 0.35  # most are real text, as seen by eye: PORTABLE, SUPINE, side markers


def test_no_area_on_a_plain_or_tiny_picture():
    assert text_areas(np.zeros((3, 2), np.uint8)) == []
    assert text_areas(np.full((64, 64, 3), 128, np.uint8)) == []
