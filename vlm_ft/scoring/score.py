"""Score every image below a folder, or every text of a table, a batch at a time; each batch is stored at once."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from PIL.Image import Image

from datasets_vision.example import Turn, text_of
from datasets_vision.images import is_image, open_image
from datasets_vision.source import SetAside, Source, stream
from datasets_vision.walk import linked_folders, suffix_of, walk
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.inference.request import Predictor, Request
from vlm_ft.scoring.export import check_target, write_table
from vlm_ft.scoring.ledger import Ledger, Row, ledger_path
from vlm_ft.scoring.review import write_review

READERS = 2
"""Threads that read and decode images while others are answered."""

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
    text: str | None = None,
    review: Path | None = None,
) -> ScoreReport:
    """Write one row per image below `folder` to `out` (.parquet, .csv or .jsonl; see `export`).

    With `text`, a template such as "{message}", write one row per row of the tables in `folder`, which may then also be
    a single table (CSV, TSV, JSON Lines). If `review` is given, a page of the answers for a person is written to it;
    see `write_review`.

    An interrupted run resumes from `<out>.ledger`, whose rows are keyed by relative path and content, so an image is
    scored again only if its bytes have changed. The table covers the folder as it is now. With `by_case`, the photos
    in each subfolder are one case with one row, under that folder's path; a photo directly in `folder` is a case by
    itself. The ledger is bound to the adapter's card, and to its tensors if `adapter_folder` is given. Raises
    `DataError` for a target that cannot be written, a folder without images or a ledger in use, and `AdapterError` for
    an unknown adapter, one that does not read this kind of input, or a ledger of another adapter.
    """
    card = _card(predictor, adapter, reads_text=text is not None)
    check_target(out)
    if text is None:
        images, notes = _images(folder, out)
        units = _units(images, folder, by_case)
    else:
        units, notes = _texts(folder, text), []
    with Ledger(ledger_path(out), adapter, adapter_identity(card, adapter_folder), folder) as ledger:
        run = _Run(len(units), progress)
        try:
            for batch in _batches(_read_ahead(_unanswered(units, ledger, run), batch_size), batch_size):
                rows = _answered(batch, predictor, adapter)
                ledger.record(rows)
                run.add(rows)
            run.report_progress()
            write_table(out, card, _rows(units, ledger))
            if review is not None:
                write_review(review, card, _rows(units, ledger), None if text else folder)
            if gone := len(ledger) - len(units):
                notes.append(f"rows of earlier runs whose photos or texts have been removed are left out: {gone}")
        except KeyboardInterrupt:
            raise KeyboardInterrupt(
                f"stopped with {run.done} of {run.total} answers in {ledger_path(out)}; "
                "run the same command again to resume"
            ) from None
    return run.report(out, notes)


def adapter_identity(card: Card, folder: Path | None = None) -> str:
    """A hash of what decides an adapter's answers: its card without name and metrics, its settings, its tensors."""
    parts = card.model_dump_json(exclude={"name", "metrics"})
    if folder is not None:
        parts += _digest([*folder.glob("adapter_config.json"), *sorted(folder.glob("*.safetensors"))])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one row is about: photos, or a text; or why it cannot be read."""

    images: tuple[Path, ...] = ()
    turns: tuple[Turn, ...] = ()
    error: str = ""

    def digest(self) -> str:
        """A hash of its contents. Raises `OSError` if they cannot be read."""
        if self.images:
            return _digest(self.images)
        return hashlib.sha256(text_of(self.turns).encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class _Opened:
    """A unit that has been read, or the reason why it could not be."""

    path: str
    digest: str
    images: tuple[Image, ...] = ()
    turns: tuple[Turn, ...] = ()
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


def _card(predictor: Predictor, adapter: str, *, reads_text: bool) -> Card:
    if adapter not in predictor.cards:
        raise AdapterError("", f"adapter {adapter!r} is not loaded", nearest(adapter, predictor.cards))
    card = predictor.cards[adapter]
    if not reads_text and (card.base.kind == "text" or "photo" not in card.inputs):
        raise AdapterError("", f"adapter {adapter!r} reads text only", "score a table of texts with --text {column}")
    if reads_text and "text" not in card.inputs:
        raise AdapterError("", f"adapter {adapter!r} reads photos only", "score a folder of images, without --text")
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
    outputs = {place.resolve() for place in (out, ledger_path(out))}
    images: list[Path] = []
    others: Counter[str] = Counter()
    for path in walk(folder):
        if is_image(path):
            images.append(path)
        elif path.resolve() not in outputs:
            others[suffix_of(path.name) or "no suffix"] += 1
    kinds = ", ".join(f"{suffix} {count}" for suffix, count in others.most_common())
    notes = [f"other files are not scored: {kinds}"] if others else []
    notes += [
        f"{place}: links to folders are not followed; score that folder itself" for place in linked_folders(folder)
    ]
    return images, notes


def _units(paths: Sequence[Path], folder: Path, by_case: bool) -> dict[str, _Unit]:
    """Name of a row -> its photos."""
    units: dict[str, tuple[Path, ...]] = {}
    for path in paths:
        alone = not by_case or path.parent == folder
        name = _relative(path if alone else path.parent, folder)
        units[name] = (*units.get(name, ()), path)
    return {name: _Unit(images) for name, images in units.items()}


def _texts(place: Path, text: str) -> dict[str, _Unit]:
    """Place of a row in its table -> its text. Raises `DataError` if there is none."""
    units: dict[str, _Unit] = {}
    for item in stream(Source(path=place, text=text)):
        if isinstance(item, SetAside):
            units[item.place] = _Unit(error=item.reason)
        else:
            units[item.id] = _Unit(turns=item.turns)
    return units


def _unanswered(units: Mapping[str, _Unit], ledger: Ledger, run: _Run) -> Iterator[Callable[[], _Opened]]:
    """How to open each unit that has no row yet."""
    for name, unit in units.items():
        row = ledger.find(name)
        digest = None
        if row is not None:
            with suppress(OSError):  # `_opened` reports it
                digest = unit.digest()
        if row is not None and row.digest == digest:
            run.resume(row)
        else:
            yield partial(_opened, name, unit, digest)


def _opened(name: str, unit: _Unit, digest: str | None) -> _Opened:
    """The unit, read and decoded, or the reason why it cannot be; `digest` is None if it is not known yet."""
    try:
        digest = digest or unit.digest()
    except OSError as error:
        return _Opened(name, "", error=f"cannot be read: {error.strerror or error}")
    if unit.error:
        return _Opened(name, digest, error=unit.error)
    try:
        return _Opened(name, digest, tuple(open_image(path) for path in unit.images), unit.turns)
    except DataError as error:
        paths = unit.images
        why = str(error).removeprefix(f"{paths[0]}: ") if len(paths) == 1 else str(error)
        return _Opened(name, digest, error=" ".join(why.split()))


def _read_ahead(jobs: Iterable[Callable[[], _Opened]], ahead: int) -> Iterator[_Opened]:
    """The units in order; up to `ahead` of them are read and decoded while others are answered."""
    with ThreadPoolExecutor(READERS) as pool:
        waiting: deque[Future[_Opened]] = deque()
        for job in jobs:
            waiting.append(pool.submit(job))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


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
    asked = {item.path: item for item in batch if not item.error}
    requests = [Request(images=item.images, turns=item.turns, adapter=adapter) for item in asked.values()]
    answers = dict(zip(asked, predictor.predict(requests), strict=True)) if requests else {}
    rows = []
    for item in batch:
        width, height = item.images[0].size if item.images else (None, None)
        answer = Prediction.failed(item.error) if item.error else answers[item.path]
        rows.append(Row(item.path, item.digest, width, height, answer))
    return rows


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
