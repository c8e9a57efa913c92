"""`Workplace`: where adapters are reviewed, trained and promoted, and the jobs that it can queue."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO, Literal

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
from vlm_ft.tasks import task_of
from vlm_ft.work.archives import unpacked_data, unpacked_photos
from vlm_ft.work.jobs import LOG, Job, Jobs
from vlm_ft.work.tokens import Right, Tokens

Table = Literal["csv", "parquet", "jsonl"]
RUN, REVIEW, PREFLIGHT = "run", "review.html", "preflight"
PHOTOS, DATA = "photos", "data"  # what was uploaded for a job, within its folder
UPLOADS_KEPT = timedelta(days=7)
LONGEST_NAME = 50  # characters of an uploaded file's name; file systems allow 255 bytes


@dataclass(frozen=True)
class Workplace:
    """Where people review answers, and jobs score folders and train and promote adapters.

    `root`: the folder below which jobs may read folders. Without `tokens`, every user may do everything.
    `uploads_kept`: see `delete_old_uploads`.
    """

    registry: Registry
    reviews: Reviews
    jobs: Jobs
    root: Path | None = None
    tokens: Tokens | None = None
    uploads_kept: timedelta = UPLOADS_KEPT

    def may(self, user: str | None, right: Right) -> bool:
        """Whether this user has the right."""
        return self.tokens is None or self.tokens.allows(user, right)

    def score(
        self, card: Card, files: Sequence[tuple[str, BinaryIO]], folder: str, table: Table, by: str | None
    ) -> Job:
        """Queue the scoring of files (name and content; zip files are unpacked), or of a folder below `root`.

        Raises `DataError` unless it is one of the two, for a folder that is not there, and for a zip file without
        images.
        """
        if bool(files) == bool(folder):
            raise DataError("photos, folder", "give one of the two", "send photos or a zip file, or name a folder")
        with self.jobs.preparing() as place:
            photos = _below(self.root, folder) if folder else _taken_in(files, place / PHOTOS)
            adapter, out = self.current(card), f"scores.{table}"
            title = f"{card.name} {adapter.number}: {folder or f'{len(files)} files'}"
            arguments = ["score", str(photos), "--adapter", str(adapter.folder.resolve()), "--out", out]
            pages = ["--review", REVIEW, "--first", FIRST]
            return self.jobs.submit(place, "score", title, [*arguments, *pages], out, by)

    def current(self, card: Card) -> Version:
        """An adapter's current version. Raises `DataError` if the registry does not have it."""
        if card.name not in self.registry.names():
            raise DataError("adapter", f"{card.name!r} is not in the registry", "choose one that is")
        return self.registry.current(card.name)

    def train(self, card: Card, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter's next version, on its data and on what people have reviewed since."""
        adapter = self.current(card)
        with _clients_mistakes():
            title = f"{card.name} {adapter.number} with {len(reviews_of(self.reviews, adapter.folder))} reviews"
        sources = [str(folder.resolve()) for folder in (self.reviews.folder, adapter.folder)]
        return self._training(title, ["train-next", *sources], minutes, by)

    def preflight(
        self, name: str, files: Sequence[tuple[str, BinaryIO]], folder: str, recipe: str, task: str, by: str | None
    ) -> Job:
        """Queue a look at new data, in a zip file or a folder below `root`, before an adapter is trained on them.

        `recipe`: a shipped one, "" for a proposal; `task`: that of the proposal, "" for the one that fits best. Raises
        `DataError` for a name that is taken or not a plain word, for a zip file that cannot be unpacked, and unless the
        data are one of the two.
        """
        if not NAME.fullmatch(name) or name in (BASE, *self.registry.names()):
            raise DataError(
                f"name {name[:80]!r}", "is taken, or not a plain word", "give another one, such as castings"
            )
        if bool(files) == bool(folder) or len(files) > 1:
            raise DataError("data", "give one zip file or one folder", "upload a zip file, or name a folder")
        with self.jobs.preparing() as place, _clients_mistakes():
            data = _below(self.root, folder) if folder else unpacked_data(files[0][1], place / DATA).resolve()
            chosen = ["--recipe", _shipped(recipe)] if recipe else ["--task", task_of(task).name] if task else []
            arguments = ["preflight", str(data), "--out", PREFLIGHT, "--name", name, *chosen]
            title = f"{name}: {folder or files[0][0]}"
            return self.jobs.submit(place, "preflight", title, arguments, PREFLIGHT, by)

    def train_new(self, checked: str, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter on data that were checked without errors."""
        folder = self.jobs.result(checked, "preflight").resolve()
        errors = Preflight.of(folder).errors
        if errors:
            raise DataError("data", f"the checks found {errors} errors", "correct the data, and check them again")
        return self._training(self.jobs.get(checked).title, ["train", str(folder / RECIPE)], minutes, by)

    def _training(self, title: str, command: Sequence[str], minutes: float | None, by: str | None) -> Job:
        limit = ["--set", f"training.minutes={minutes:g}"] if minutes is not None else []
        with self.jobs.preparing() as place:
            return self.jobs.submit(place, "train", title, [*command, "--out", RUN, *limit], RUN, by)

    def promote(self, trained: str, margin: float, by: str | None) -> Job:
        """Queue the comparison of a trained adapter with the current version, which it replaces if it is not worse."""
        run = self.jobs.result(trained, "train").resolve()
        title = f"{read_card(adapter_folder(run)).name}: job {trained}"
        arguments = ["promote", str(run), "--registry", str(self.registry.folder.resolve()), "--margin", f"{margin:g}"]
        with self.jobs.preparing() as place:
            return self.jobs.submit(place, "promote", title, [*arguments, *(["--by", by] if by else [])], LOG, by)

    def roll_back(self, card: Card, by: str | None, over: int | None = None) -> Version:
        """Serve the version that was current before. Raises `DataError` if there was none.

        `over`: the one to go back from; if another one is current, that is an error too.
        """
        self.current(card)
        with _clients_mistakes():
            return self.registry.roll_back(card.name, by=by, over=over)


def _taken_in(files: Sequence[tuple[str, BinaryIO]], photos: Path) -> Path:
    """The new folder `photos` with these files, without metadata; zip files are unpacked."""
    photos.mkdir()
    for number, (name, content) in enumerate(files, 1):
        if zipfile.is_zipfile(content) or name.lower().endswith(".zip"):
            unpacked_photos(content, photos if len(files) == 1 else photos / str(number))
            continue
        plain = Path(name.replace("\0", "")).name[-LONGEST_NAME:] or "photo"
        target = photos / plain
        while target.exists():
            target = target.with_name(f"{number} {target.name}")
        content.seek(0)
        with target.open("wb") as out:
            shutil.copyfileobj(content, out)
        remove_metadata(target)
    return photos.resolve()


def _below(root: Path | None, name: str) -> Path:
    """The folder of that name below `root`. Raises `DataError` if there is none, or it leads elsewhere."""
    if root is None:
        raise DataError("folder", "this service has no --root", "send a zip file")
    place = (root / name.replace("\0", "")).resolve()
    try:
        found = place.is_relative_to(root.resolve()) and place.is_dir()
    except OSError:  # such as a name that is too long
        found = False
    if not found:
        raise DataError("folder", f"no folder {name[:80]!r} below the service's root", "give another name")
    return place


def _shipped(recipe: str) -> str:
    """The name of a shipped recipe. Raises `DataError` for another one, such as a file's."""
    if recipe not in shipped():
        raise DataError(f"recipe {recipe[:80]!r}", "is not a shipped one", nearest(recipe[:80], shipped()))
    return recipe


@contextmanager
def _clients_mistakes() -> Iterator[None]:
    """Turns errors about an adapter or a task into `DataError`: the request asked for what is not there."""
    try:
        yield
    except (AdapterError, RecipeError) as error:
        raise DataError(error.place, error.problem, error.remedy) from error
