"""The command serves under load and swaps, stops on request, and does not expose anything by accident."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from rich.console import Console
from typer.testing import CliRunner

from tests.service.servers import photo, running, served
from tests.soak.overload import drain, overload
from tests.soak.swaps import made_registry, swaps
from vlm_ft.cli import app
from vlm_ft.errors import RecipeError
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.work.tokens import Tokens


def test_a_service_answers_shows_the_app_and_stops(run_of: Callable[..., Path], tmp_path: Path, quiet: Console) -> None:
    log, sheet = tmp_path / "decisions.jsonl", Sheet("", quiet)
    with served("--adapter", str(run_of("fast_vlm")), "--log", str(log), "--waiting", "4") as (address, process):
        assert "Photo assessor" in httpx.get(f"{address}/app/").text
        files = {"photos": ("a.jpg", photo())}
        answer = httpx.post(f"{address}/v1/assess", data={"adapter": "trial"}, files=files, timeout=60)
        assert answer.status_code == 200
        asyncio.run(overload(address, process, "trial", sheet, places=4, seconds=2, factor=20))
        with httpx.stream("GET", f"{address}/app/gradio_api/heartbeat/tab") as tab:
            assert tab.status_code == 200
            started, before = time.monotonic(), len(log.read_text().splitlines())
            drain(address, process, "trial", sheet, 4)
            assert time.monotonic() - started < 15  # an open tab does not delay it
    figures = {figure.figure: figure for figure in sheet.figures}
    assert figures["answers per second under overload, of those without it"].met
    assert figures["of these, neither answered nor refused"].met
    assert figures["of these, answered"].value == 4
    assert figures["exit code afterwards, without its sign"].met
    assert len(log.read_text().splitlines()) == before + 4


def test_no_answer_comes_from_another_adapter_or_an_earlier_version(
    run_of: Callable[..., Path], tmp_path: Path, quiet: Console
) -> None:
    registry, sheet = made_registry(tmp_path / "adapters", run_of("fast_vlm"), 2), Sheet("", quiet)
    with running(build_service(Current(open_engine([], registry, None), registry))) as (host, port):
        swaps(f"http://{host}:{port}", registry, sheet, 40)
    _, made, certain, wrong = sheet.figures
    assert made.met
    assert certain.met
    assert wrong.met


def test_other_machines_need_a_token(run_of: Callable[..., Path]) -> None:
    result = CliRunner().invoke(app, ["serve", "--adapter", str(run_of("fast_vlm")), "--host", "0.0.0.0"])
    assert isinstance(result.exception, RecipeError)
    assert "give --tokens" in str(result.exception)
    result = CliRunner().invoke(app, ["demo", "--adapter", str(run_of("fast_vlm")), "--host", "0.0.0.0"])
    assert isinstance(result.exception, RecipeError)
    assert "use vlm-ft serve --tokens" in str(result.exception)


def test_a_token_is_printed_once_and_never_stored(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    made = CliRunner().invoke(app, ["token", str(file), "desk", "--right", "assess"]).stdout.strip()
    assert len(made) > 40
    assert made not in file.read_text()
    assert Tokens(file).owner(made.encode(), "assess") == ("desk", True)
    assert Tokens(file).owner(made.encode(), "read") == ("desk", False)
    assert CliRunner().invoke(app, ["token", str(file), "desk", "--right", "all"]).exit_code == 2
