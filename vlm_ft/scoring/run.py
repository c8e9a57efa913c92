"""Score a folder from the command line, with progress and a summary."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.console import Console

from datasets_vision.endpoint import Endpoint
from vlm_ft.adapters import Card, adapter_folder, read_card
from vlm_ft.bases.precision import Precision
from vlm_ft.errors import DataError
from vlm_ft.inference import photo_decoder
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.rated import Rated
from vlm_ft.inference.remote import IN_FLIGHT, RemoteEngine
from vlm_ft.inference.request import Predictor
from vlm_ft.reward_model import RewardModel
from vlm_ft.scoring.cluster import Cluster
from vlm_ft.scoring.export import check_beside, check_target
from vlm_ft.scoring.first import write_first
from vlm_ft.scoring.progress import shown
from vlm_ft.scoring.score import ScoreReport, score_folder
from vlm_ft.scoring.units import check_folder, decoded_here

SHOWN = 10  # the maximum number of set-aside images in the summary


def score(
    folder: Path,
    adapter: Path,
    out: Path,
    *,
    batch_size: int = 16,
    base: str | None = None,
    console: Console | None = None,
    by_case: bool = False,
    text: str | None = None,
    review: Path | None = None,
    first: Path | None = None,
    progress: Path | None = None,
    server: Endpoint | None = None,
    reward: Path | None = None,
    precision: Precision = "fp32",
    cluster: bool = False,
    workers: int | None = None,
    untrusted: bool = False,
) -> ScoreReport:
    """Score every image below `folder` with an adapter (an adapter or run folder), and write a table to `out`.

    See `score_folder` for the table, for resuming, and for `by_case`, `text` and `review`. `base`: the base, if it is
    not where the adapter's card says. `console`: for progress and a summary. `first`: see `write_first`. `progress`: a
    JSON file that also has the progress. `server`: an OpenAI-compatible server that runs the model instead of this
    process; with `cluster`, the `workers` of a Ray cluster do. `reward`: the folder of a reward model that scores the
    answers. `untrusted`: decode each photo in another process, within a time limit, and print no photo's name.

    Raises `DataError` for options that exclude each other, and for outputs that cannot be written or would replace each
    other; otherwise, what `score_folder` raises.

    >>> from vlm_ft import score
    >>> score(Path("photos"), Path("runs/mine"), Path("scores.csv")).complete
    True
    """
    console = console or Console(stderr=True)
    _check_options(by_case, text, first, server, reward, precision, cluster, workers, untrusted)
    check_target(out)
    check_beside(out, review, first, progress)
    if text is None:
        check_folder(folder)
    place = adapter_folder(adapter)
    card = read_card(place)
    engine = _engine(place, card, base, batch_size, server, reward, precision, cluster, workers)
    decode = photo_decoder.shared().decoded if untrusted else decoded_here
    ordered = None
    if first and isinstance(engine, Engine):
        ordered = partial(write_first, first, engine, card.name, folder, decode=decode)
    with shown(console, progress) as show:
        report = score_folder(
            engine,
            card.name,
            folder,
            out,
            batch_size=batch_size if server is None else max(batch_size, 2 * IN_FLIGHT),
            progress=show,
            adapter_folder=place,
            by_case=by_case,
            text=text,
            review=review,
            finished=ordered,
            decode=decode,
        )
    what = "texts" if text else "cases" if by_case else "images"
    _print_summary(report, console, what, review, named=not untrusted)
    return report


def _check_options(
    by_case: bool,
    text: str | None,
    first: Path | None,
    server: Endpoint | None,
    reward: Path | None,
    precision: Precision,
    cluster: bool,
    workers: int | None,
    untrusted: bool,
) -> None:
    """Raise `DataError` for an option that another one excludes, or that would have no effect."""
    elsewhere, single = cluster or server is not None, not by_case and text is None
    rules = (
        ("--cluster", "cannot be combined with --engine or --reward", cluster and (server or reward)),
        ("--workers", "needs --cluster", workers is not None and not cluster),
        ("--case-by", "applies to photos, and cannot be combined with --text", by_case and text is not None),
        ("--untrusted", "applies to photos, and cannot be combined with --cluster", untrusted and (text or cluster)),
        ("--precision", "cannot be combined with --cluster or --engine", precision != "fp32" and elsewhere),
        ("--first", "needs single photos, and a model in this process", first and (elsewhere or reward or not single)),
    )
    for option, problem, broken in rules:
        if broken:
            raise DataError(option, problem, "leave it out")


def _engine(
    place: Path,
    card: Card,
    base: str | None,
    batch_size: int,
    server: Endpoint | None,
    reward: Path | None,
    precision: Precision,
    cluster: bool,
    workers: int | None,
) -> Predictor | Cluster:
    """The cluster or the server if one is given, otherwise an engine in this process; `reward` rates its answers."""
    predictor: Predictor
    if cluster:
        return Cluster(place, base, workers)
    if server is not None:
        predictor = RemoteEngine(card, server)
    else:
        predictor = Engine.open([place], base=base, batch_size=batch_size, precision=precision)
    return predictor if reward is None else Rated(predictor, _judge(reward, card, base))


def _judge(place: Path, card: Card, base: str | None) -> RewardModel:
    """The reward model, loaded from `base` like the adapter if both have the same base."""
    same = read_card(adapter_folder(place)).base.fingerprint == card.base.fingerprint
    return RewardModel.open(place, base if same else None)


def _print_summary(report: ScoreReport, console: Console, what: str, review: Path | None, named: bool) -> None:
    """Print a summary. `named`: with the names of images that are set aside, which may be those of people."""
    earlier = f", {report.resumed} of them by an earlier run" if report.resumed else ""
    summary = f"{report.scored} of {report.total} {what} scored{earlier}, in {report.seconds:.0f} s"
    console.print(f"{report.out}: {summary}", markup=False)
    if report.ask_a_person:
        where = f": {review}" if review else "; --review writes a page of them"
        console.print(f"  {report.ask_a_person} answers for a person to review{where}", markup=False)
    for path, reason in report.set_aside[:SHOWN]:
        console.print(f"  set aside {f'{path}: {reason}' if named else reason}", markup=False)
    if len(report.set_aside) > SHOWN:
        console.print(f"  … and {len(report.set_aside) - SHOWN} more; see the column `error`")
    for note in report.notes:
        console.print(f"  note: {note}", markup=False)
