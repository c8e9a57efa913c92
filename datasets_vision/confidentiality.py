"""Which tags a de-identified DICOM data set keeps, following the Basic Application Level Confidentiality Profile.

PS3.15 Annex E lists the tags to remove. This module lists the tags to keep instead, so that an unforeseen tag is
removed too. It keeps what the picture needs, how it was acquired, and numbers and codes from groups that do not
describe a person. Free text is removed, except for a few tags about the device; dates are removed or shifted;
UIDs are replaced throughout.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pydicom import DataElement, Dataset

Dates = Literal["remove", "shift"]

METHOD = "vlm-ft: PS3.15 Basic Profile by list of kept tags; pixels not cleaned"
MAX_SHIFT = 3650  # days, into the past

TEXT_KEPT = frozenset(
    {
        "Manufacturer",
        "ManufacturerModelName",
        "ConvolutionKernel",
        "FilterType",
        "SequenceName",
        "RescaleType",
        "SegmentLabel",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "CodeMeaning",
    }
)
_BLANKED = frozenset(  # type 2: required, may be empty
    {
        "AccessionNumber",
        "PatientBirthDate",
        "PatientSex",
        "ReferringPhysicianName",
        "StudyID",
        "StudyDate",
        "StudyTime",
        "ContentDate",
        "ContentTime",
    }
)
_SEQUENCES_REMOVED = frozenset(
    {
        "ReferencedPatientSequence",
        "ReferencedPerformedProcedureStepSequence",
        "ReferencedStudySequence",
        "DeidentificationMethodCodeSequence",
    }
)
_GROUPS_KEPT = frozenset(
    {0x0008, 0x0018, 0x0020, 0x0022, 0x0028, 0x0048, 0x0052, 0x0054, 0x0062, 0x0070, 0x3002, 0x3004, 0x5200, 0x7FE0}
)
_PROCEDURE_KEPT = range(0x00409092, 0x00409230)  # real-world values; the rest of the group says who, where and why
_NUMBERS = frozenset({"US", "SS", "UL", "SL", "UV", "SV", "FL", "FD", "AT", "DS", "IS"})
_BYTES = frozenset({"OB", "OW", "OF", "OD", "OL", "OV", "OB or OW"})
_BYTES_GROUPS = frozenset({0x0028, 0x7FE0})
_PERSONAL = re.compile("Identification|Institution|Physician|Operator|Person|Diagnos|Consult")  # removed sequences
_CODE = re.compile(r"[A-Z0-9_ ]{0,16}")
_NUMBER = re.compile(r"\s*[-+]?[0-9]*\.?[0-9]*([eE][-+]?[0-9]+)?\s*")
_STANDARD_UID = "1.2.840.10008."
_GROUP_0008_NUMBERS = frozenset({"RecommendedDisplayFrameRate", "StartTrim", "StopTrim"})


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Pseudonyms derived from a secret key; the same key and value always give the same pseudonym."""

    key: bytes
    dates: Dates = "remove"

    def of(self, kind: str, value: str) -> bytes:
        """32 bytes that reveal nothing about `value` without the key."""
        return hmac.digest(self.key, f"{kind}:{value}".encode("utf-8", "surrogateescape"), hashlib.sha256)

    def patient(self, identity: str) -> str:
        """A patient's new id and name."""
        return f"patient-{self.of('patient', identity).hex()[:16]}"

    def uid(self, old: str) -> str:
        """A new UID (PS3.5 B.2); UIDs that the standard itself defines are kept."""
        if not old or old.startswith(_STANDARD_UID):
            return old
        return f"2.25.{int.from_bytes(self.of('uid', old)[:16])}"

    def days(self, identity: str) -> int:
        """How many days a patient's dates are shifted into the past, 1 to MAX_SHIFT."""
        return 1 + int.from_bytes(self.of("days", identity)[:4]) % MAX_SHIFT


@dataclass(slots=True)
class Changes:
    """The changes to a data set: names of tags, never values."""

    removed: set[str] = field(default_factory=set)
    blanked: set[str] = field(default_factory=set)
    replaced: set[str] = field(default_factory=set)
    private: int = 0


def identity_of(dataset: Dataset) -> str:
    """What identifies the patient: id and issuer, else name and birth date, else the study."""
    number = str(dataset.get("PatientID") or "").strip()
    if number:
        return f"{number}|{str(dataset.get('IssuerOfPatientID') or '').strip()}"
    name = f"{dataset.get('PatientName') or ''}|{dataset.get('PatientBirthDate') or ''}"
    return name if name != "|" else str(dataset.get("StudyInstanceUID") or "")


def strip(dataset: Dataset, pseudonyms: Pseudonyms) -> Changes:
    """Remove from `dataset`, in place, everything that may identify a person or place; pixels are left unchanged."""
    changes, identity = Changes(), identity_of(dataset)
    _strip(dataset, pseudonyms, pseudonyms.days(identity), changes)
    dataset.PatientName = dataset.PatientID = pseudonyms.patient(identity)
    changes.removed -= {"PatientName", "PatientID"}
    changes.replaced |= {"PatientName", "PatientID"}
    _declare(dataset, pseudonyms.dates)
    return changes


