"""Reviews extend the recipe of an adapter: its test set stays, and reviewed cases are learned."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from datasets_vision.images import open_image
from vlm_ft.adapters import read_card
from vlm_ft.data.cases import load
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.recipe import load_recipe
from vlm_ft.registry import Registry
from vlm_ft.review.next_recipe import write_next_recipe
from vlm_ft.review.store import Reviews


def reviewed(folder: Path, run: Path, name: str = "trial") -> Reviews:
    card, store = read_card(run / "adapter").model_copy(update={"name": name}), Reviews(folder)
    kinds = card.form.field("kind").kind.options  # type: ignore[union-attr]
    for number, verdict in enumerate(("accepted", "corrected", "rejected")):
        store.add(
            card,
            [Image.effect_noise((64, 64), 40 + number)],
            "",
            {"passed": True, "kind": kinds[0]},
            verdict,  # type: ignore[arg-type]
            {"passed": False, "kind": kinds[1]} if verdict == "corrected" else None,
        )
    return store


@pytest.mark.parametrize("place", ["run", "registry"])
def test_the_test_set_stays_and_reviews_are_learned(run_of: Callable[..., Path], tmp_path: Path, place: str) -> None:
    run = run_of("fast_vlm")
    reviewed(tmp_path / "reviews", run, "trial" if place == "run" else "parts")
    adapter = run if place == "run" else Registry(tmp_path / "adapters").add("parts", run).folder
    added = write_next_recipe(tmp_path / "reviews", adapter, tmp_path / "next.yaml")
    found, version = added.reviews, read_card(run / "adapter").fingerprint
    assert [review.verdict for review in found] == ["accepted", "corrected", "rejected"]
    assert str(added) == f"adds 1 accepted, 1 corrected, 1 rejected; answered by version {version[:8]}"
    assert {review.card for review in Reviews(tmp_path / "next-reviews").last()} == {version}
    before, after = (
        load(load_recipe(run / "recipe.yaml"), run / "splits.jsonl"),
        load(load_recipe(tmp_path / "next.yaml")),
    )
    for role in ("tune", "test"):
        assert [case.example.id for case in after.cases[role]] == [case.example.id for case in before.cases[role]]
    learned = {case.example.id for case in after.cases["train"]} - {case.example.id for case in before.cases["train"]}
    assert learned == {review.case for review in found}  # a rejected answer is for methods that learn from it
    assert after.form.fingerprint == before.form.fingerprint


def test_reviews_are_added_once(run_of: Callable[..., Path], tmp_path: Path) -> None:
    run = run_of("fast_vlm")
    reviewed(tmp_path / "reviews", run)
    write_next_recipe(tmp_path / "reviews", run, tmp_path / "next.yaml")
    version = Registry(tmp_path / "adapters").add("trial", run)
    (version.folder / "recipe.yaml").write_bytes((tmp_path / "next.yaml").read_bytes())
    write_next_recipe(tmp_path / "reviews", version.folder, tmp_path / "later.yaml")
    assert [entry.format for entry in load_recipe(tmp_path / "later.yaml").data].count("reviews") == 1


def test_an_interrupted_recipe_can_be_written_again(run_of: Callable[..., Path], tmp_path: Path) -> None:
    run = run_of("fast_vlm")
    store = reviewed(tmp_path / "reviews", run)
    write_next_recipe(store.folder, run, tmp_path / "next.yaml")
    (tmp_path / "next.yaml").unlink()
    (tmp_path / "next-reviews" / "reviews.jsonl").unlink()
    store.add(read_card(run / "adapter"), [], "a later one", store.last()[0].answer, "accepted")
    write_next_recipe(store.folder, run, tmp_path / "next.yaml")
    assert load_recipe(tmp_path / "next.yaml").name == "trial"
    assert len(Reviews(tmp_path / "next-reviews").last()) == 4


def test_reviews_of_other_adapters_and_of_known_photos_are_left_out(
    run_of: Callable[..., Path], drawings: Path, tmp_path: Path
) -> None:
    run = run_of("fast_vlm")
    store = reviewed(tmp_path / "reviews", run)
    card = read_card(run / "adapter")
    answer = store.last()[0].answer
    store.add(card.model_copy(update={"name": "other"}), [Image.new("RGB", (9, 9))], "", answer, "accepted")
    (tested, *_) = load(load_recipe(run / "recipe.yaml"), run / "splits.jsonl").cases["test"]
    known = store.add(card, [open_image(tested.example.images[0])], "", answer, "accepted")
    found = write_next_recipe(tmp_path / "reviews", run, tmp_path / "next.yaml")
    assert found.known == (known,)
    assert {review.adapter for review in found.reviews} == {"trial"}
    before = (tmp_path / "next.yaml").read_bytes()
    store.add(card, [], "a later one", answer, "accepted")
    assert len(Reviews(tmp_path / "next-reviews").last()) == len(found.reviews)  # a copy: a run can be resumed
    assert (tmp_path / "next.yaml").read_bytes() == before


def test_without_a_recipe_or_reviews_it_says_what_to_do(run_of: Callable[..., Path], tmp_path: Path) -> None:
    run = run_of("fast_vlm")
    with pytest.raises(AdapterError, match=r"has no recipe.yaml; give a run folder"):
        write_next_recipe(tmp_path, run / "adapter", tmp_path / "next.yaml")
    with pytest.raises(DataError, match="no accepted or corrected answer of trial"):
        write_next_recipe(tmp_path, run, tmp_path / "next.yaml")
