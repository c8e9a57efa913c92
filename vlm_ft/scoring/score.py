"""Score every image below a folder, a batch at a time; each batch is stored as it completes."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL.Image import Image

from datasets_vision.images import is_image, open_image
from datasets_vision.walk import linked_folders, suffix_of, walk
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.inference.request import Predictor, Request
from vlm_ft.scoring.export import check_target, write_table
from vlm_ft.scoring.ledger import Ledger, Row, ledger_path

BATCH_PIXELS = 200_000_000
"""A batch holds no more decoded pixels than this (600 MB), plus one image."""

ALL_SCORED = 0
SOME_SET_ASIDE = 3


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run: images done, including those of earlier runs, and how many of them were set aside."""

    done: int
    total: int
    set_aside: int
    images_per_second: float
    eta_seconds: float | None


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """A finished run. `resumed` images had been scored by an earlier run; `set_aside` pairs path and reason.

    Images are set aside if they cannot be read or the adapter could not answer. `notes` list what has no row: other
    files, links to folders, images of an earlier run that have been removed.
    """

    out: Path
    total: int
    resumed: int
    ask_a_person: int
    set_aside: tuple[tuple[str, str], ...]
    seconds: float
    notes: tuple[str, ...] = ()

    @property
    def scored(self) -> int:
        """Images with an answer, including those of earlier runs."""
        return self.total - len(self.set_aside)

    @property
    def complete(self) -> bool:
        """Whether every image has an answer."""
        return not self.set_aside

    @property
    def exit_code(self) -> int:
        """0 if all are scored, 3 if some were set aside (2 is a user error)."""
        return ALL_SCORED if self.complete else SOME_SET_ASIDE


def score_folder(
    predictor: Predictor,
    adapter: str,
    folder: Path,
    out: Path,
    *,
    batch_size: int = 16,
    progress: Callable[[Progress], None] | None = None,
    adapter_folder: Path | None = None,
    by_case: bool = False,
) -> ScoreReport:
    """Write one row an image below `folder` to `out` (.parquet, .csv or .jsonl; see `export`).

    An interrupted run resumes from `<out>.ledger`, whose rows are keyed by relative path and content, so an image is
    scored again only if its bytes have changed. The table covers the folder as it is now. With `by_case`, the photos
    in each subfolder are one case with one row, under that folder's path; a photo directly in `folder` is a case of its
    own. The ledger is bound to the adapter's card, and to its tensors where `adapter_folder` is given. Raises
    `DataError` for a target that cannot be written, a folder without images or a ledger in use, `AdapterError` for an
    unknown adapter, one that reads text only, or a ledger of another adapter.
    """
    card = _card(predictor, adapter)
    check_target(out)
    images, notes = _images(folder, out)
    paths = _units(images, folder, by_case)
    with Ledger(ledger_path(out), adapter, adapter_identity(card, adapter_folder), folder) as ledger:
        run = _Run(len(paths), progress)
        try:
            for batch in _batches(_unanswered(paths, ledger, run), batch_size):
                rows = _answered(batch, predictor, adapter)
                ledger.record(rows)
                run.add(rows)
            run.report_progress()
            write_table(out, card, _rows(paths, ledger))
            if gone := len(ledger) - len(paths):
                notes.append(f"rows of earlier runs whose photos have been removed are left out: {gone}")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped with {run.done} of {run.total} images in {ledger_path(out)}; "
                "run the same command again to resume"
            ) from None
    return run.report(out, notes)


def adapter_identity(card: Card, folder: Path | None = None) -> str:
    """A hash of what decides an adapter's answers: its card without name and figures, its settings, its tensors."""
    parts = card.model_dump_json(exclude={"name", "metrics"})
    if folder is not None:
        parts += _digest([*folder.glob("adapter_config.json"), *sorted(folder.glob("*.safetensors"))])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Opened:
    """A case without a row, or the reason why it cannot be read."""

    path: str
    digest: str
    images: tuple[Image, ...] = ()
    error: str = ""

    @property
    def pixels(self) -> int:
        return sum(image.width * image.height for image in self.images)


class _Run:
    """The counts of one run."""

    def __init__(self, total: int, progress: Callable[[Progress], None] | None) -> None:
        self.total = total
        self.done = 0
        self._resumed = 0
        self._ask = 0
        self._set_aside: list[tuple[str, str]] = []
        self._progress = progress
        self._start = time.monotonic()

    def resume(self, row: Row) -> None:
        """Count a row of an earlier run."""
        self._resumed += 1
        self._count(row)

    def add(self, rows: Sequence[Row]) -> None:
        """Count the rows of a batch, and report progress."""
        for row in rows:
            self._count(row)
        self.report_progress()

    def report_progress(self) -> None:
        if self._progress is None:
            return
        fresh = self.done - self._resumed
        rate = fresh / max(time.monotonic() - self._start, 1e-9)
        eta = (self.total - self.done) / rate if rate else None
        self._progress(Progress(self.done, self.total, len(self._set_aside), rate, eta))

    def report(self, out: Path, notes: Iterable[str]) -> ScoreReport:
        return ScoreReport(
            out=out,
            total=self.total,
            resumed=self._resumed,
            ask_a_person=self._ask,
            set_aside=tuple(sorted(self._set_aside)),
            seconds=time.monotonic() - self._start,
            notes=tuple(notes),
        )

    def _count(self, row: Row) -> None:
        self.done += 1
        if row.prediction.error is not None:
            self._set_aside.append((row.path, row.prediction.error))
        elif row.prediction.decision != "answer":
            self._ask += 1