def private_words(dataset: Dataset) -> set[str]:
    """The private values that a file name might reveal, as lower-case letters and digits."""
    words: set[str] = set()
    for name in ("PatientName", "PatientID", "OtherPatientIDs", "AccessionNumber", "PatientBirthDate", "StudyID"):
        words.update(re.split(r"[\^=\s\\]+", str(dataset.get(name) or "")))
    words.update(str(dataset.get(name) or "") for name in ("PatientID", "AccessionNumber"))
    words.update(str(element.value) for element in dataset.iterall() if element.VR == "UI")
    letters = {"".join(filter(str.isalnum, word)).casefold() for word in words}
    return {word for word in letters if len(word) > 2}


def _strip(dataset: Dataset, pseudonyms: Pseudonyms, days: int, changes: Changes) -> None:
    for element in list(dataset):
        name = element.keyword or str(element.tag)
        if element.tag.is_private:
            changes.private += 1
            del dataset[element.tag]
        elif name in _BLANKED and not (pseudonyms.dates == "shift" and element.VR in ("DA", "TM")):
            element.value = ""
            changes.blanked.add(name)
        elif name in _BLANKED or element.VR in ("DA", "TM", "DT"):
            _date(dataset, element, pseudonyms, days, changes)
        elif element.VR == "UI" and _group_kept(element):
            _replace_uids(element, pseudonyms, name, changes)
        elif not _kept(element, name):
            changes.removed.add(name)
            del dataset[element.tag]
        elif element.VR == "SQ":
            for item in element.value:
                _strip(item, pseudonyms, days, changes)


def _kept(element: DataElement, name: str) -> bool:
    if not _group_kept(element):
        return False
    match element.VR:
        case "SQ":
            return name not in _SEQUENCES_REMOVED and _PERSONAL.search(name) is None
        case "CS":
            return all(_CODE.fullmatch(str(value)) for value in _values_of(element.value))
        case "DS" | "IS":
            return all(_NUMBER.fullmatch(str(value)) for value in _values_of(element.value))
        case number if number in _NUMBERS:
            return True
        case raw if raw in _BYTES or " or " in raw:
            return element.tag.group in _BYTES_GROUPS
        case _:
            return name in TEXT_KEPT


def _group_kept(element: DataElement) -> bool:
    tag = element.tag
    if tag.group == 0x0008 and element.VR in _NUMBERS:
        return element.keyword in _GROUP_0008_NUMBERS
    return tag.group in _GROUPS_KEPT or int(tag) in _PROCEDURE_KEPT


def _replace_uids(element: DataElement, pseudonyms: Pseudonyms, name: str, changes: Changes) -> None:
    old = [str(value) for value in _values_of(element.value)]
    new = [pseudonyms.uid(value) for value in old]
    if new != old:
        element.value = new if len(new) > 1 else new[0]
        changes.replaced.add(name)


def _date(dataset: Dataset, element: DataElement, pseudonyms: Pseudonyms, days: int, changes: Changes) -> None:
    """Shift a date of the scan by the patient's offset; remove other dates and invalid ones."""
    name, value = element.keyword or str(element.tag), str(element.value or "")
    moved = None
    if pseudonyms.dates == "shift" and _group_kept(element) and name != "PatientBirthDate":
        moved = value if element.VR == "TM" and re.fullmatch(r"[0-9.]{0,16}", value) else _shifted(value, days)
    if moved is None and name in _BLANKED:
        element.value = ""
        changes.blanked.add(name)
    elif moved is None:
        changes.removed.add(name)
        del dataset[element.tag]
    elif moved != value:
        element.value = moved
        changes.replaced.add(name)


def _shifted(value: str, days: int) -> str | None:
    """A value that begins with YYYYMMDD, shifted `days` days earlier; None if it does not begin with a date."""
    if not value:
        return ""
    if not re.fullmatch(r"[0-9]{8}[0-9.+-]*", value):
        return None
    try:
        return (datetime.strptime(value[:8], "%Y%m%d") - timedelta(days)).strftime("%Y%m%d") + value[8:]
    except (ValueError, OverflowError):
        return None


def _values_of(value: Any) -> Iterator[Any]:
    """Each of an element's values, whether it has one, several or none."""
    if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
        yield "" if value is None else value
    else:
        yield from value


def _declare(dataset: Dataset, dates: Dates) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence

    def code(value: str, meaning: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
        return item

    codes = [code("113100", "Basic Application Confidentiality Profile")]
    if dates == "shift":
        codes.append(code("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = METHOD
    dataset.DeidentificationMethodCodeSequence = Sequence(codes)
    dataset.LongitudinalTemporalInformationModified = "MODIFIED" if dates == "shift" else "REMOVED"
