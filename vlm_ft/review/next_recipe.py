"""The recipe of the next adapter: the current one's, with what people have reviewed since."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from datasets_vision.formats.reviews import ROLE
from datasets_vision.placing import whole_file
from vlm_ft.adapters import adapter_folder, read_card
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.recipe import load_recipe
from vlm_ft.review.store import Review, Reviews
from vlm_ft.runs import RECIPE


def write_next_recipe(reviews: Path, adapter: Path, out: Path) -> list[Review]:
    """Write a recipe that trains on an adapter's data and on the reviews, and return the reviews that it adds.

    `adapter`: a run folder, or a version in a registry. Its examples keep their roles, so that its test set stays
    unknown to the new adapter; reviewed cases are for training only. Raises `AdapterError` if the adapter has no
    recipe, and `DataError` if no review is of its task.
    """
    recipe_file = adapter / RECIPE
    if not recipe_file.is_file():
        raise AdapterError(adapter, f"has no {RECIPE}", "give a run folder, or a version in a registry")
    task = read_card(adapter_folder(adapter)).form.task
    found = [review for review in Reviews(reviews).last() if review.task == task and review.verdict != "rejected"]
    if not found:
        raise DataError(reviews, f"no accepted or corrected answer of task {task}", "review some answers first")
    before = load_recipe(recipe_file)
    content: dict[str, Any] = before.model_dump(mode="json", exclude_unset=True)
    content["name"] = out.stem
    entry = {"path": str(reviews.resolve()), "format": "reviews"}
    content["data"] = [one for one in content["data"] if one.get("path") != entry["path"]] + [entry]
    splits = content.setdefault("splits", {})
    splits["like"] = str(adapter.resolve())
    splits["source"] = {**splits.get("source", {}), ROLE: "train"}
    with whole_file(out) as part:
        part.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return found
