"""The recipe of the next adapter: the current one's, with what people have reviewed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from datasets_vision.formats.reviews import ROLE
from datasets_vision.images import open_image
from datasets_vision.placing import whole_file
from vlm_ft.adapters import adapter_folder, read_card
from vlm_ft.data.cases import load
from vlm_ft.data.splits import SPLITS
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.recipe import Recipe, load_recipe, with_absolute_paths
from vlm_ft.registry import HISTORY
from vlm_ft.review.store import Review, Reviews, photo_name
from vlm_ft.runs import RECIPE

FORMAT = "reviews"


@dataclass(frozen=True)
class Added:
    """The reviews that the next adapter learns from, and those of photos that its test set, or `tune`, contains."""

    reviews: tuple[Review, ...]
    known: tuple[Review, ...]


def write_next_recipe(reviews: Path, adapter: Path, out: Path) -> Added:
    """Write a recipe that trains on an adapter's data and on the reviews of its answers.

    `adapter`: a run folder, or a version in a registry. Its examples keep their roles, so that its test set stays
    unknown to the new adapter; reviewed cases are for training only. The reviews are copied beside `out`, since others
    are added meanwhile. Raises `AdapterError` if the adapter has no recipe, and `DataError` if none of its answers was
    reviewed.
    """
    recipe_file = adapter / RECIPE
    if not recipe_file.is_file():
        raise AdapterError(adapter, f"has no {RECIPE}", "give a run folder, or a version in a registry")
    store, before = Reviews(reviews), load_recipe(recipe_file)
    card = read_card(adapter_folder(adapter))
    name = adapter.parent.name if (adapter.parent / HISTORY).is_file() else card.name
    own = [review for review in store.last() if (review.adapter, review.task) == (name, card.form.task)]
    held_out = _held_out_photos(before, adapter) if any(review.photos for review in own) else set()
    known = tuple(review for review in own if held_out.intersection(review.photos))
    added = tuple(review for review in own if review not in known)
    if not any(review.verdict != "rejected" for review in added):
        raise DataError(reviews, f"no accepted or corrected answer of {name}", "review some answers first")
    copies = out.with_name(f"{out.stem}-{FORMAT}").resolve()
    store.copy(added, copies)
    content = _content(before, out.stem, copies, adapter)
    with whole_file(out) as part:
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return Added(added, known)


def _content(before: Recipe, name: str, reviews: Path, adapter: Path) -> dict[str, Any]:
    content = with_absolute_paths(before.model_dump(mode="json", exclude_unset=True))
    content["name"] = name
    others = [entry for entry in content["data"] if entry.get("format") != FORMAT]
    content["data"] = [*others, {"path": str(reviews), "format": FORMAT}]
    splits = content.setdefault("splits", {})
    splits["like"] = str(adapter.resolve())
    splits["source"] = {**splits.get("source", {}), ROLE: "train"}
    return content


def _held_out_photos(recipe: Recipe, adapter: Path) -> set[str]:
    """The names, as in the store, of the photos that the adapter has not learned from."""
    cases = load(recipe, adapter / SPLITS).cases
    pictures = [
        picture for role in ("tune", "calibrate", "test") for case in cases[role] for picture in case.example.images
    ]
    return {photo_name(open_image(picture)) for picture in pictures}
