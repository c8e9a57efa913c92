"""Drawn pictures: the same bytes for the same seed, and labels that match the mask exactly."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from datasets_vision.formats import voc
from datasets_vision.formats.contract import Source
from datasets_vision.synthetic import (
    DOMAINS,
    GOOD,
    Pictures,
    aviation_maintenance,
    car_damage,
    product_defects,
    scan_abnormalities,
    write_set,
)
from datasets_vision.synthetic.severity import SEVERITIES, Measure, measured
from datasets_vision.walk import is_synthetic
from vlm_ft.errors import DataError

DRAWN = [name for name, domain in DOMAINS.items() if isinstance(domain, Pictures)]
WRITTEN = [name for name in DOMAINS if name not in DRAWN]
MEASURES = {
    "car_damage": car_damage.MEASURES,
    "aviation_maintenance": aviation_maintenance.MEASURES,
    "scan_abnormalities": scan_abnormalities.MEASURES,
}
GRADED_CASES = [(domain, kind) for domain, measures in MEASURES.items() for kind in (GOOD, *measures)]
# Whether a finding is darker or lighter than its surroundings within a few pixels.
SHADES = {
    ("car_damage", "crack"): -1,
    ("car_damage", "shattered_glass"): 1,
    ("aviation_maintenance", "crack"): -1,
    ("aviation_maintenance", "missing_fastener"): -1,
    ("scan_abnormalities", "nodule"): 1,
    ("scan_abnormalities", "opacity"): 1,
    ("scan_abnormalities", "mass"): -1,
    ("scan_abnormalities", "calcification"): 1,
    ("scan_abnormalities", "white_matter_lesion"): 1,
}


def check(scene):
    height, width = scene.mask.shape
    assert scene.image.shape == (height, width, 3)
    assert scene.image.dtype == scene.mask.dtype == np.uint8
    assert set(np.unique(scene.mask)) - {0} == set(range(1, len(scene.objects) + 1))
    for index, obj in enumerate(scene.objects, start=1):
        rows, columns = np.nonzero(scene.mask == index)
        assert obj.box == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        assert obj.box[2] <= width
        assert obj.box[3] <= height
    assert scene.label == GOOD or scene.label in {obj.name for obj in scene.objects}


@pytest.mark.parametrize(
    ("domain", "kind"),
    [(name, kind) for name in ("product_defects", "object_identification") for kind in DOMAINS[name].classes],
)
def test_objects_are_where_the_mask_says(domain, kind):
    for seed in range(4):
        scene = DOMAINS[domain].scene(np.random.default_rng(seed), 192, kind)
        check(scene)
        named = {kind} if domain == "product_defects" else set(DOMAINS[domain].classes)
        assert {obj.name for obj in scene.objects} <= named
        assert (scene.label == GOOD) == (not scene.objects)


def test_a_defect_shows_in_the_picture():
    """In most pictures, its pixels differ from the surface around them by more than the surface varies."""
    shows = []
    for seed in range(12):
        scene = product_defects.surface_scene(np.random.default_rng(seed), 192, "chip")
        under, about = scene.image[scene.mask > 0].astype(float), scene.image[scene.mask == 0].astype(float)
        shows.append(np.abs(under.mean(0) - about.mean(0)).max() > 10)  # of 255 grey levels
    assert sum(shows) >= 10


def test_all_classes_are_equally_frequent():
    names = DOMAINS["product_defects"].classes
    assert [scene.label for scene in DOMAINS["product_defects"].scenes(2 * len(names), 5, 96)] == [*names, *names]


@pytest.mark.parametrize("domain", DRAWN)
def test_a_set_is_reproducible_byte_for_byte(tmp_path: Path, domain):
    first, second, other = (write_set(domain, tmp_path / str(i), 6, seed, 96) for i, seed in enumerate((3, 3, 4)))
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert len(files) == 3 * 6 + 2  # plus the table of classes and the marker
    assert all((first / path).read_bytes() == (second / path).read_bytes() for path in files)
    assert any((first / path).read_bytes() != (other / path).read_bytes() for path in files)


def test_the_voc_loader_reads_a_set(tmp_path: Path):
    folder = write_set("product_defects", tmp_path, 12, 0)
    found = list(voc.read(Source(path=folder)))
    assert len(found) == 12
    for example, scene in zip(sorted(found, key=lambda e: e.id), DOMAINS["product_defects"].scenes(12, 0), strict=True):
        assert np.array_equal(np.asarray(Image.open(example.images[0])), scene.image)
        assert [obj.name for obj in example.label.objects] == [obj.name for obj in scene.objects]


def drawn_of(domain, kind, count, size=128):
    return [DOMAINS[domain].scene(np.random.default_rng((11, seed)), size, kind) for seed in range(count)]


@pytest.mark.parametrize(("domain", "kind"), GRADED_CASES)
def test_findings_match_the_mask_and_their_severity_the_measure(domain, kind):
    for size in (64, 160):
        for scene in drawn_of(domain, kind, 3, size):
            check(scene)
            assert (kind == GOOD) <= (not scene.objects)
            for place, obj in enumerate(scene.objects):
                measure = MEASURES[domain][obj.name]
                assert obj.attributes["severity"] == measure.severity(measured(scene, place, measure.of))
                assert obj.attributes["part"]
            worst = max((obj.attributes["severity"] for obj in scene.objects), key=SEVERITIES.index, default="")
            assert scene.columns["severity"] == worst


@pytest.mark.parametrize("domain", MEASURES)
def test_most_pictures_show_the_requested_kind(domain):
    for kind in MEASURES[domain]:
        named = [kind in {obj.name for obj in scene.objects} for scene in drawn_of(domain, kind, 6, 96)]
        assert sum(named) >= 5, kind


@pytest.mark.parametrize("domain", MEASURES)
def test_every_severity_occurs(domain):
    found = {obj.attributes["severity"] for scene in DOMAINS[domain].scenes(60, 3, 64) for obj in scene.objects}
    assert found == set(SEVERITIES)


@pytest.mark.parametrize(("domain", "kind"), SHADES)
def test_a_finding_is_lighter_or_darker_than_its_surroundings(domain, kind):
    right = []
    for scene in drawn_of(domain, kind, 12):
        under = np.isin(scene.mask, [i for i, obj in enumerate(scene.objects, start=1) if obj.name == kind])
        about = cv2.dilate(under.astype(np.uint8), np.ones((9, 9), np.uint8)).astype(bool) & (scene.mask == 0)
        if under.any() and about.any():
            grey = scene.image.mean(2)
            right.append(SHADES[domain, kind] * (np.median(grey[under]) - np.median(grey[about])) > 0)
    assert sum(right) >= 0.75 * len(right) > 0


@pytest.mark.parametrize(
    ("domain", "line", "area"), [("car_damage", "crack", "dent"), ("aviation_maintenance", "crack", "dent")]
)
def test_lines_fill_less_of_their_box_than_areas(domain, line, area):
    def filled(kind):
        shares = []
        for scene in drawn_of(domain, kind, 10):
            for place, obj in enumerate(scene.objects, start=1):
                left, top, right, bottom = obj.box
                if obj.name == kind:
                    shares.append((scene.mask == place).sum() / ((right - left) * (bottom - top)))
        return np.median(shares)

    assert filled(line) + 0.15 < filled(area)


@pytest.mark.parametrize("kind", car_damage.CAR_DAMAGE)
def test_damage_changes_only_its_own_part(kind):
    rng = np.random.default_rng(4)
    before = rng.random((96, 96, 3)).astype(np.float32)
    part = np.zeros((96, 96), bool)
    part[30:70, 20:80] = True
    after = before.copy()
    where = car_damage._damage(rng, after, kind, part)
    assert where.any()
    assert not (where & ~part).any()
    assert np.array_equal(before[~part], after[~part])
    assert not np.array_equal(before[where], after[where])


def test_scans_are_grey_and_each_lesion_is_in_its_own_modality():
    for kind, lesion in scan_abnormalities.LESIONS.items():
        scene = drawn_of("scan_abnormalities", kind, 1)[0]
        assert scene.columns["modality"] == lesion.modality
        assert np.ptp(scene.image, axis=2).max() == 0


def test_severities_start_at_their_bounds():
    measure = Measure("area", 0.1, 0.2)
    assert [measure.severity(value) for value in (0, 0.099, 0.1, 0.199, 0.2, 1)] == [
        "minor", "minor", "moderate", "moderate", "severe", "severe"
    ]  # fmt: skip


@pytest.mark.parametrize("domain", MEASURES)
def test_the_voc_loader_reads_parts_severities_and_columns(tmp_path: Path, domain):
    folder = write_set(domain, tmp_path / "set", 10, 1, 96)
    found = sorted(voc.read(Source(path=folder)), key=lambda example: example.id)
    for example, scene in zip(found, DOMAINS[domain].scenes(10, 1, 96), strict=True):
        stated = [{key: obj.attributes[key] for key in ("part", "severity")} for obj in example.label.objects]
        assert stated == [dict(obj.attributes) for obj in scene.objects]
        assert {key: example.label.columns[key] for key in scene.columns} == scene.columns
        assert example.label.image_class == scene.label


@pytest.mark.parametrize("domain", WRITTEN)
def test_rows_are_reproducible_and_independent(tmp_path: Path, domain):
    first, second = (write_set(domain, tmp_path / name, 24, 5) for name in ("a", "b"))
    text = (first / "rows.jsonl").read_text()
    assert text == (second / "rows.jsonl").read_text()
    assert [json.loads(line) for line in text.splitlines()] == list(DOMAINS[domain].rows(24, 5))
    assert text != "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in DOMAINS[domain].rows(24, 6))
    assert list(DOMAINS[domain].rows(3, 5)) == list(DOMAINS[domain].rows(24, 5))[:3]


@pytest.mark.parametrize("domain", WRITTEN)
def test_rows_are_whole_sentences_with_every_slot_filled(domain):
    rows = list(DOMAINS[domain].rows(60, 2))
    assert len(rows) == 60
    for row in rows:
        text = json.dumps(row)
        assert "{" not in text[1:].replace('{"role"', "")
        assert all(row.values())


@pytest.mark.parametrize(
    ("domain", "field", "many"),
    [
        ("aviation_logs", "kind", 6),
        ("customer_chatbot", "intent", 8),
        ("industry_language", "intent", 4),
        ("medical_conditions", "decision", 3),
        ("scientific_research", "verdict", 3),
        ("technical_diagnosis", "fault", 10),
    ],
)
def test_all_labels_of_a_text_are_equally_frequent(domain, field, many):
    labels = [row[field] for row in DOMAINS[domain].rows(3 * many, 0)]
    assert {labels.count(label) for label in set(labels)} == {3}
    assert len(set(labels)) == many


def test_the_marker_is_found_from_the_set_and_its_contents(tmp_path: Path):
    folder = write_set("medical_conditions", tmp_path / "set", 2, 0)
    assert is_synthetic(folder)
    assert is_synthetic(folder / "rows.jsonl")
    assert not is_synthetic(tmp_path)
    assert json.loads((folder / "synthetic.json").read_text()) == {
        "domain": "medical_conditions",
        "count": 2,
        "seed": 0,
    }


def test_an_unknown_domain_gives_the_nearest_name(tmp_path: Path):
    with pytest.raises(DataError, match="unknown synthetic domain 'car_damag'; did you mean 'car_damage'"):
        write_set("car_damag", tmp_path / "set", 2, 0)
    assert not (tmp_path / "set").exists()


def test_a_set_that_cannot_be_drawn_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="consists of texts, not pictures; leave the size 64 out"):
        write_set("legal_documents", tmp_path / "set", 1, 0, size=64)
    (full := tmp_path / "full").touch()
    with pytest.raises(DataError, match="is not empty"):
        write_set("car_damage", full.parent, 1, 0)
    with pytest.raises(DataError, match="0 items; give at least 1"):
        write_set("car_damage", tmp_path / "none", 0, 0)
