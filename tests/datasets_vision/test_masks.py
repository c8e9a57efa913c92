"""Photos with mask images."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets_vision.formats import detect
from datasets_vision.formats.masks import MIN_AREA
from datasets_vision.source import Reading, Source, read
from tests.datasets_vision.made import only, real_set
from vlm_ft.errors import DataError

SIZE = (40, 20)  # width, height


def write(root: Path, photo: str, mask: str | None = None, *, size: tuple[int, int] = SIZE, **squares: object) -> Path:
    """A grey photo and a mask with squares `left_top_side=value`; without squares, the mask is 0 everywhere."""
    for name in filter(None, (photo, mask)):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (SIZE[1], SIZE[0]), dtype=np.uint8)
    Image.fromarray(noise).save(root / photo)
    if mask:
        values = np.zeros((size[1], size[0]), dtype=np.uint8)
        for square, value in squares.items():
            left, top, side = (int(word) for word in square.strip("s").split("_"))
            values[top : top + side, left : left + side] = value
        Image.fromarray(values).save(root / mask)
    return root


def reading(root: Path) -> Reading:
    assert detect(root) == "masks"
    return read(Source(path=root))


@pytest.mark.parametrize(
    ("photo", "mask", "image_class", "role"),
    [
        ("train/crack/Imgs/a.jpg", "train/crack/Imgs/a.png", "crack", "train"),
        ("val/crack/a.JPG", "val/crack/a.png", "crack", "val"),
        ("train/images/a.jpg", "train/masks/a.png", None, "train"),
        ("images/train/a.png", "masks/train/a.png", None, "train"),
        ("test/crack/a.png", "ground_truth/crack/a_mask.png", "crack", "test"),
        ("crack/a.png", "crack/a_mask.png", "crack", None),
    ],
)
def test_a_mask_is_found_where_sets_put_it(tmp_path, photo, mask, image_class, role):
    write(tmp_path, photo, mask, s4_2_10=255, s30_10_5=200)
    example = only(reading(tmp_path))
    assert (example.images, example.label.image_class, example.role) == ((tmp_path / photo,), image_class, role)
    assert example.source == str(tmp_path / mask)
    assert [(obj.name, obj.box, obj.attributes) for obj in example.label.objects] == [
        (image_class or "object", (100, 100, 350, 600), {"area": 100}),
        (image_class or "object", (750, 500, 875, 750), {"area": 25}),
    ]


def test_corner_contact_joins_objects_and_soft_edges_do_not_count(tmp_path):
    write(tmp_path, "crack/a.jpg", "crack/a.png", s0_0_4=255, s4_4_4=255, s20_0_9=100)
    (example,) = reading(tmp_path).examples
    assert [obj.box for obj in example.label.objects] == [(0, 0, 200, 400)]


def test_small_values_are_class_numbers(tmp_path):
    write(tmp_path, "crack/a.jpg", "crack/a.png", s0_0_4=1, s4_0_4=2)
    (example,) = reading(tmp_path).examples
    assert [obj.attributes for obj in example.label.objects] == [{"area": 16, "value": 1}, {"area": 16, "value": 2}]


def test_specks_are_counted_and_alone_leave_objects_unlabelled(tmp_path):
    write(tmp_path, "crack/a.jpg", "crack/a.png", s0_0_5=255, s20_10_2=255, s30_10_2=255)
    write(tmp_path, "crack/b.jpg", "crack/b.png", s0_0_2=255)
    found = reading(tmp_path)
    assert [len(example.label.objects or ()) for example in found.examples] == [1, 0]
    assert found.examples[1].label.objects is None
    assert [item.reason for item in found.set_aside] == [
        f"specks of fewer than {MIN_AREA} pixels: 2",
        f"specks of fewer than {MIN_AREA} pixels: 1",
    ]


@pytest.mark.parametrize(
    ("folder", "objects"),
    [("MT_Free/", ()), ("good/", ()), ("no_tumor/", ()), ("images/", ()), ("", ()), ("crack/", None)],
)
def test_an_empty_mask_is_believed_unless_the_class_says_otherwise(tmp_path, folder, objects):
    write(tmp_path, f"{folder}a.jpg", f"{folder}a.png")
    found = reading(tmp_path)
    assert found.examples[0].label.objects == objects
    assert [Path(item.place).name for item in found.set_aside] == (["a.png"] if objects is None else [])


def test_photos_of_good_parts_need_no_mask(tmp_path):
    write(tmp_path, "test/dent/a.png", "ground_truth/dent/a_mask.png", s0_0_5=255)
    write(tmp_path, "train/good/b.png")
    assert {example.id: len(example.label.objects) for example in reading(tmp_path).examples} == {
        "test/dent/a": 1,
        "train/good/b": 0,
    }


def test_exposures_of_one_tile_are_a_group(tmp_path):
    for name in ("exp1_num_1000", "exp2_num_1040", "exp1_num_1230", "exp3_num_1031", "odd"):
        write(tmp_path, f"crack/{name}.jpg", f"crack/{name}.png", s0_0_5=255)
    groups = {example.id.split("/")[1]: example.group for example in reading(tmp_path).examples}
    assert groups["exp1_num_1000"] == groups["exp2_num_1040"] == groups["exp3_num_1031"] == groups["exp1_num_1230"]
    write(tmp_path, "crack/exp1_num_1241.jpg", "crack/exp1_num_1241.png", s0_0_5=255)
    write(tmp_path, "crack/exp1_num_1442.jpg", "crack/exp1_num_1442.png", s0_0_5=255)
    groups = {example.id.split("/")[1]: example.group for example in reading(tmp_path).examples}
    assert groups["exp1_num_1241"] != groups["exp1_num_1442"]
    assert groups["odd"] == "crack/odd"


@pytest.mark.parametrize("fault", ["size", "text", "truncated", "absent", "photo", "orphan", "notes"])
def test_a_bad_pair_is_set_aside(tmp_path, fault):
    write(tmp_path, "crack/a.jpg", "crack/a.png", s0_0_5=255)
    if fault in ("orphan", "notes"):
        name = {"orphan": "masks/c.png", "notes": "crack/notes.md"}[fault]
        write(tmp_path, "crack/b.jpg", "masks/c.png") if fault == "orphan" else (tmp_path / name).write_text("x")
    else:
        write(tmp_path, "crack/b.jpg", "crack/b.png", size=(9, 9) if fault == "size" else SIZE, s0_0_5=255)
    mask = tmp_path / "crack/b.png"
    if fault == "absent":
        mask.unlink()
    if fault == "text":
        mask.write_text("no image")
    if fault == "truncated":
        mask.write_bytes(mask.read_bytes()[:60])
    if fault == "photo":
        (tmp_path / "crack/b.jpg").write_bytes(b"")
    says = {
        "size": "is 9x9, but its image is 40x20",
        "text": "not a readable image",
        "truncated": "truncated or damaged mask",
        "absent": "no mask for this image",
        "photo": "0 bytes",
        "orphan": "a mask without its image",
        "notes": "is not an image suffix",
    }
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["crack/a"]
    assert any(says[fault] in item.reason for item in found.set_aside)


def test_two_photos_with_the_same_name_are_not_photo_and_mask(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (20, 40), dtype=np.uint8)
    (tmp_path / "crack").mkdir()
    for suffix in ("jpg", "png"):
        Image.fromarray(noise).save(tmp_path / f"crack/a.{suffix}")
    assert detect(tmp_path) == "folders"


def test_masks_have_no_columns(tmp_path):
    write(tmp_path, "crack/a.jpg", "crack/a.png", s0_0_5=255)
    with pytest.raises(DataError, match="no column 'severity'"):
        read(Source(path=tmp_path, columns={"severity": "severity"}))


def test_a_real_set_reads_as_stated():
    found = real_set("product_defects/magnetic_tile_masks")
    classes = Counter((example.role, example.label.image_class) for example in found.examples)
    assert len(found.examples) == 504
    assert (classes["train", "MT_Free"], classes["train", "MT_Blowhole"], classes["val", "MT_Uneven"]) == (167, 84, 12)
    assert all((not example.label.objects) for example in found.examples if example.label.image_class == "MT_Free")
    roles: dict[str, set[str | None]] = defaultdict(set)
    for example in found.examples:
        roles[example.group].add(example.role)
    assert max(map(len, roles.values())) == 1  # the set's own split keeps each tile in one role
    assert len(roles) < 200
