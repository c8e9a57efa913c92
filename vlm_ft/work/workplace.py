"""`Workplace`: where adapters are reviewed, trained and promoted, and the jobs that it can queue."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, Literal

from datasets_vision.metadata import remove_metadata
from vlm_ft.adapters import Card, adapter_folder, read_card
from vlm_ft.data.preflight import Preflight
from vlm_ft.errors import AdapterError, DataError, RecipeError, nearest
from vlm_ft.inference.request import BASE
from vlm_ft.recipe import shipped
from vlm_ft.registry import NAME, Registry, Version
from vlm_ft.review.next_recipe import reviews_of
from vlm_ft.review.store import Reviews
from vlm_ft.runs import RECIPE
from vlm_ft.scoring.first import FIRST
from vlm_ft.scoring.progress import PROGRESS
from vlm_ft.tasks import task_of
from vlm_ft.work.archives import unpack_data, unpack_photos
from vlm_ft.work.jobs import LOG, Job, Jobs
from vlm_ft.work.memory import Need
from vlm_ft.work.tokens import Right, Tokens

Table = Literal["csv", "parquet", "jsonl"]
RUN, REVIEW, PREFLIGHT = "run", "review.html", "preflight"
PHOTOS, DATA = "photos", "data"  # what was uploaded for a job, within its folder
UPLOADS_KEPT = timedelta(days=7)
MAX_NAME = 50  # characters of an uploaded file's name; file systems allow 255 bytes


@dataclass(frozen=True)
class Workplace:
    """Where people review answers, and jobs score folders and train and promote adapters.

    `root`: the folder below which jobs may read folders. Without `tokens`, every user may do everything. `base_bytes`:
    the size of the base that is served, which estimates of a job's memory assume for every base.
    `uploads_kept`: see `delete_old_uploads`.
    """

    registry: Registry
    reviews: Reviews
    jobs: Jobs
    root: Path | None = None
    tokens: Tokens | None = None
    base_bytes: int = 0
    uploads_kept: timedelta = UPLOADS_KEPT

    def may(self, user: str | None, right: Right) -> bool:
        return self.tokens is None or self.tokens.allows(user, right)

    def score(
        self, card: Card, files: Sequence[tuple[str, BinaryIO]], folder: str, table: Table, by: str | None
    ) -> Job:
        """Queue the scoring of files (name and content; zip files are unpacked), or of a folder below `root`.

        Raises `DataError` unless exactly one of the two is given, for a folder that does not exist, and for a zip file
        without images.
        """
        if bool(files) == bool(folder):
            raise DataError("photos, folder", "give one of the two", "send photos or a zip file, or name a folder")
        with self.jobs.preparing() as place:
            photos = _below(self.root, folder) if folder else _store(files, place / PHOTOS)
            adapter, out = self.current(card), f"scores.{table}"
            title = f"{card.name} {adapter.number}: {folder or f'{len(files)} files'}"
            arguments = ["score", str(photos), "--adapter", str(adapter.folder.resolve()), "--out", out]
            options = ["--review", REVIEW, "--first", FIRST, "--progress", PROGRESS, "--untrusted"]
            return self.jobs.submit(place, "score", title, [*arguments, *options], out, by, self._need())

    def current(self, card: Card) -> Version:
        """An adapter's current version. Raises `DataError` if the registry does not have it."""
        if card.name not in self.registry.names():
            raise DataError("adapter", f"{card.name!r} is not in the registry", "choose one that is")
        return self.registry.current(card.name)

    def version(self, card: Card, fingerprint: str) -> Card:
        """The card of the version of a served adapter that has this fingerprint. Raises `DataError` if none has.

        `card`: the card of the version that is served; looking up others takes a registry.
        """
        if fingerprint == card.fingerprint:
            return card
        numbered = self.registry.versions(card.name) if card.name in self.registry.names() else []
        for version in numbered:
            if (found := version.card).fingerprint == fingerprint:
                return found.model_copy(update={"name": card.name, "number": version.number})
        raise DataError("card", f"no version of {card.name!r} has it", "send the one that the answer states")

    def train(self, card: Card, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter's next version, on its data and on what people have reviewed since."""
        adapter = self.current(card)
        with _as_data_errors():
            title = f"{card.name} {adapter.number} with {len(reviews_of(self.reviews, adapter.folder))} reviews"
        sources = [str(folder.resolve()) for folder in (self.reviews.folder, adapter.folder)]
        return self._training(title, ["train-next", *sources], minutes, by, _peak_here(adapter.card.training))

    def preflight(
        self, name: str, files: Sequence[tuple[str, BinaryIO]], folder: str, recipe: str, task: str, by: str | None
    ) -> Job:
        """Queue the preflight of new data, in a zip file or a folder below `root`.

        `recipe`: a shipped one, "" for a proposal; `task`: the proposal's task, "" for the one that fits best. Raises
        `DataError` for a name that is taken or not a plain word, for a zip file that cannot be unpacked, and unless
        exactly one of the two is given.
        """
        if not NAME.fullmatch(name) or name in (BASE, *self.registry.names()):
            raise DataError(
                f"name {name[:80]!r}", "is taken, or not a plain word", "give another one, such as castings"
            )
        if bool(files) == bool(folder) or len(files) > 1:
            raise DataError("data", "give one zip file or one folder", "upload a zip file, or name a folder")
        with self.jobs.preparing() as place, _as_data_errors():
            data = _below(self.root, folder) if folder else unpack_data(files[0][1], place / DATA).resolve()
            chosen = ["--recipe", _shipped(recipe)] if recipe else ["--task", task_of(task).name] if task else []
            arguments = ["preflight", str(data), "--out", PREFLIGHT, "--name", name, "--untrusted", *chosen]
            title = f"{name}: {folder or 'a zip file'}"  # its name may be a person's
            return self.jobs.submit(place, "preflight", title, arguments, PREFLIGHT, by, self._need())

    def train_new(self, checked: str, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter on data that were checked without errors."""
        folder = self.jobs.result(checked, "preflight").resolve()
        found = Preflight.of(folder)
        if found.errors:
            raise DataError("data", f"the checks found {found.errors} errors", "correct the data, and check them again")
        command = ["train", str(folder / RECIPE)]
        return self._training(self.jobs.get(checked).title, command, minutes, by, found.peak_bytes)

    def _need(self, peak: int = 0) -> Need:
        """The memory of a job; `peak`: as measured before, if it was."""
        return Need.of(self.base_bytes, peak)

    def _training(self, title: str, command: Sequence[str], minutes: float | None, by: str | None, peak: int) -> Job:
        limit = ["--set", f"training.minutes={minutes:g}"] if minutes is not None else []
        with self.jobs.preparing() as place:
            return self.jobs.submit(place, "train", title, [*command, "--out", RUN, *limit], RUN, by, self._need(peak))

    def promote(self, trained: str, margin: float, by: str | None) -> Job:
        """Queue the comparison of a trained adapter with the current version, which it replaces if it is not worse."""
        run = self.jobs.result(trained, "train").resolve()
        title = f"{read_card(adapter_folder(run)).name}: job {trained}"
        arguments = ["promote", str(run), "--registry", str(self.registry.folder.resolve()), "--margin", f"{margin:g}"]
        with self.jobs.preparing() as place:
            arguments += ["--by", by] if by else []
            return self.jobs.submit(place, "promote", title, arguments, LOG, by, self._need())

    def roll_back(self, card: Card, by: str | None, over: int | None = None) -> Version:
        """Serve the previously current version. Raises `DataError` if there was none.

        `over`: the one to go back from; if another one is current, that is an error too.
        """
        self.current(card)
        with _as_data_errors():
            return self.registry.roll_back(card.name, by=by, over=over)


def _peak_here(training: Mapping[str, Any]) -> int:
    """The peak memory that an adapter's card states, in bytes; 0 if it was trained on another kind of device."""
    import torch

    on_cpu = str(training.get("device", "")).startswith("cpu")
    return int(training.get("peak_bytes") or 0) if on_cpu != torch.cuda.is_available() else 0


def _store(files: Sequence[tuple[str, BinaryIO]], photos: Path) -> Path:
    """The new folder `photos` with these files, without metadata; zip files are unpacked."""
    photos.mkdir()
    for number, (name, content) in enumerate(files, 1):
        if zipfile.is_zipfile(content) or name.lower().endswith(".zip"):
            unpack_photos(content, photos if len(files) == 1 else photos / str(number))
            continue
        plain = Path(name.replace("\0", "")).name[-MAX_NAME:] or "photo"
        target = photos / plain
        while target.exists():
            target = target.with_name(f"{number} {target.name}")
        content.seek(0)
        with target.open("wb") as out:
            shutil.copyfileobj(content, out)
        remove_metadata(target)
    return photos.resolve()


def _below(root: Path | None, name: str) -> Path:
    """The folder of that name below `root`. Raises `DataError` if there is none, or it lies outside."""
    if root is None:
        raise DataError("folder", "this service has no --root", "send a zip file")
    place = (root / name.replace("\0", "")).resolve()
    try:
        found = place.is_relative_to(root.resolve()) and place.is_dir()
    except OSError:  # such as a name that is too long
        found = False
    if not found:
        raise DataError("folder", f"no folder {name[:80]!r} under the service's root", "give another name")
    return place


def _shipped(recipe: str) -> str:
    """The name of a shipped recipe. Raises `DataError` for another one, such as a file's."""
    if recipe not in shipped():
        raise DataError(f"recipe {recipe[:80]!r}", "is not a shipped one", nearest(recipe[:80], shipped()))
    return recipe


@contextmanager
def _as_data_errors() -> Iterator[None]:
    """Turn errors about an adapter or a task into `DataError`, since the request is at fault."""
    try:
        yield
    except (AdapterError, RecipeError) as error:
        raise DataError(error.place, error.problem, error.remedy) from error
