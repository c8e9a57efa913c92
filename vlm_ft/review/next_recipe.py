"""The recipe of the next adapter: the current one's, with what people have reviewed since."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_vision.formats.reviews import ROLE
from datasets_vision.images import open_image
from datasets_vision.placing import beside
from vlm_ft.adapters import adapter_folder, read_card
from vlm_ft.data.cases import load
from vlm_ft.data.splits import SPLITS
from vlm_ft.errors import AdapterError, DataError
from vlm_ft.recipe import Recipe, load_recipe, with_absolute_paths
from vlm_ft.registry import HISTORY
from vlm_ft.review.store import Review, Reviews, photo_name
from vlm_ft.runs import RECIPE
from vlm_ft.settings import write_settings

FORMAT = "reviews"


@dataclass(frozen=True)
class Added:
    """The reviews that the next adapter learns from, and those of photos in `tune`, `calibrate` or `test`."""

    reviews: tuple[Review, ...]
    known: tuple[Review, ...]

    def __str__(self) -> str:
        counts = Counter(review.verdict for review in self.reviews)
        added = f"adds {', '.join(f'{count} {verdict}' for verdict, count in counts.items())}"
        added += f"; answered by version {', '.join(sorted({review.answered_by for review in self.reviews}))}"
        left_out = f"; leaves out {len(self.known)}, whose photos are in tune, calibrate or test"
        return added + (left_out if self.known else "")


def reviews_of(store: Reviews, adapter: Path) -> list[Review]:
    """The reviews that the next version of an adapter may learn from.

    `adapter`: a run folder, or a version in a registry. Raises `AdapterError` if the adapter has no recipe, and
    `DataError` if none of its answers was accepted or corrected.
    """
    if not (adapter / RECIPE).is_file():
        raise AdapterError(adapter, f"has no {RECIPE}", "give a run folder, or a version in a registry")
    card, name = read_card(adapter_folder(adapter)), _name(adapter)
    own = store.of(name, card.form.task)
    _require_usable(own, store, name)
    return own


def write_next_recipe(reviews: Path, adapter: Path, out: Path) -> Added:
    """Write a recipe that trains on an adapter's data and on the reviews of its answers.

    The adapter's examples keep their roles, so that the new one never learns from its test set; reviewed cases are for
    training only. The reviews are copied beside `out`, since people keep adding others. Raises as `reviews_of` does,
    also if all the reviewed photos are in `tune`, `calibrate` or `test`.
    """
    store = Reviews(reviews)
    own, before = reviews_of(store, adapter), load_recipe(adapter / RECIPE)
    held_out = _held_out_photos(before, adapter) if any(review.photos for review in own) else set()
    known = tuple(review for review in own if held_out.intersection(review.photos))
    added = tuple(review for review in own if review not in known)
    _require_usable(added, store, _name(adapter))
    copies = beside(out.parent / out.stem, f"-{FORMAT}").resolve()
    store.copy(added, copies)
    write_settings(out, _content(before, copies, adapter))
    return Added(added, known)


def _name(adapter: Path) -> str:
    """The name under which the adapter is served: the registry's or, for a run folder, its card's."""
    in_registry = (adapter.parent / HISTORY).is_file()
    return adapter.parent.name if in_registry else read_card(adapter_folder(adapter)).name


def _require_usable(reviews: Sequence[Review], store: Reviews, name: str) -> None:
    if not any(review.verdict != "rejected" for review in reviews):
        raise DataError(store.folder, f"no accepted or corrected answer of {name}", "review some answers first")


def _content(before: Recipe, reviews: Path, adapter: Path) -> dict[str, Any]:
    content = with_absolute_paths(before.model_dump(mode="json", exclude_unset=True))
    content["name"] = _name(adapter)
    others = [entry for entry in content["data"] if entry.get("format") != FORMAT]
    content["data"] = [*others, {"path": str(reviews), "format": FORMAT}]
    splits = content.setdefault("splits", {})
    splits["like"] = str(adapter.resolve())
    splits["source"] = {**splits.get("source", {}), ROLE: "train"}
    return content


def _held_out_photos(recipe: Recipe, adapter: Path) -> set[str]:
    """The names, as in the store, of the photos that the adapter was not trained on."""
    cases = load(recipe, adapter / SPLITS).cases
    pictures = [
        picture for role in ("tune", "calibrate", "test") for case in cases[role] for picture in case.example.images
    ]
    return {photo_name(open_image(picture)) for picture in pictures}
