"""Training from a vision bank equals training from photos."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from datasets_vision import images
from datasets_vision.example import Turn
from tests.families import SEEING
from tests.training.killed import train_until
from vlm_ft.bases.parts import PARTS
from vlm_ft.data.cases import Reply
from vlm_ft.recipe import Preference, Recipe
from vlm_ft.runs import Run
from vlm_ft.training import collate, fill
from vlm_ft.training.bank import Entry, load_entry, save_entry
from vlm_ft.training.collate import Collator
from vlm_ft.training.fill import Filler
from vlm_ft.training.methods.preference import DPO
from vlm_ft.training.plan import Cost
from vlm_ft.training.prepare import Prepared, prepare
from vlm_ft.training.run import train

Recipes = Callable[..., Recipe]
FROZEN = dict.fromkeys(PARTS, "frozen") | {"language": "lora"}
TRAINED = {"language": "lora", "projector": "full"}
ALWAYS = {"use": "always", "views": 2}


def gradients(prepared: Prepared, collator: Collator) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model = prepared.attached.model
    loss = collator.method.loss(model, collator(range(3)), None)
    loss.backward()
    found = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return loss.detach(), found


def no_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*given: Any, **options: Any) -> None:
        raise AssertionError("a photo was opened")

    monkeypatch.setattr(collate, "open_image", refuse)
    monkeypatch.setattr(images, "open_image", refuse)  # which `opened` calls for a file


@pytest.mark.parametrize("adapter", [FROZEN, TRAINED], ids=["frozen projector", "trained projector"])
@pytest.mark.parametrize("name", SEEING)
def test_loss_and_gradient_equal_those_from_photos(
    name: str,
    adapter: dict[str, str],
    recipe_of: Recipes,
    quiet: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With boxes and augmentation, both see the same variant of each photo."""
    recipe = recipe_of(name, adapter=adapter, augment="flips", fields=["passed", "kind", "findings"], bank=ALWAYS)
    prepared = replace(prepare(recipe), tune=None)
    prepared.train.cases = prepared.train.cases[:3]
    filler = Filler(prepared, recipe, tmp_path)
    assert filler.possible == (adapter is FROZEN or prepared.base.family.separate_tower)
    if not filler.possible:
        pytest.skip("the tower of this family cannot run without its projector")
    prepared.train.epoch = 1
    from_photos = gradients(prepared, prepared.train)
    filler.fill(2, quiet)
    no_photos(monkeypatch)
    from_bank = gradients(prepared, prepared.train)
    torch.testing.assert_close(from_bank, from_photos, rtol=1e-4, atol=1e-5)  # float32, other batches in the tower
    prepared.train.epoch = 2
    other_variant, _ = gradients(prepared, prepared.train)
    assert not torch.allclose(other_variant, from_bank[0])


