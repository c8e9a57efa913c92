"""Properties of all formats, and the real sets, read unchanged."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import datasets
import pytest
from pydantic import ValidationError

from datasets_vision.example import BOX_SCALE
from datasets_vision.formats import FORMATS, detect
from datasets_vision.source import Source, read
from tests.datasets_vision.made import photo, real_set
from vlm_ft.errors import DataError


def write_voc(root: Path) -> None:
    (root / "Annotations").mkdir()
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    for number in range(1, 13):
        photo(root / f"JPEGImages/part{number}.jpg")
        text = f"<annotation><object><name>dent</name>{box}</object></annotation>"
        (root / f"Annotations/part{number}.xml").write_text(text)


def write_folders(root: Path) -> None:
    for number in range(1, 13):
        photo(root / f"dent/part{number}.jpg")


def write_tables(root: Path) -> None:
    (root / "train.csv").write_text("text,label\n" + "broken,dent\n" * 12)


def write_photos(root: Path) -> list[str]:
    names = [f"part{number}.png" for number in range(1, 13)]
    for name in names:
        photo(root / "images" / name)
    return names


def write_coco(root: Path) -> None:
    names = list(enumerate(write_photos(root)))
    boxes = [{"id": number, "image_id": number, "category_id": 1, "bbox": [1, 1, 8, 8]} for number, _ in names]
    images = [{"id": number, "file_name": name} for number, name in names]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "dent"}]}
    (root / "coco.json").write_text(json.dumps(content))


def write_via(root: Path) -> None:
    rect = {"name": "rect", "x": 1, "y": 1, "width": 8, "height": 8}
    region = {"shape_attributes": rect, "region_attributes": {"kind": "dent"}}
    content = {name: {"filename": name, "size": 9, "regions": [region]} for name in write_photos(root)}
    (root / "via.json").write_text(json.dumps(content))


def write_labelme(root: Path) -> None:
    shape = {"label": "dent", "points": [[1, 1], [9, 9]], "shape_type": "rectangle"}
    for name in write_photos(root):
        (root / f"{name}.json").write_text(json.dumps({"shapes": [shape], "imagePath": name}))


def write_label_studio(root: Path) -> None:
    value = {"x": 1, "y": 1, "width": 9, "height": 9, "rectanglelabels": ["dent"]}
    result = [{"id": "r", "from_name": "label", "type": "rectanglelabels", "value": value}]
    tasks = [{"data": {"image": name}, "annotations": [{"result": result}]} for name in write_photos(root)]
    (root / "export.json").write_text(json.dumps(tasks))


def write_cvat(root: Path) -> None:
    box = '<box label="dent" xtl="1" ytl="1" xbr="9" ybr="9"/>'
    images = "".join(f'<image name="{name}">{box}</image>' for name in write_photos(root))
    (root / "annotations.xml").write_text(f"<annotations><meta/>{images}</annotations>")


def write_yolo(root: Path) -> None:
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("train: images\nnames: [dent]\n")
    for name in write_photos(root):
        (root / "labels" / name).with_suffix(".txt").write_text("0 0.5 0.5 0.2 0.2\n")


WRITERS = {
    "voc": write_voc,
    "coco": write_coco,
    "via": write_via,
    "labelme": write_labelme,
    "label_studio": write_label_studio,
    "cvat": write_cvat,
    "yolo": write_yolo,
    "folders": write_folders,
    "tables": write_tables,
}


@pytest.fixture(params=WRITERS)
def written(request, tmp_path) -> tuple[str, Path]:
    """A set of 12 items in each format, all labelled `dent`."""
    WRITERS[request.param](tmp_path)
    return request.param, tmp_path


def words(example) -> list[str]:
    label = example.label
    named = [label.image_class, *(obj.name for obj in label.objects or ()), *label.columns.values()]
    return [word for word in named if word is not None]


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_tests(name):
    assert Path(__file__).with_name(f"test_{name}.py").is_file()


def test_the_format_is_found_from_the_files(written):
    name, path = written
    assert detect(path) == name


def test_examples_are_complete_and_distinct(written):
    _, path = written
    found = read(Source(path=path))
    assert found.set_aside == ()
    assert len({example.id for example in found.examples}) == 12
    for example in found.examples:
        assert example.images or example.text
        assert example.group == example.id
        assert Path(example.source.split(":")[0]).is_file()
        assert words(example) == ["dent"]


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(written):
    _, path = written
    before = read(Source(path=path))
    for file in path.rglob("*.*"):
        if file.suffix in (".json", ".xml", ".csv", ".txt", ".yaml"):
            lines = file.read_bytes().replace(b", ", b",\n")
            file.write_bytes(b"\xef\xbb\xbf" + lines.replace(b"\n", b"\r\n"))
    assert read(Source(path=path)) == before


@pytest.mark.parametrize("name", ["voc", "coco", "via", "labelme", "cvat", "yolo"])
def test_an_image_without_an_annotation_is_set_aside(name, tmp_path):
    WRITERS[name](tmp_path)
    extra, phone = photo(tmp_path / "images/extra.png"), tmp_path / "images/phone.heic"
    phone.touch()
    assert {item.place for item in read(Source(path=tmp_path)).set_aside} == {str(extra), str(phone)}


def test_rename_reaches_every_label(written):
    _, path = written
    found = read(Source(path=path, rename={"dent": "dimple", "scrach": "x"}))
    assert {word for example in found.examples for word in words(example)} == {"dimple"}
    assert "no label or value matches 'scrach'" in found.set_aside[0].reason


def test_limit_is_spread_over_the_set(written):
    _, path = written
    whole = read(Source(path=path)).examples
    assert read(Source(path=path, limit=4)).examples == whole[::3]
    assert read(Source(path=path, limit=99)).examples == whole


def test_groups_are_blocks_of_numbers(written):
    _, path = written
    found = read(Source(path=path, group=r"([a-z]+):?(\d+)$", group_block=5)).examples
    assert all(example.group.count("|") == 1 for example in found)
    assert max(Counter(example.group for example in found).values()) == 5
    for example in found:
        number = int("".join(filter(str.isdigit, example.id)))
        assert example.group.endswith(f"|{number // 5}")


def test_an_id_without_its_group_is_set_aside(written):
    _, path = written
    found = read(Source(path=path, group=r"(?:part|:)(\d)$"))
    assert len(found.examples) + len(found.set_aside) == 12
    assert all("matches nothing in the id" in item.reason for item in found.set_aside)
    assert found.set_aside


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": ""}, "the path is empty"),
        ({"image_clas": "x"}, "Extra inputs are not permitted"),
        ({"image_class": "("}, "does not compile"),
        ({"group": "["}, "does not compile"),
        ({"group": r"\d+"}, "has no group"),
        ({"group_block": 5}, "group_block without group"),
        ({"worst_first": ["a"]}, "worst_first without case_by"),
        ({"window": "brian"}, "did you mean 'brain'"),
        ({"limit": 0}, "greater than or equal to 1"),
        ({"values": {"present": {True: 1}}}, "put it in quotes"),
        ({"columns": {"present": "label"}, "values": {"presnt": {}}}, "did you mean 'present'"),
    ],
)
def test_a_wrong_setting_is_refused(options, says):
    with pytest.raises(ValidationError) as caught:
        Source(**{"path": "set", **options})
    (fault,) = caught.value.errors()
    assert says in fault["msg"]
    assert "\n" not in fault["msg"]


def test_numbers_may_name_source_values():
    assert Source(path="set", values={"kind": {1: "open"}}).values == {"kind": {"1": "open"}}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "absent"}, "no such file or folder"),
        ({"path": "empty"}, "the folder is empty"),
        ({"path": "other"}, r"unknown format \(1 \.npy\)"),
        ({"path": "other", "format": "vok"}, "unknown format 'vok'; did you mean 'voc'"),
        ({"path": "other", "format": "voc"}, "no XML annotation"),
        ({"path": "other", "format": "folders"}, "no usable items in .*; [0-9]+ set aside"),
        ({"path": "other", "format": "tables"}, "nothing in the format tables; correct the format, or leave it out"),
    ],
)
def test_a_fault_of_the_whole_source_is_reported(tmp_path, options, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.npy").touch()
    with pytest.raises(DataError, match=says) as caught:
        read(Source(**{**options, "path": tmp_path / options["path"]}))
    assert str(caught.value).startswith(str(tmp_path / options["path"]))


REAL = {  # counts from the sets' own descriptions: items, boxes, roles
    "product_defects/neu_det_voc": (900, 2095, {"train": 768, "val": 132}),
    "product_defects/deeppcb": (170, 1175, {"trainval": 145, "val": 25}),
    "scan_abnormalities/brain_tumor_mri": (366, 0, {"train": 315, "val": 51}),
    "scan_abnormalities/chest_xray_nih": (520, 0, {"train": 457, "val": 63}),
    "car_damage/severity_vds": (488, 0, {"train": 407, "val": 81}),
    "object_identification/trashnet": (599, 0, {"train": 510, "val": 89}),
    "object_identification/raccoon_voc": (113, 124, {"train": 90, "val": 23}),
    "object_identification/playing_cards_voc": (296, 527, {"train": 248, "val": 48}),
    "legal_documents/cuad_clause_tasks_tsv": (2993, 0, {"train": 2707, "val": 286}),
    "legal_documents/unfair_tos_tsv": (772, 0, {"train": 695, "val": 77}),
}


@pytest.mark.parametrize("name", REAL)
def test_real_sets_read_unchanged(name):
    found = real_set(name)
    boxes = [obj.box for example in found.examples for obj in example.label.objects or ()]
    assert (len(found.examples), len(boxes), Counter(example.role for example in found.examples)) == REAL[name]
    assert found.set_aside == ()
    assert all(0 <= left < right <= BOX_SCALE and 0 <= top < low <= BOX_SCALE for left, top, right, low in boxes)


def test_zero_size_boxes_of_a_real_set_are_named():
    found = real_set("scan_abnormalities/bccd_voc")
    assert len(found.examples) == 300
    assert [Path(item.place).stem for item in found.set_aside] == ["BloodImage_00338", "BloodImage_00343"]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a"])
def test_a_row_without_a_group_is_set_aside(name, tmp_path):
    path = tmp_path / name
    rows = datasets.Dataset.from_dict({"text": ["x", "y", "z"], "patient": ["7", None, "7"]})
    write = {".csv": rows.to_csv, ".jsonl": rows.to_json, ".parquet": rows.to_parquet, "": rows.save_to_disk}
    write[path.suffix](path)
    found = read(Source(path=path, group_by="patient"))
    assert [(example.text, example.group) for example in found.examples] == [("x", "7"), ("z", "7")]
    assert [entry.reason for entry in found.set_aside] == [
        "group_by: the column 'patient' is empty; fill it in, or remove the row"
    ]


def test_steel_classes_come_from_the_file_names():
    examples = real_set("product_defects/neu_det_voc", image_class=r"^(.*)_\d+$").examples
    classes = {example.label.image_class for example in examples}
    assert len(classes) == 6
    assert classes == {obj.name for example in examples for obj in example.label.objects or ()}


def test_contract_clauses_have_their_folder_and_answer():
    found = real_set(
        "legal_documents/cuad_clause_tasks_tsv",
        columns={"clause": "{folder}", "present": "label"},
        values={"present": {"Yes": True, "No": False}},
    )
    columns = [example.label.columns for example in found.examples]
    assert Counter(column["present"] for column in columns) == {True: 1481, False: 1512}
    assert len({column["clause"] for column in columns}) == 38
