"""Serve adapters: one engine behind the HTTP service and the app, with one set of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI, Request
from rich.console import Console

from datasets_vision.images import find_images, open_image
from vlm_ft.bases.precision import Precision
from vlm_ft.demo.app import build_app, mount
from vlm_ft.demo.assess_tab import Examples
from vlm_ft.demo.photos import reads_photos
from vlm_ft.errors import DataError, RecipeError
from vlm_ft.inference.request import Predictor
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.service.app import THIS_MACHINE, build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.service.gate import OWNER
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.service.server import listen, run
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.tokens import Tokens
from vlm_ft.work.workplace import UPLOADS_KEPT, Workplace

MAX_EXAMPLES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is served, where and to whom: the options of `vlm-ft serve`, whose help describes them.

    `port`: None for the first free one from 7860. `examples`: a folder of photos to try with each adapter that reads
    photos, or what to try with each adapter. `memory`: bytes of adapters that stay loaded, None for all.
    """

    adapters: Sequence[Path] = ()
    registry: Path | None = None
    work: Path | None = None
    root: Path | None = None
    host: str = THIS_MACHINE[0]
    port: int | None = None
    tokens: Path | None = None
    log: Path | None = None
    with_app: bool = True
    examples: Path | Examples | None = None
    base: str | None = None
    memory: int | None = None
    waiting: int = 16
    uploads_kept: timedelta = UPLOADS_KEPT
    precision: Precision = "auto"


def serve(options: Options, console: Console) -> None:
    """Load the adapters, print where the app and the description of the interface are, and serve until interrupted.

    Raises `RecipeError` for options that do not go together, and for a port that is taken.
    """
    _check(options)
    places = [*options.adapters, *([options.registry] if options.registry is not None else [])]
    _say(console, f"loading {', '.join(place.as_posix() for place in places)} …")
    api, predictor = service(options, console)
    listening = listen(options.host, options.port)
    address = f"http://{options.host}:{listening.getsockname()[1]}"
    _say(console, f"serving {', '.join(predictor.cards)}  (Ctrl-C stops it)")
    if options.with_app:
        _say(console, f"the app: {address}/app")
    _say(console, f"the API: {address}/docs")
    try:
        run(api, listening)
    except KeyboardInterrupt:
        _say(console, "\nstopped")


def service(options: Options, console: Console) -> tuple[FastAPI, Predictor]:
    """The service, with the app, and the predictor that answers for it."""
    versions = Registry(options.registry) if options.registry is not None else None
    engine = open_engine(
        options.adapters,
        versions,
        base=options.base,
        memory=options.memory,
        waiting=options.waiting + 1,
        precision=options.precision,
    )
    meter, decisions = Meter(), DecisionLog(options.log) if options.log is not None else None
    predictor = Recorded(Current(engine, versions) if versions is not None else engine, meter, decisions)
    tokens = Tokens(options.tokens) if options.tokens is not None else None
    work = None
    if versions is not None and options.work is not None:
        reviews, jobs = Reviews(options.work / "reviews"), Jobs(options.work / "jobs")
        size = engine.base.model.get_memory_footprint()
        work = Workplace(versions, reviews, jobs, options.root, tokens, size, options.uploads_kept)
    api = build_service(predictor, tokens=tokens, meter=meter, waiting=options.waiting, work=work)
    if options.with_app:
        examples = _examples(options.examples, predictor, console)
        blocks = build_app(predictor, examples, work, decisions.search if decisions is not None else None)
        mount(api, blocks, auth=_owner if tokens is not None else None)
    return api, predictor


def _check(options: Options) -> None:
    """Raise `RecipeError` for options that do not go together."""
    if options.host not in THIS_MACHINE and options.tokens is None:
        remedy = "use vlm-ft serve --tokens, or listen on 127.0.0.1"
        raise RecipeError(f"--host {options.host}", "others could reach the service without a token", remedy)
    if not options.adapters and options.registry is None:
        raise RecipeError("", "no adapter", "give --adapter, or --registry with one")
    if options.work is not None and options.registry is None:
        raise RecipeError("--work", "needs --registry", "give both")
    if options.root is not None and options.work is None:
        raise RecipeError("--root", "needs --work", "give --registry and --work")
    if options.examples is not None and not options.with_app:
        raise RecipeError("--examples", "needs the app", "leave out --no-app")


def _examples(given: Path | Examples | None, predictor: Predictor, console: Console) -> Examples:
    """What to try with each adapter."""
    if not isinstance(given, Path):
        return given or {}
    photos = _readable(given, console)
    return {name: photos for name, card in predictor.cards.items() if reads_photos(card)}


def _readable(folder: Path, console: Console) -> list[Path]:
    """The first readable images of a folder; unreadable ones are reported."""
    found: list[Path] = []
    for path in find_images(folder):
        try:
            open_image(path)
        except DataError as error:
            _say(console, f"not used as an example: {error}")
            continue
        found.append(path)
        if len(found) == MAX_EXAMPLES:
            break
    if not found:
        _say(console, f"{folder}: contains no image to show as an example")
    return found


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False)


def _owner(request: Request) -> str | None:
    return OWNER.get()
