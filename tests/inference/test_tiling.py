"""Merged answers of tiles list no object twice, lose none at an edge, and determine the photo's fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import pytest
from PIL import Image
from pydantic import Field

from datasets_vision.example import Box, Example, Label, LabelledObject, normalised_box
from datasets_vision.tiles import grid, in_pixels, tile_examples
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Answer, Item, OneOf
from vlm_ft.answers.kinds import Box as Where
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.answers.prediction import Item as Sure
from vlm_ft.answers.task import Task
from vlm_ft.data.cases import load
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.inference.tiling import gathered, predict_tiled
from vlm_ft.recipe import Recipe, Tiling
from vlm_ft.tasks import TASKS

SIZE = (1000, 800)
TILES = grid(*SIZE, 400, 100)
FORM = Form.of(
    TASKS["product_defects"],
    {"kind": ["none", "pit", "scratch"], "findings.kind": ["pit", "scratch"]},
    ["passed", "kind", "findings.kind", "findings.box"],
)


class Pit(Item):
    """One pit."""

    kind: OneOf
    box: Where


class Verdict(Answer):
    """How many pits, and where."""

    pits: int = Field(ge=0, le=99)
    found: Annotated[list[Pit], Field(max_length=4)]


VERDICT = Verdict(pits=1, found=[Pit(kind="pit", box=(1, 2, 3, 4))])
ONE_PIT_EACH = [[{"kind": "pit", "box": [100, 100, 200, 200]}], [{"kind": "pit", "box": [700, 700, 800, 800]}]]
Pixels = tuple[int, int, int, int]


def tile_answers(things: Sequence[tuple[str, Pixels]], visible: float = 0.01) -> list[Prediction]:
    """A perfect model's answers about each tile, even about slivers of objects."""
    objects = tuple(LabelledObject(name, normalised_box(*box, *SIZE)) for name, box in things)
    example = Example("p", images=(Path("p.png"),), label=Label(objects=objects), source="p")
    answers = []
    for tile in tile_examples(example, SIZE, 400, 100, visible):
        values = TASKS["product_defects"].values(tile.label)
        answers.append(Prediction(fields={name: FieldValue(values[name]) for name in FORM.names}))
    return answers


def photo(things: Sequence[tuple[str, Pixels]]) -> Prediction:
    return gathered(FORM, TILES, tile_answers(things), SIZE)


def near(one: Sequence[int], other: Box, most: int = 4) -> bool:
    return max(abs(left - right) for left, right in zip(one, other, strict=True)) <= most


@pytest.mark.parametrize(
    "things",
    [
        [("pit", (10, 10, 40, 40))],
        [("pit", (320, 20, 380, 60))],  # in two tiles, whole
        [("pit", (310, 310, 390, 390))],  # in four tiles
        [("scratch", (20, 500, 980, 520))],  # across all columns
        [("scratch", (30, 30, 950, 770))],  # across all tiles
        [("pit", (380, 100, 440, 160))],  # cut by one tile's edge, whole in the next
        [("pit", (10, 10, 40, 40)), ("pit", (44, 10, 74, 40)), ("scratch", (10, 10, 40, 40))],
        [("pit", (320, 20, 345, 45)), ("pit", (350, 20, 375, 45)), ("pit", (320, 50, 345, 75))],
        [],
    ],
)
def test_merged_tiles_give_the_objects_of_the_photo(things):
    found = photo(things).values["findings"]
    assert len(found) == len(things), found
    for name, box in things:
        truth = normalised_box(*box, *SIZE)
        assert any(item["kind"] == name and near(item["box"], truth) for item in found), (found, truth)


def test_the_photos_fields_follow_from_what_was_found():
    good, bad = photo([]), photo([("pit", (10, 10, 40, 40)), ("scratch", (500, 500, 700, 700))])
    assert good.values == {"passed": True, "kind": "none", "findings": []}
    assert (bad.values["passed"], bad.values["kind"]) == (False, "scratch")
    assert [item["kind"] for item in bad.values["findings"]] == ["scratch", "pit"]
    assert bad.decision == good.decision == "answer"


def test_probabilities_are_those_of_the_tiles():
    """Merging keeps the surest view of each item; a flag that follows says how likely it is that any tile has one."""

    def tile(exists: float, kinds: Sequence[str], box: Sequence[int] = (700, 100, 900, 300)) -> Prediction:
        parts = [{"kind": FieldValue(kind, {"pit": 0.75, "scratch": 0.25})} for kind in kinds]
        items = tuple(Sure(exists, {**part, "box": FieldValue(list(box))}) for part in parts)
        values = [{"kind": kind, "box": list(box)} for kind in kinds]
        counts = {"0": 1 - exists, "1 or more": exists}
        return Prediction(fields={"findings": FieldValue(values, counts, items=items)})

    seen_twice = [tile(0.75, ["pit"]), tile(0.875, ["pit"], (0, 100, 150, 300)), tile(0.25, []), tile(0.125, [])]
    found = gathered(FORM, TILES[:4], seen_twice, SIZE)
    (item,) = found.fields["findings"].items or ()
    assert item.exists == 0.875
    assert item.score("kind") == 0.875 * 0.75
    assert set(item.parts) == {"kind"}
    none = 0.25 * 0.125 * 0.75 * 0.875
    assert found.fields["passed"].distribution == pytest.approx({"true": none, "false": 1 - none})
    assert found.values["passed"] is False
    assert found.fields["passed"].probability == pytest.approx(1 - none)


