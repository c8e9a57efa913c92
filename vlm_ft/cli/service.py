"""What `vlm-ft serve` serves: one engine behind the HTTP service and the app, with one set of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from fastapi import FastAPI, Request

from vlm_ft.bases.precision import Precision
from vlm_ft.demo.app import build_app, mount
from vlm_ft.errors import RecipeError
from vlm_ft.inference.request import Predictor
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.service.app import THIS_MACHINE, build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.service.gate import OWNER
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.tokens import Tokens
from vlm_ft.work.workplace import Workplace


def check_options(
    host: str,
    tokens: Path | None,
    adapters: Sequence[Path],
    registry: Path | None,
    work: Path | None,
    root: Path | None,
) -> None:
    """Raise `RecipeError` for options of `vlm-ft serve` that do not go together."""
    if host not in THIS_MACHINE and tokens is None:
        raise RecipeError(f"--host {host}", "others could reach the service", "give --tokens, or listen on 127.0.0.1")
    if not adapters and registry is None:
        raise RecipeError("", "no adapter", "give --adapter, or --registry with one")
    if work is not None and registry is None:
        raise RecipeError("--work", "needs --registry", "give both")
    if root is not None and work is None:
        raise RecipeError("--root", "needs --work", "give --registry and --work")


def service(
    adapters: Sequence[Path],
    registry: Path | None,
    work: Path | None,
    root: Path | None,
    *,
    tokens: Path | None,
    log: Path | None,
    with_app: bool,
    uploads_kept: timedelta,
    base: str | None,
    memory: int | None,
    waiting: int,
    precision: Precision,
) -> tuple[FastAPI, Predictor]:
    """The service, and the predictor that answers for it; the parameters are the options of `vlm-ft serve`."""
    versions = Registry(registry) if registry is not None else None
    engine = open_engine(adapters, versions, base=base, memory=memory, waiting=waiting + 1, precision=precision)
    meter, decisions = Meter(), DecisionLog(log) if log is not None else None
    predictor = Recorded(Current(engine, versions) if versions is not None else engine, meter, decisions)
    known = Tokens(tokens) if tokens is not None else None
    place = None
    if versions is not None and work is not None:
        size = engine.base.model.get_memory_footprint()
        place = Workplace(versions, Reviews(work / "reviews"), Jobs(work / "jobs"), root, known, size, uploads_kept)
    api = build_service(predictor, tokens=known, meter=meter, waiting=waiting, work=place)
    if with_app:
        blocks = build_app(predictor, work=place, history=decisions.search if decisions is not None else None)
        mount(api, blocks, auth=_owner if known is not None else None)
    return api, predictor


def _owner(request: Request) -> str | None:
    return OWNER.get()
