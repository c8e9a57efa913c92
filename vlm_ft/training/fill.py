"""Decide whether a vision bank saves time, and fill it before the first step."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accelerate import PartialState
from PIL.Image import Image
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from vlm_ft.answers.task import Values
from vlm_ft.bases.features import FrozenVision, border_of
from vlm_ft.bases.precision import autocast
from vlm_ft.conversation import opened
from vlm_ft.recipe import Recipe
from vlm_ft.training.bank import Bank, Kept, read, write
from vlm_ft.training.collate import Collator
from vlm_ft.training.plan import Cost, Plan, plan
from vlm_ft.training.prepare import Prepared, workers

SAMPLE = 8  # cases on which the bank is timed
GIB = 2**30
Drawn = tuple[Path, list[Image], Values | None]  # where the features of these photos are kept, and their values


class Filler:
    """Fills the bank of a run, in `folder`."""

    def __init__(self, prepared: Prepared, recipe: Recipe, folder: Path) -> None:
        base, border = prepared.base, border_of(prepared.base.family, prepared.attached.words)
        wanted = recipe.bank.use != "never" and prepared.method.fixed_rows
        self._vision = FrozenVision(base, border) if border and wanted else None
        self._train, self._tune = prepared.train, prepared.tune
        self._settings, self._training, self._device = recipe.bank, recipe.training, base.device
        self._workers = workers(recipe.training, prepared.dataset)
        self._folder, limits = folder, base.reader.limits
        self._space = json.dumps([base.ref.fingerprint, border, limits.pixels, limits.image_tokens])

    @property
    def possible(self) -> bool:
        """Whether the recipe allows a bank, and the base and the method can use one."""
        return self._vision is not None

    def plan(self, cost: Cost, console: Console) -> Plan:
        """The plan of the run, with a bank if that saves time; `cost` is measured without one."""
        examples = len(self._train.cases)
        views, cost = self._weighed(plan(self._training, examples, cost), cost, console)
        return replace(plan(self._training, examples, cost), views=views)

    def _weighed(self, schedule: Plan, cost: Cost, console: Console) -> tuple[int, Cost]:
        """How many views of each training photo to keep, 0 for no bank, and what the run costs then."""
        with_photos = [index for index, case in enumerate(self._train.cases) if case.example.images]
        if self._vision is None or not with_photos:
            return 0, cost
        views = self._settings.views if self._train.augments else 1
        of_tune = len(self._tune.cases) if self._tune else 0
        kept = len(self._train.cases) * views + of_tune
        shown = schedule.steps * schedule.rows * PartialState().num_processes + of_tune * schedule.looks
        always = self._settings.use == "always"
        if shown <= kept and not always:
            return 0, cost
        build, reading, size = self._timed(with_photos[:SAMPLE], views)
        saved, space = shown * (build - reading) - kept * build, kept * size / GIB
        if space > self._settings.gigabytes:
            console.print(f"no vision bank: its {space:.1f} GiB exceed bank.gigabytes {self._settings.gigabytes:g}")
            return 0, cost
        if saved <= 0 and not always:
            return 0, cost
        console.print(f"vision bank: {kept} entries, {space:.2f} GiB, about {kept * build / 60:.1f} min to fill")
        return views, replace(
            cost,
            step=max(cost.step - schedule.rows * (build - reading), cost.step / 2),
            look=max(cost.look - of_tune * (build - reading), cost.look / 2),
            spent=cost.spent + kept * build,
        )

    def fill(self, views: int, console: Console) -> None:
        """Give the collators a bank, and keep what it lacks; each process computes its share."""
        for collator, kept in ((self._train, views), (self._tune, 1)):
            if collator is not None:
                collator.bank = Bank(self._folder, self._space, kept)
                self._keep(collator, range(len(collator.cases)), console)
        PartialState().wait_for_everyone()

    def _timed(self, cases: Sequence[int], views: int) -> tuple[float, float, float]:
        """Seconds to build and to read an entry, and its bytes."""
        self._train.bank = Bank(self._folder, self._space, views)
        try:
            files = [self._train.kept_at(index, 0) for index in cases]
            began = time.perf_counter()
            for index in cases:
                self._look(*_Draws(self._train, [(index, 0)])[0])
            built = time.perf_counter()
            for file in files:
                read(file)
            done = time.perf_counter()
        finally:
            self._train.bank = None
        size = sum(file.stat().st_size for file in files)
        return (built - began) / len(cases), (done - built) / len(cases), size / len(cases)

    def _keep(self, collator: Collator, cases: Sequence[int], console: Console) -> None:
        assert collator.bank is not None
        places = [
            (index, view)
            for view in range(collator.bank.views)
            for index in cases
            if collator.cases[index].example.images and not collator.kept_at(index, view).exists()
        ]
        PartialState().wait_for_everyone()  # before any process writes, so that all divide the same places
        with PartialState().split_between_processes(places) as own:
            loader = DataLoader(_Draws(collator, own), batch_size=None, num_workers=self._workers)
            for drawn in track(loader, "vision bank", len(own), console=console, transient=True, disable=not own):
                self._look(*drawn)

    def _look(self, file: Path, photos: Sequence[Image], values: Values | None) -> None:
        assert self._vision is not None
        with autocast(self._device, self._training.precision):
            features = tuple(map(self._vision.look, photos))
        write(file, Kept(features, tuple(photo.size for photo in photos), values))


class _Draws(Dataset[Drawn]):
    """Variants of cases, by (case, view), opened and augmented."""

    def __init__(self, collator: Collator, places: Sequence[tuple[int, int]]) -> None:
        self._collator, self._places = collator, places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, place: int) -> Drawn:
        index, view = self._places[place]
        photos, values = self._collator.drawn(index, view)
        file = self._collator.kept_at(index, view)
        return file, list(map(opened, photos)), values if self._collator.augments else None
