"""Score every image below a folder, or every text of a table, storing each batch as soon as it is answered."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from vlm_ft.adapters import CONFIG, Card
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.inference.rated import Rated
from vlm_ft.inference.request import Predictor
from vlm_ft.scoring.answering import answers_here
from vlm_ft.scoring.cluster import Cluster
from vlm_ft.scoring.export import check_target, write_table
from vlm_ft.scoring.ledger import PAGE, Entry, Ledger, Row, ledger_files, ledger_path
from vlm_ft.scoring.review import write_review
from vlm_ft.scoring.units import Decode, Photos, Texts, check_folder, decoded_here, digest


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a run: images done, including those of earlier runs, and how many of them were set aside."""

    done: int
    total: int
    set_aside: int
    images_per_second: float


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
        return 0 if self.complete else 3


def score_folder(
    predictor: Predictor | Cluster,
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
    finished: Callable[[Iterable[Row]], None] | None = None,
    decode: Decode = decoded_here,
) -> ScoreReport:
    """Write one row per image below `folder` to `out` (.parquet, .csv or .jsonl; see `export`).

    With `text`, a template such as "{message}", write one row per row of the tables in `folder`, which may then also be
    a single table (CSV, TSV, JSON Lines). If `review` is given, a page of the answers that a person should
    review is written to it; see `write_review`. `finished` is called with the table's rows at the end. `decode` opens
    the photos, except on a cluster.

    An interrupted run resumes from `<out>.ledger`, whose rows are keyed by relative path and content: an image is
    scored again only if its bytes have changed, and read again only if its file's size or times have. The table
    covers the folder as it is now. With `by_case`, the photos in each subfolder are one case with one row, under that
    folder's path; a photo directly in `folder` is a case of its own. The ledger is bound to the adapter's card, and to
    its tensors if `adapter_folder` is given. Raises `DataError` for a target that cannot be written, a folder without
    images or a ledger in use, and `AdapterError` for an unknown adapter, one that does not read this kind of input,
    or a ledger of another adapter.
    """
    card = _card(predictor, adapter, reads_text=text is not None)
    check_target(out)
    source = _source(folder, out, by_case, text)
    with Ledger(ledger_path(out), adapter, _identity(predictor, card, adapter_folder), folder) as ledger:
        ledger.expect(source.entries())
        run = _Run(ledger, progress)
        with _resumable(run, out):
            _answer(predictor, source, ledger, run, adapter, batch_size, decode)
            write_table(out, card, ledger.rows(), rated=isinstance(predictor, Rated))
            if review is not None:
                write_review(review, card, ledger.rows(), None if text else folder, decode)
            if finished is not None:
                finished(ledger.rows())
        notes = list(source.notes)
        if gone := ledger.gone:
            notes.append(f"rows of earlier runs whose photos or texts have been removed are left out: {gone}")
        return run.report(out, notes)


def _answer(
    predictor: Predictor | Cluster,
    source: Photos | Texts,
    ledger: Ledger,
    run: _Run,
    adapter: str,
    batch_size: int,
    decode: Decode,
) -> None:
    """Answer what has no answer yet, and record each batch."""
    answers = predictor.answers if isinstance(predictor, Cluster) else partial(answers_here, predictor, decode=decode)
    for rows in answers(source, _unanswered(source, ledger, run), adapter, batch_size):
        ledger.record(rows)
        run.add(rows)
    run.report_progress()


@contextmanager
def _resumable(run: _Run, out: Path) -> Iterator[None]:
    """If the run is interrupted, say how to resume it."""
    try:
        yield
    except KeyboardInterrupt:
        kept = f"stopped with {run.done} of {run.total} answers in {ledger_path(out)}"
        raise KeyboardInterrupt(f"{kept}; run the same command again to resume") from None


def _identity(predictor: Predictor | Cluster, card: Card, folder: Path | None) -> str:
    """The identity of the adapter and, if a reward model rates its answers, of that, too."""
    identity = adapter_identity(card, folder)
    if isinstance(predictor, Rated):
        identity += "+" + adapter_identity(predictor.judge.card, predictor.judge.folder)
    return identity


def _source(folder: Path, out: Path, by_case: bool, text: str | None) -> Photos | Texts:
    if text is not None and folder.resolve() in out.resolve().parents:
        raise DataError(out, f"lies among the tables in {folder}, and would be read as one", "write it elsewhere")
    if text is not None:
        return Texts(folder, text)
    check_folder(folder)
    return Photos(folder.resolve(), by_case, outputs=(out, *ledger_files(out)))


def adapter_identity(card: Card, folder: Path | None = None) -> str:
    """A hash of what determines an adapter's answers: its card without name and metrics, its settings, its tensors."""
    parts = card.model_dump_json(exclude={"name", "metrics"})
    if folder is not None:
        parts += digest([*folder.glob(CONFIG), *sorted(folder.glob("*.safetensors"))])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


class _Run:
    """The counts of one run, including what earlier runs answered."""

    def __init__(self, ledger: Ledger, progress: Callable[[Progress], None] | None) -> None:
        self.total = len(ledger)
        self._resumed, self._ask = ledger.unchanged()
        self.done = self._resumed
        self._set_aside = ledger.failed()
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
        self._progress(Progress(self.done, self.total, len(self._set_aside), rate))

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


def _card(predictor: Predictor | Cluster, adapter: str, *, reads_text: bool) -> Card:
    if adapter not in predictor.cards:
        raise AdapterError("", f"adapter {adapter!r} is not loaded", nearest(adapter, predictor.cards))
    card = predictor.cards[adapter]
    if not reads_text and (card.base.kind == "text" or "photo" not in card.inputs):
        raise AdapterError("", f"adapter {adapter!r} reads text only", "score a table of texts with --text {column}")
    if reads_text and "text" not in card.inputs:
        raise AdapterError("", f"adapter {adapter!r} reads photos only", "score a folder of images, without --text")
    return card


def _unanswered(source: Photos | Texts, ledger: Ledger, run: _Run) -> Iterator[Entry]:
    """The entries that have no answer to their current content, with its digest if that is known."""
    confirmed: list[str] = []
    for entry in ledger.changed():
        found = None
        if entry.digest is not None:
            with suppress(OSError):  # `open_unit` reports it
                found = source.unit(entry).digest()
        if found is not None and found == entry.digest:
            run.resume(ledger.find(entry.path))
            confirmed.append(entry.path)
        else:
            yield replace(entry, digest=found)
        if len(confirmed) == PAGE:
            ledger.confirm(confirmed)
            confirmed.clear()
    ledger.confirm(confirmed)