def test_a_photo_may_have_more_items_than_one_answer():
    corners = [(20 + 240 * (n % 4), 20 + 190 * (n // 4)) for n in range(16)]
    assert len(photo([("pit", (x, y, x + 30, y + 30)) for x, y in corners]).values["findings"]) == 16


def test_a_custom_task_is_merged_by_the_rules_in_its_form():
    """The adapter is served without the task's file, so the card's form has to be enough."""
    own = Task(
        name="own",
        title="Own",
        answer=Verdict,
        instruction="Count the pits.",
        sample=VERDICT,
        follows={"pits": "count"},
    )
    form = Form.model_validate_json(Form.of(own, {"found.kind": ["pit"]}).model_dump_json())
    tiles = [Prediction(fields={"pits": FieldValue(1), "found": FieldValue(one)}) for one in ONE_PIT_EACH]
    assert gathered(form, TILES[:2], tiles, SIZE).values["pits"] == 2


def test_without_a_rule_the_tile_with_the_largest_finding_decides():
    form = FORM.model_copy(update={"follows": {}})
    answers = tile_answers([("scratch", (500, 500, 700, 700)), ("pit", (10, 10, 40, 40))])
    assert gathered(form, TILES, answers, SIZE).values["kind"] == "scratch"
    assert gathered(form, TILES, tile_answers([]), SIZE).values["passed"] is True


def test_one_failed_tile_asks_a_person_and_all_of_them_are_an_error():
    answers = tile_answers([("pit", (10, 10, 40, 40))])
    part = gathered(FORM, TILES, [*answers[:-1], Prediction.failed("too long")], SIZE)
    assert (part.decision, part.error, len(part.values["findings"])) == ("ask a person", None, 1)
    none = gathered(FORM, TILES, [Prediction.failed("too long")] * len(TILES), SIZE)
    assert "all" in (none.error or "")
    assert "too long" in (none.error or "")


def test_only_large_photos_are_tiled_and_the_order_is_kept(tmp_path):
    Image.new("RGB", SIZE).save(tmp_path / "large.png")
    Image.new("RGB", (300, 200)).save(tmp_path / "small.png")
    asked: list[tuple[int, int]] = []

    def predict(requests: Sequence[Request]) -> list[Prediction]:
        sizes = [image.size if isinstance(image, Image.Image) else (0, 0) for r in requests for image in r.images]
        asked.extend(sizes)
        return [Prediction(fields={"passed": FieldValue(size == (0, 0))}) for size in sizes]

    names = ["small.png", "large.png", "missing.png", "small.png"]
    requests = [Request(images=(tmp_path / name,)) for name in names]
    tiling = Tiling(side=400, overlap=100)
    found = predict_tiled(predict, requests, [tiling] * 4, [FORM] * 4, chunk=5)
    assert [entry.values.get("passed") for entry in found] == [True, True, None, True]
    assert "missing.png" in (found[2].error or "")
    assert asked.count((400, 400)) == len(TILES)
    assert asked.count((0, 0)) == 2


def test_an_adapter_trained_on_tiles_answers_tile_by_tile(
    untrained_run_of: Callable[..., Path], recipe_of: Callable[..., Recipe]
):
    tiling = {"side": 48, "overlap": 16}
    run = untrained_run_of("qwen3_vl", fields=["passed", "findings.kind", "findings.box"], tiling=tiling)
    engine = Engine.open([run / "adapter"])
    assert engine.cards["trial"].tiling == Tiling(side=48, overlap=16)
    picture = next(Path(recipe_of("qwen3_vl").data[0].path).rglob("JPEGImages/*.png"))
    cut, whole = engine.predict([Request((picture,), (), "trial"), Request((picture,), (), "trial", tiling="none")])
    for prediction in (cut, whole):
        assert set(prediction.fields) == {"passed", "findings"}
    assert cut.values["passed"] == (not cut.values["findings"])


def test_training_uses_tiles_and_testing_uses_whole_photos(recipe_of: Callable[..., Recipe]):
    recipe = recipe_of("qwen3_vl", fields=["passed", "kind", "findings.box"], tiling={"side": 40, "overlap": 8})
    plain, tiled = load(recipe.model_copy(update={"tiling": None})), load(recipe)
    assert tiled.counts["test"] == plain.counts["test"]
    assert tiled.counts["train"] > plain.counts["train"]
    assert {case.group for case in tiled.cases["train"]} == {case.group for case in plain.cases["train"]}
    for case in tiled.cases["train"]:
        (view,) = case.example.images
        left, top, right, bottom = view.crop
        assert (right - left, bottom - top) == (40, 40)
        assert case.values["passed"] == (case.values["findings"] == [])
        for item in case.values["findings"]:
            assert all(0 <= side <= 40 for side in in_pixels(tuple(item["box"]), (40, 40)))
