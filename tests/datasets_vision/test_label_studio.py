"""Label Studio: its exports are read, and our examples survive the round trip."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import fromstring

import pytest
from typer.testing import CliRunner

from datasets_vision.example import Example, Label, LabelledObject, Turn, View
from datasets_vision.export_label_studio import export
from datasets_vision.formats import detect
from tests.datasets_vision.made import SQUARE_BOX, objects, only, photo, reading, real_set, reasons, write_json
from vlm_ft.cli import app
from vlm_ft.errors import DataError

RECT = {"x": 10, "y": 10, "width": 20, "height": 40, "rotation": 0}


def region(kind: str, value: dict[str, Any], *labels: str, **more: Any) -> dict[str, Any]:
    names = {kind: list(labels)} if labels else {}
    return {"id": "r", "from_name": "label", "to_name": "image", "type": kind, "value": {**value, **names}, **more}


def rectangle(*labels: str, **more: Any) -> dict[str, Any]:
    return region("rectanglelabels", RECT, *(labels or ("dent",)), **more)


def said(kind: str, control: str, value: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": control, "from_name": control, "to_name": "image", "type": kind, "value": value, **more}


def task(*results: Any, image: str = "/data/upload/3/1a2b3c4d-a.png", number: int = 1, **data: Any) -> dict[str, Any]:
    done = {"id": 9, "was_cancelled": False, "result": list(results)}
    return {"id": number, "data": {"image": image, **data}, "annotations": [done], "predictions": []}


def write(root: Path, *tasks: Any) -> Path:
    photo(root / "photos/a.png")
    return write_json(root / "export.json", list(tasks))


@pytest.mark.parametrize(
    ("result", "box", "attributes"),
    [
        (rectangle(), SQUARE_BOX, {}),
        (region("rectanglelabels", {**RECT, "x": 30, "y": 50, "rotation": 180}, "dent"), SQUARE_BOX, ["polygon"]),
        (region("polygonlabels", {"points": [[10, 10], [30, 10], [30, 50]]}, "dent"), SQUARE_BOX, ["polygon"]),
        (region("ellipselabels", {"x": 20, "y": 30, "radiusX": 10, "radiusY": 20}, "dent"), SQUARE_BOX, {}),
        (region("keypointlabels", {"x": 20, "y": 30, "width": 1}, "dent"), None, {"point": [200, 300]}),
    ],
)
def test_every_shape_has_its_box(tmp_path, result, box, attributes):
    path = write(tmp_path, task(result))
    assert detect(tmp_path) == "label_studio"
    example = only(reading(tmp_path))
    (obj,) = example.label.objects
    assert (obj.name, obj.box) == ("dent", box)
    assert (list(obj.attributes) if isinstance(attributes, list) else obj.attributes) == attributes
    assert (example.id, example.source) == ("photos/a", f"{path}: task 1")


@pytest.mark.parametrize(
    "address",
    [
        "/data/upload/3/1a2b3c4d-a.png",
        "/data/local-files/?d=set%2Fphotos/a.png",
        "s3://bucket/photos/a.png",
        "https://host/photos/a.png?token=x",
        "a.png",
    ],
)
def test_an_image_is_found_by_every_kind_of_address(tmp_path, address):
    write(tmp_path, task(rectangle(), image=address))
    assert [example.images for example in reading(tmp_path).examples] == [(tmp_path / "photos/a.png",)]


def test_results_become_attributes_of_regions_or_columns_of_tasks(tmp_path):
    write(
        tmp_path,
        task(
            rectangle("dent", "deep"),
            said("choices", "part", {**RECT, "choices": ["door"]}, id="r"),
            said("textarea", "note", {"text": ["two", "lines"]}, id="r"),
            said("choices", "choice", {"choices": ["car"]}),
            said("choices", "repairable", {"choices": ["true"]}),
            said("choices", "sides", {"choices": ["left", "rear"]}),
            said("rating", "quality", {"rating": 4}),
            said("number", "panels", {"number": 2}),
            said("relation", "x", {"direction": "right"}),
            sku="A-7",
        ),
    )
    found = reading(tmp_path)
    label = found.examples[0].label
    assert objects(found.examples[0]) == [("dent+deep", SQUARE_BOX)]
    assert label.objects[0].attributes == {"part": "door", "note": "two\nlines"}
    columns = {"repairable": True, "sides": "left+rear", "quality": 4, "panels": 2, "sku": "A-7"}
    assert (label.image_class, label.columns) == ("car", columns)
    assert "a result of type 'relation' is not supported" in reasons(found)


def test_a_shape_may_have_its_label_in_another_result(tmp_path):
    shape = {**region("rectangle", RECT), "from_name": "box"}
    write(tmp_path, task(shape, region("labels", RECT, "dent"), said("labels", "x", {**RECT, "labels": ["y"]}, id="q")))
    assert objects(reading(tmp_path).examples[0]) == [("dent", SQUARE_BOX)]


def test_spans_of_a_text_are_objects_without_a_box(tmp_path):
    span = region("labels", {"start": 4, "end": 8, "text": "pump"}, "Item")
    path = write_json(tmp_path / "export.json", [{**task(span), "data": {"text": "The pump leaks", "site": "B"}}])
    (example,) = reading(path).examples
    assert example.text == "The pump leaks"
    assert example.label.objects == (LabelledObject("Item", None, {"start": 4, "end": 8, "text": "pump"}),)
    assert example.label.columns == {"site": "B"}


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (region("rectanglelabels", {**RECT, "x": -30}, "dent"), "lies outside the image 100x50"),
        (region("rectanglelabels", {**RECT, "width": 0}, "dent"), "has no area"),
        (region("rectanglelabels", {**RECT, "width": "w"}, "dent"), "is not two numbers"),
        (region("rectanglelabels", RECT), "has no label"),
        (region("polygonlabels", {"points": [[1, 1], [2, 2]]}, "dent"), "polygon of 2 points"),
        (region("polygonlabels", {}, "dent"), "is not a list of points"),
        (region("brushlabels", {"x": 1, "y": 1, "rle": [0]}, "dent"), "is drawn with a brush"),
    ],
)
def test_a_bad_region_is_set_aside_and_the_image_stays(tmp_path, bad, says):
    path = write(tmp_path, task(rectangle(), {**bad, "id": "bad"}))
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert reasons(found).startswith(f"{path}: task 1 region bad: ")
    assert says in reasons(found)


def test_no_objects_differs_from_objects_not_asked_for(tmp_path):
    photo(tmp_path / "photos/b.png")
    write(tmp_path, task(rectangle()), task(image="b.png", number=2))
    assert reading(tmp_path).examples[1].label.objects == ()
    write(tmp_path, task(said("choices", "choice", {"choices": ["car"]})))
    assert reading(tmp_path).examples[0].label == Label("car")


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (task(rectangle(), image="c.png", number=2), "task 2: its image 'c.png' is missing"),
        (task(rectangle(), number=2), "is already used by"),
        ({**task(number=2), "annotations": []}, "task 2: is not annotated yet"),
        ({"id": 2, "data": {"image": "a.png"}, "annotations": [{"was_cancelled": True}]}, "not annotated yet"),
        ({"id": 2, "data": 3, "annotations": []}, "task 2: has no data"),
        ({"id": 2, "data": {"words": "x"}, "annotations": [{"result": []}]}, "neither an image nor a text"),
        (3, "task 2: has no data"),
    ],
)
def test_a_bad_task_among_good_ones_is_set_aside(tmp_path, bad, says):
    write(tmp_path, task(rectangle()), bad)
    found = reading(tmp_path)
    assert [example.id for example in found.examples] == ["photos/a"]
    assert says in reasons(found)


def test_one_of_several_annotations_is_read_and_the_rest_reported(tmp_path):
    given = [{"result": [rectangle(name)]} for name in ("first", "second", "third")]
    write(tmp_path, {**task(), "annotations": given})
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("third", SQUARE_BOX)]
    assert "has 2 more annotations" in reasons(found)
    write(tmp_path, {**task(), "annotations": [{**given[0], "ground_truth": True}, *given[1:]]})
    assert objects(reading(tmp_path).examples[0]) == [("first", SQUARE_BOX)]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "0 bytes"),
        (b'[{"id": 1,\n"data": ', "export.json:2: not JSON"),
        (b"\xff", "not UTF-8"),
        (b'{"id": 1}', "is not a list of tasks"),
        (b"[]", "nothing in the format label_studio"),
        (b'[{"id": 1, "id": 2}]', "'id' appears twice"),
    ],
)
def test_a_bad_file_is_reported(tmp_path, data, says):
    path = tmp_path / "export.json"
    path.write_bytes(data)
    with pytest.raises(DataError, match=says) as caught:
        reading(path, format="label_studio")
    assert str(caught.value).startswith(str(path))


POLYGON = [[100, 100], [300, 100], [300, 500]]
OBJECTS = (
    LabelledObject("dent", SQUARE_BOX),
    LabelledObject("crack", SQUARE_BOX, {"polygon": POLYGON, "part": "door", "difficult": False}),
    LabelledObject("crack", (0, 0, 1, 1), {"polygon": [[0, 0], [0, 1], [0, 2]]}),  # too thin for a shape
    LabelledObject("hole", (0, 0, 600, 600), {"polygon": POLYGON, "polygons": [POLYGON, [[9, 9], [99, 9], [9, 99]]]}),
    LabelledObject("rivet", None, {"point": [333, 667], "part": "wing\nroot"}),
    LabelledObject("rust", None, {"area": 3, "share": 0.25, "note": None}),
    LabelledObject("dent", (1, 2, 3, 999), {"part": "true", "area": 7}),
)
WORDS = (LabelledObject("Item", None, {"text": "pump", "start": 4, "end": 8, "sure": True}),)


def examples(root: Path) -> list[Example]:
    one, two = photo(root / "photos/über 1.png"), photo(root / "photos/sub/b.png", (31, 77))
    turns = (Turn("user", "Is it\nbad?"), Turn("assistant", "Yes."), Turn("user", "Why?"))
    far = (LabelledObject("dent", SQUARE_BOX, {"photo": 1}), LabelledObject("dent", SQUARE_BOX))
    return [
        Example(
            "a", images=(one,), label=Label("car", OBJECTS, {"n": 1, "sure": True, "x": "a+b"}), source="s", role="val"
        ),
        Example("b", images=(two,), label=Label(objects=()), source="s", group="claim 1"),
        Example("c", images=(two,), label=Label(columns={"n": "many", "list": [1, {"a": None}]}), source="s"),
        Example("d", turns=turns, label=Label(objects=WORDS, columns={"reply": "words" + " words" * 39}), source="s"),
        Example("e", turns=turns[:1], images=(one, two), label=Label("true", far), source="s"),
    ]


@pytest.mark.parametrize("number", range(5))
def test_labels_survive_the_round_trip(tmp_path, number):
    given = examples(tmp_path)[number]
    written = export([given], tmp_path / "tasks.json", tmp_path)
    (example,) = reading(written.tasks).examples
    assert example.label == given.label
    assert (example.id, example.turns, example.images, example.role) == (
        given.id,
        given.turns,
        given.images,
        given.role,
    )
    assert example.group == (given.group or given.id)


def test_all_labels_together_survive_the_round_trip(tmp_path):
    given = examples(tmp_path)
    written = export(given, tmp_path / "out/tasks.json")
    found = reading(written.tasks, image_folder=tmp_path / "photos")
    assert [example.label for example in found.examples] == [example.label for example in given]
    assert (written.count, written.set_aside, found.set_aside) == (5, (), ())
    addresses = [entry["data"].get("image") for entry in json.loads(written.tasks.read_text("utf-8"))]
    assert addresses[:2] == ["/data/local-files/?d=%C3%BCber%201.png", "/data/local-files/?d=sub/b.png"]


def test_the_interface_has_a_control_for_every_result(tmp_path):
    written = export(examples(tmp_path), tmp_path / "tasks.json")
    controls = {element.get("name"): element for element in fromstring(written.interface.read_text("utf-8")).iter()}
    for entry in json.loads(written.tasks.read_text("utf-8")):
        for result in entry["annotations"][0]["result"]:
            assert controls[result["from_name"]].tag.lower() == result["type"]
            assert controls[result["to_name"]].tag in ("Image", "Text")
            options = {option.get("value") for option in controls[result["from_name"]]}
            for key, names in result["value"].items():
                if key == "choices" or key.endswith("labels"):
                    assert set(names) <= options


def test_predictions_are_not_annotations(tmp_path):
    written = export(examples(tmp_path)[:1], tmp_path / "tasks.json", predicted=True)
    (entry,) = json.loads(written.tasks.read_text("utf-8"))
    assert len(entry["predictions"][0]["result"]) > len(OBJECTS)
    with pytest.raises(DataError, match="is not annotated yet"):
        reading(written.tasks)


def test_unshowable_examples_are_reported(tmp_path):
    given = examples(tmp_path)
    cut = Example("z", images=(View(tmp_path / "photos/sub/b.png", crop=(0, 0, 5, 5)),), source="there")
    written = export([*given, cut], tmp_path / "tasks.json")
    assert (written.count, [item.place for item in written.set_aside]) == (5, ["there"])
    with pytest.raises(DataError, match="lies outside"):
        export(given, tmp_path / "tasks.json", tmp_path / "photos/sub")
    with pytest.raises(DataError, match="nothing to export"):
        export([cut], tmp_path / "tasks.json")


def test_a_recipe_is_written_by_the_command(tmp_path, own_task, drawings):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"name: r\ntask: my_task\ntask_file: {own_task}\ndata: [{{path: {drawings}}}]\n")
    done = CliRunner().invoke(app, ["data", "export", str(recipe), str(tmp_path / "tasks.json")])
    assert done.exit_code == 0, done.output
    assert "20 tasks; interface" in done.output
    given, back = reading(drawings), reading(tmp_path / "tasks.json", image_folder=drawings)
    assert [example.label for example in back.examples] == [example.label for example in given.examples]


@pytest.mark.parametrize("name", ["car_damage/via2_damage_parts", "aviation_maintenance/aircraft_skin_yolo"])
def test_real_labels_survive_the_round_trip(tmp_path, name):
    given = real_set(name, limit=40).examples
    written = export(given, tmp_path / "tasks.json")
    folder = Path(given[0].images[0]).parents[len(Path(given[0].id).parts) - 1]
    found = reading(written.tasks, image_folder=folder)
    assert [(example.id, example.label) for example in found.examples] == [
        (example.id, example.label) for example in given
    ]
    assert all("images without a task" in entry.reason for entry in found.set_aside)  # those past the limit


def test_an_invalid_result_is_set_aside_and_the_rest_is_read(tmp_path):
    relation = {"type": "relation", "from_id": "r", "to_id": "s"}
    write(tmp_path, task(rectangle(), relation, None, {"type": "choices", "value": ["a"]}))
    found = reading(tmp_path)
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX)]
    assert [entry.place.rpartition(" ")[2] for entry in found.set_aside] == ["2", "3", "4"]


@pytest.mark.parametrize("words", [True, None, 3.5, [], "rust", ["rust"]])
def test_an_unplaced_object_is_named_by_a_word_or_set_aside(tmp_path, words):
    write(tmp_path, task(rectangle(), said("textarea", "unplaced", {"text": words})))
    found = reading(tmp_path)
    named = [("rust", None)] if words in ("rust", ["rust"]) else []
    assert objects(found.examples[0]) == [("dent", SQUARE_BOX), *named]
    assert len(found.set_aside) == 1 - len(named)


def test_images_without_a_task_are_reported_in_one_entry(tmp_path):
    write(tmp_path, task(rectangle()))
    for number in range(3):
        photo(tmp_path / f"photos/pool{number}.png")
    (entry,) = reading(tmp_path).set_aside
    assert (entry.place, entry.reason.partition(";")[0]) == (str(tmp_path), "contains 3 images without a task")
    (tmp_path / "broken.json").write_text('[{"data": {"image": "pool1.png"}, "annotations": [')
    (entry,) = reading(tmp_path).set_aside
    assert (Path(entry.place.partition(":")[0]).name, "not JSON" in entry.reason) == ("broken.json", True)