def _card(predictor: Predictor, adapter: str) -> Card:
    if adapter not in predictor.cards:
        raise AdapterError("", f"adapter {adapter!r} is not loaded", nearest(adapter, predictor.cards))
    card = predictor.cards[adapter]
    if card.base.kind == "text":
        raise AdapterError("", f"adapter {adapter!r} reads text only", "score images with an adapter of a vision base")
    return card


def check_folder(folder: Path) -> None:
    """Raise `DataError` if the folder does not exist or contains no images."""
    if not folder.is_dir():
        raise DataError(folder, "no such folder of images", "check the path")
    if not any(map(is_image, walk(folder))):
        raise DataError(folder, "contains no images", "give a folder with JPEG, PNG, WebP, BMP, TIFF or GIF files")


def _images(folder: Path, out: Path) -> tuple[list[Path], list[str]]:
    """The images below the folder, and notes on everything else there."""
    check_folder(folder)
    own = {place.resolve() for place in (out, ledger_path(out))}
    images: list[Path] = []
    others: Counter[str] = Counter()
    for path in walk(folder):
        if is_image(path):
            images.append(path)
        elif path.resolve() not in own:
            others[suffix_of(path.name) or "no suffix"] += 1
    kinds = ", ".join(f"{suffix} {count}" for suffix, count in others.most_common())
    notes = [f"other files are not scored: {kinds}"] if others else []
    notes += [
        f"{place}: links to folders are not followed; score that folder itself" for place in linked_folders(folder)
    ]
    return images, notes


def _units(paths: Sequence[Path], folder: Path, by_case: bool) -> dict[str, tuple[Path, ...]]:
    """Name of a row -> its photos."""
    units: dict[str, tuple[Path, ...]] = {}
    for path in paths:
        alone = not by_case or path.parent == folder
        name = _relative(path if alone else path.parent, folder)
        units[name] = (*units.get(name, ()), path)
    return units


def _unanswered(units: Mapping[str, tuple[Path, ...]], ledger: Ledger, run: _Run) -> Iterator[_Opened]:
    for name, paths in units.items():
        try:
            digest = _digest(paths)
        except OSError as error:
            yield _Opened(name, "", error=f"cannot be read: {error.strerror or error}")
            continue
        row = ledger.find(name)
        if row is not None and row.digest == digest:
            run.resume(row)
            continue
        try:
            yield _Opened(name, digest, tuple(open_image(path) for path in paths))
        except DataError as error:
            why = str(error).removeprefix(f"{paths[0]}: ") if len(paths) == 1 else str(error)
            yield _Opened(name, digest, error=" ".join(why.split()))


def _batches(opened: Iterable[_Opened], size: int) -> Iterator[list[_Opened]]:
    batch: list[_Opened] = []
    pixels = 0
    for item in opened:
        batch.append(item)
        pixels += item.pixels
        if len(batch) >= size or pixels >= BATCH_PIXELS:
            yield batch
            batch, pixels = [], 0
    if batch:
        yield batch


def _answered(batch: Sequence[_Opened], predictor: Predictor, adapter: str) -> list[Row]:
    images = {item.path: item.images for item in batch if item.images}
    requests = [Request(images=photos, adapter=adapter) for photos in images.values()]
    answers = dict(zip(images, predictor.predict(requests), strict=True)) if requests else {}
    return [
        Row(item.path, item.digest, *item.images[0].size, answers[item.path])
        if item.images
        else Row(item.path, item.digest, None, None, Prediction.failed(item.error))
        for item in batch
    ]


def _rows(names: Iterable[str], ledger: Ledger) -> Iterator[Row]:
    rows = (ledger.find(name) for name in names)
    return (row for row in rows if row is not None)


def _relative(path: Path, folder: Path) -> str:
    """The path below the folder; bytes that are not UTF-8 become backslash escapes."""
    return os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "backslashreplace")


def _digest(paths: Sequence[Path]) -> str:
    """The SHA-256 of one file, or of the digests of several."""
    found = []
    for path in paths:
        with path.open("rb") as file:
            found.append(hashlib.file_digest(file, "sha256").hexdigest())
    return found[0] if len(found) == 1 else hashlib.sha256("".join(found).encode()).hexdigest()