@pytest.mark.parametrize("adapter", [FROZEN, TRAINED], ids=["frozen projector", "trained projector"])
def test_the_replies_of_a_pair_share_a_photo(
    adapter: dict[str, str], recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of("fast_vlm", adapter=adapter, bank=ALWAYS)
    prepared = prepare(recipe)
    chosen, rejected = Reply({"passed": True}, True), Reply({"passed": False}, False)
    pairs = [replace(case, replies=(chosen, rejected)) for case in prepared.train.cases]
    collator = Collator(prepared.conversation, prepared.dataset.form, pairs, method=DPO(Preference()))
    collator.references = [(-1.0, -1.5)] * len(pairs)
    from_photos = gradients(prepared, collator)
    Filler(replace(prepared, train=collator, tune=None), recipe, tmp_path).fill(1, quiet)
    no_photos(monkeypatch)
    torch.testing.assert_close(gradients(prepared, collator), from_photos, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "limit"), [("qwen3_vl", None), ("qwen3_vl", 40), ("llava_onevision", None), ("idefics3", None)]
)
def test_several_photos_and_none_share_a_batch(
    name: str,
    limit: int | None,
    recipe_of: Recipes,
    quiet: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The photos of one case are scaled to its limit, and cut into tiles, together."""
    recipe = recipe_of(name, adapter=FROZEN, bank=ALWAYS, image_tokens=limit)
    prepared = prepare(recipe)
    first, second, third = prepared.train.cases[:3]
    large = tmp_path / "large.png"
    Image.open(first.example.images[0]).resize((256, 192)).save(large)
    two = replace(first, example=replace(first.example, images=(large, *second.example.images)))
    (row,) = prepared.method.rows(prepared.train.form, two, two.example.images, two.values)
    free = prepare(recipe_of(name)).conversation.lengths(row)[1]
    assert limit is None or limit < free
    text = replace(second, example=replace(second.example, images=(), turns=(Turn("user", "A deep scratch."),)))
    prepared.train.cases = (two, text, third)
    from_photos = gradients(prepared, prepared.train)
    Filler(prepared, recipe, tmp_path / "bank").fill(1, quiet)
    no_photos(monkeypatch)
    torch.testing.assert_close(gradients(prepared, prepared.train), from_photos, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "adapter"), [("qwen3_vl", FROZEN), ("fast_vlm", TRAINED)])
def test_a_resumed_run_equals_an_uninterrupted_one(
    name: str,
    adapter: dict[str, str],
    recipe_of: Recipes,
    quiet: Console,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    training = {"max_steps": 6, "evaluations": 3, "workers": 1}
    recipe = recipe_of(name, adapter=adapter, augment="flips", bank=ALWAYS, training=training)
    unbroken, killed = Run(tmp_path / "unbroken"), Run(tmp_path / "killed")
    train(recipe, unbroken.folder, console=quiet)
    train_until(3, recipe, killed.folder, quiet, monkeypatch)
    assert any(killed.bank.iterdir())
    train(recipe, killed.folder, resume=True, console=quiet)
    adapters = [(run.adapter / "adapter_model.safetensors").read_bytes() for run in (unbroken, killed)]
    assert adapters[0] == adapters[1]
    assert not killed.bank.exists()


@pytest.mark.parametrize(
    ("bank", "steps", "views"),
    [
        ({"use": "auto"}, 1, 0),  # no photo is seen twice
        ({"use": "auto"}, 1000, 1),
        ({"use": "never"}, 1000, 0),
        ({"use": "always"}, 1, 1),
        ({"use": "always", "gigabytes": 1e-9}, 1000, 0),
    ],
)
def test_a_bank_is_filled_if_it_saves_time(
    bank: dict[str, Any],
    steps: int,
    views: int,
    recipe_of: Recipes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The towers of tiny bases take too little time for a measurement."""
    monkeypatch.setattr(Filler, "_timed", lambda *given: (0.01, 0.02, 1000.0))
    recipe = recipe_of("fast_vlm", bank=bank, training={"max_steps": steps, "evaluations": 1})
    console = Console(record=True, width=200, file=(tmp_path / "said").open("w"))
    cost = Cost(step=1.0, look=0.1, peak_bytes=0)
    plan = Filler(prepare(recipe), recipe, tmp_path / "bank").plan(cost, console)
    assert plan.views == views
    assert (plan.step < cost.step) == bool(views)
    said = console.export_text()
    assert ("GiB" in said) == (bool(views) or "gigabytes" in bank)


def test_the_steps_that_a_bank_makes_room_for_count(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a bank, these minutes suffice for four fifths of the photos, so that none would be read from it."""
    recipe = recipe_of("fast_vlm", training={"max_steps": None, "minutes": 1.0, "batch_size": 4})
    prepared = prepare(recipe)
    step = 75 * 4 / len(prepared.train.cases)
    monkeypatch.setattr(Filler, "_timed", lambda *given: (0.15 * step, 0.02 * step, 1000.0))
    plan = Filler(prepared, recipe, tmp_path / "bank").plan(Cost(step=step, look=0.0, peak_bytes=0), quiet)
    assert plan.views == 1
    assert plan.steps > 60 / step


def test_a_visit_does_not_save_the_time_that_an_entry_takes_to_write(
    recipe_of: Recipes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, late = time.perf_counter, list[float]()

    def slowly(file: Path, entry: Entry) -> None:
        late.append(1000.0)
        save_entry(file, entry)

    monkeypatch.setattr(fill, "save_entry", slowly)
    monkeypatch.setattr(time, "perf_counter", lambda: clock() + sum(late))
    recipe = recipe_of("fast_vlm", bank=ALWAYS)
    gain, build, _ = Filler(prepare(recipe), recipe, tmp_path)._timed([0, 1], 1)
    assert gain < 500 < build


def test_filling_switches_the_model_to_evaluation_once(
    recipe_of: Recipes, quiet: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A switch visits every module of the model, which takes longer than some towers."""
    recipe = recipe_of("fast_vlm", bank=ALWAYS)
    prepared = prepare(recipe)
    model, switches = prepared.base.model.train(), list[bool]()
    switch = model.train
    monkeypatch.setattr(model, "train", lambda mode=True: (switches.append(mode), switch(mode)))
    Filler(prepared, recipe, tmp_path).fill(2, quiet)
    assert switches == [False, True]


def test_a_file_holds_one_variant_of_a_photo(recipe_of: Recipes, quiet: Console, tmp_path: Path) -> None:
    recipe = recipe_of("fast_vlm", augment="flips", bank=ALWAYS)
    prepared = prepare(recipe)
    Filler(prepared, recipe, tmp_path).fill(2, quiet)
    files = {(index, view): prepared.train.entry_file(index, view) for index in range(3) for view in range(2)}
    assert len(set(files.values())) == len(files)
    for (index, view), file in files.items():
        (photo,), _ = prepared.train.drawn(index, view)
        assert load_entry(file).sizes == (photo.size,)


def test_a_file_belongs_to_the_bytes_of_a_photo_and_the_settings_of_the_processor(
    recipe_of: Recipes, quiet: Console, tmp_path: Path
) -> None:
    """Not to the path: the same photo elsewhere has the same features, and another one in its place has others."""
    recipe = recipe_of("fast_vlm", bank=ALWAYS)

    def file(*photos: Path) -> Path:
        case = prepared.train.cases[0]
        prepared.train.cases = (replace(case, example=replace(case.example, images=photos)),)
        Filler(prepared, recipe, tmp_path / "bank").fill(1, quiet)
        return prepared.train.entry_file(0, 0)

    prepared = replace(prepare(recipe), tune=None)
    first, second = (case.example.images[0] for case in prepared.train.cases[:2])
    (copy := tmp_path / "copy.png").write_bytes(first.read_bytes())
    known = file(first)
    assert known == file(copy) != file(second)
    copy.write_bytes(second.read_bytes())
    assert file(copy) == file(second)
    prepared.base.reader.processor.image_processor.image_mean = [0.1, 0.2, 0.3]
    assert file(first) != known
