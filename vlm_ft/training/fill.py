"""Decide whether a vision bank saves time, and fill it before the first step."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accelerate import PartialState
from rich.console import Console
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets_vision.images import opened
from vlm_ft.answers.task import Values
from vlm_ft.bases.features import Border, FrozenVision, border_of
from vlm_ft.bases.load import Base
from vlm_ft.bases.modes import evaluating
from vlm_ft.bases.precision import Precision, autocast, uses_bf16
from vlm_ft.data.subsets import spaced
from vlm_ft.recipe import Recipe
from vlm_ft.training.bank import Bank, Entry, save_entry
from vlm_ft.training.collate import Collator
from vlm_ft.training.plan import Cost, Plan, plan
from vlm_ft.training.prepare import Prepared, workers
from vlm_ft.training.rehearse import GIB

SAMPLE = 8  # cases used to time the bank
MOST_SAVED = 0.9  # of a step: at least the language model remains

Variant = tuple[Path, Mapping[str, Tensor], tuple[tuple[int, int], ...], Values | None]
"""One variant of a case: its file, the tower's inputs, the photos' sizes (width, height), and the augmented values."""


class Filler:
    """Fills the vision bank of a run, in `folder`."""

    def __init__(self, prepared: Prepared, recipe: Recipe, folder: Path) -> None:
        base, attached = prepared.base, prepared.attached
        border = None if attached.whole else border_of(base.family, attached.tunings)
        wanted = recipe.bank.use != "never" and not prepared.method.samples
        self._vision = FrozenVision(base, border) if border and wanted else None
        self._train, self._tune = prepared.train, prepared.tune
        self._settings, self._training, self._base = recipe.bank, recipe.training, base
        self._workers = workers(recipe.training, prepared.dataset)
        self._space = _space(base, border, recipe.training.precision) if border else ""
        self._folder = folder

    @property
    def possible(self) -> bool:
        """Whether the recipe allows a bank, and the base and the method can use one."""
        return self._vision is not None

    def plan(self, cost: Cost, console: Console) -> Plan:
        """The plan of the run, with a bank if more steps fit into the same time; `cost` was measured without one."""
        without = self._planned(cost, views=0)
        found = self._with_bank(cost, without, console)
        if found is None:
            return without
        banked, size = found
        schedule = self._planned(banked, self._views)
        build = banked.spent - cost.spent
        faster = schedule.steps / (build + schedule.seconds) > without.steps / without.seconds
        if not faster and self._settings.use != "always":
            return without
        console.print(f"vision bank: {size / GIB:.2f} GiB, about {build / 60:.1f} min to fill")
        return schedule

    @property
    def _views(self) -> int:
        """How many variants of each training photo a bank keeps."""
        return self._settings.views if self._train.augments else 1

    def _planned(self, cost: Cost, views: int) -> Plan:
        examples = self._train.order(self._training).cases
        schedule = plan(self._training, examples, cost, PartialState().num_processes)
        return schedule.model_copy(update={"views": views})

    def fill(self, views: int, console: Console) -> None:
        """Give each collator a bank, and compute the missing entries; each process computes its share."""
        with evaluating(self._base.model):
            for collator, count in ((self._train, views), (self._tune, 1)):
                if collator is not None:
                    collator.bank = Bank(self._folder, self._space, count)
                    self._complete(collator, console)

    def _with_bank(self, cost: Cost, without: Plan, console: Console) -> tuple[Cost, float] | None:
        """What the run costs with a bank, and the bank's bytes; None if there cannot be one, or it cannot pay.

        It cannot pay if even the fastest run would read fewer entries than are to be written.
        """
        with_photos = [index for index, case in enumerate(self._train.cases) if case.example.images]
        if self._vision is None or not with_photos:
            return None
        processes = PartialState().num_processes
        tune_entries = sum(bool(case.example.images) for case in self._tune.cases) if self._tune else 0
        entries = len(with_photos) * self._views + tune_entries
        share = len(with_photos) / len(self._train.cases)  # of a step's rows that have photos
        fastest = self._planned(replace(cost, step=(1 - MOST_SAVED) * cost.step), self._views)
        visits = fastest.steps * fastest.rows * processes * share + tune_entries * fastest.looks
        if visits <= entries and self._settings.use != "always":
            return None
        gain, build, size = self._timed(spaced(with_photos, SAMPLE), self._views)
        if entries * size > self._settings.gigabytes * GIB:
            needed = f"{entries * size / GIB:.1f} GiB"
            console.print(f"no vision bank: it needs {needed}, more than bank.gigabytes {self._settings.gigabytes:g}")
            return None
        banked = replace(
            cost,
            step=cost.step - min(without.rows * share * gain, MOST_SAVED * cost.step),
            look=cost.look - min(tune_entries * gain, MOST_SAVED * cost.look),
            spent=cost.spent + entries * build / processes,
        )
        return banked, entries * size

    def _timed(self, cases: Sequence[int], views: int) -> tuple[float, float, float]:
        """For one case: the seconds that a visit saves, the seconds to build its entry, and the entry's bytes.

        A visit saves its share of the tower's pass over a batch, which takes less than a pass over its photos alone.
        """
        prompts = [replace(self._train.rows(index)[0], target=None) for index in cases]
        together = self._train.conversation.encode(prompts)
        clock = [time.perf_counter()]
        self._train(cases)
        clock.append(time.perf_counter())
        self._train.bank = Bank(self._folder, self._space, views)
        try:
            variants = _Variants(self._train, [(index, self._train.view) for index in cases])
            built = [variants[place] for place in range(len(cases))]
            clock.append(time.perf_counter())
            with evaluating(self._base.model):
                for entry in built:
                    self._save(*entry)
                clock.append(time.perf_counter())
                self._encode(together)
            clock.append(time.perf_counter())
            self._train(cases)
            clock.append(time.perf_counter())
        finally:
            self._train.bank = None
        from_photos, opening, saving, tower, from_bank = np.diff(clock) / len(cases)
        size = sum(file.stat().st_size for file, *_ in built) / len(cases)
        return from_photos + tower - from_bank, opening + saving, size

    def _complete(self, collator: Collator, console: Console) -> None:
        """Compute each missing entry of a collator's bank once."""
        assert collator.bank is not None
        places = {
            collator.entry_file(index, view): (index, view)
            for view in range(collator.bank.views)
            for index, case in enumerate(collator.cases)
            if case.example.images
        }
        missing = [place for file, place in places.items() if not file.exists()]
        process = PartialState()
        process.wait_for_everyone()  # before any process writes, so that all divide up the same entries
        own = missing[process.process_index :: process.num_processes]
        loader = DataLoader(_Variants(collator, own), batch_size=None, num_workers=self._workers if own else 0)
        for variant in track(loader, "vision bank", len(own), console=console, transient=True, disable=not own):
            self._save(*variant)
        process.wait_for_everyone()

    def _save(
        self, file: Path, inputs: Mapping[str, Tensor], sizes: tuple[tuple[int, int], ...], values: Values | None
    ) -> None:
        save_entry(file, Entry(self._encode(inputs), sizes, values))

    def _encode(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        assert self._vision is not None
        with autocast(self._base.device, self._training.precision):
            return self._vision.encode(inputs)


class _Variants(Dataset[Variant]):
    """Variants of cases, each given as (case, view): opened, augmented and encoded as in training."""

    def __init__(self, collator: Collator, places: Sequence[tuple[int, int]]) -> None:
        self._collator, self._places = collator, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Variant:
        collator, (index, view) = self._collator, self._places[place]
        drawn, values = collator.drawn(index, view)
        photos = tuple(map(opened, drawn))
        row = collator.method.rows(collator.form, collator.cases[index], photos, values)[0]
        inputs = collator.conversation.encode([replace(row, target=None)])
        sizes = tuple(photo.size for photo in photos)
        return collator.entry_file(index, view), inputs, sizes, values if collator.augments else None


def _space(base: Base, border: Border, precision: Precision) -> str:
    """What the features of a photo depend on besides the photo: the tower's weights, and the settings of its input."""
    weights = [base.ref.fingerprint, str(base.model.dtype), base.quantized, uses_bf16(precision), border]
    settings = base.reader.processor.image_processor.to_dict()
    return json.dumps([weights, settings, base.reader.limits.image_tokens], sort_keys=True, default=str)
