"""The command serves under load and swaps, stops on request, and does not expose anything by accident."""

from __future__ import annotations

import asyncio
import io
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from rich.console import Console
from typer.testing import CliRunner

from tests.demo.conftest import Known
from tests.service.servers import HERE, photo, running, served
from tests.soak.overload import drain, overload
from tests.soak.swaps import made_registry, swaps
from vlm_ft import serving
from vlm_ft.cli import app
from vlm_ft.errors import RecipeError
from vlm_ft.experiments.sheet import Sheet
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.service.server import FIRST_PORT, PORTS, listen
from vlm_ft.serving import Options
from vlm_ft.work.tokens import Tokens


def test_a_service_answers_shows_the_app_and_stops(run_of: Callable[..., Path], tmp_path: Path, quiet: Console) -> None:
    log, sheet = tmp_path / "decisions.jsonl", Sheet("", quiet)
    with served("--adapter", str(run_of("fast_vlm")), "--log", str(log), "--waiting", "4") as (address, process):
        assert "assessor" in httpx.get(f"{address}/app/").text
        files = {"photos": ("a.jpg", photo())}
        answer = httpx.post(f"{address}/v1/assess", data={"adapter": "trial"}, files=files, timeout=60)
        assert answer.status_code == 200
        asyncio.run(overload(address, process, "trial", sheet, places=4, seconds=2, factor=20, photos=(4, 1600)))
        with httpx.stream("GET", f"{address}/app/gradio_api/heartbeat/tab") as tab:
            assert tab.status_code == 200
            started, before = time.monotonic(), len(log.read_text().splitlines())
            drain(address, process, "trial", sheet, 4)
            assert time.monotonic() - started < 15  # an open tab does not delay it
    figures = {figure.figure: figure for figure in sheet.figures}
    assert figures["answers per second under overload, of those without it"].met
    assert figures["requests neither answered nor refused under overload"].met
    assert figures["of 4 requests in progress at SIGTERM, answered"].value == 4
    assert figures["exit code after SIGTERM, without its sign"].met
    assert len(log.read_text().splitlines()) == before + 4


def test_no_answer_comes_from_another_adapter_or_an_earlier_version(
    run_of: Callable[..., Path], tmp_path: Path, quiet: Console
) -> None:
    registry, sheet = made_registry(tmp_path / "adapters", run_of("fast_vlm"), 2), Sheet("", quiet)
    with running(build_service(Current(open_engine([], registry, None), registry))) as (host, port):
        swaps(f"http://{host}:{port}", registry, sheet, 40)
    made, certain, wrong = sheet.figures
    assert made.met
    assert certain.met
    assert wrong.met


@pytest.mark.parametrize("command", ["demo", "serve"])
def test_both_commands_serve_the_app_with_examples_and_the_api(
    command: str, run_of: Callable[..., Path], drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app alone used to be `demo`, and examples were missing in `serve`."""
    answered: list[httpx.Response] = []

    def interrupted(api: FastAPI, listening: socket.socket) -> None:
        listening.close()
        with TestClient(api, base_url=HERE) as client:
            sent = {"photos": ("a.jpg", photo())}
            answered.append(client.get("/app/config"))
            answered.append(client.post("/v1/assess", data={"adapter": "trial"}, files=sent))
        raise KeyboardInterrupt

    monkeypatch.setattr(serving, "run", interrupted)
    options = ["--adapter", str(run_of("fast_vlm")), "--examples", str(drawings / "JPEGImages"), "--port", "0"]
    result = CliRunner().invoke(app, [command, *options])
    assert result.exit_code == 0, result.output
    assert [response.status_code for response in answered] == [200, 200]
    assert all(f"scene_{number:05}.png" in answered[0].text for number in range(serving.MAX_EXAMPLES))
    (port,) = re.findall(rf"the app: {HERE}:(\d+)/app\n", result.stderr)
    assert f"the API: {HERE}:{port}/docs\n" in result.stderr
    assert result.stderr.endswith("stopped\n")


def test_ctrl_c_stops_it_without_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "service", lambda *_: (build_service(Known()), Known()))
    printed = Console(file=io.StringIO(), width=200)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the workers of pytest-xdist ignore it

    def interrupt() -> None:
        while not (places := re.findall(r"the API: (\S+)/docs", printed.file.getvalue())):
            time.sleep(0.01)
        assert httpx.get(f"{places[0]}/readyz").status_code == 200
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    serving.serve(Options(adapters=[Path("run")]), printed)
    thread.join()
    for each, handler in before.items():
        signal.signal(each, handler)
    assert printed.file.getvalue().endswith("stopped\n")


def test_a_port_that_is_taken_is_refused_or_by_default_passed_over() -> None:
    with listen("127.0.0.1") as one, listen("127.0.0.1") as other:
        ports = [each.getsockname()[1] for each in (one, other)]
        assert len(set(ports)) == 2
        assert all(FIRST_PORT <= port < FIRST_PORT + PORTS for port in ports)
        with pytest.raises(RecipeError, match=f"--port {ports[0]}: in use"):
            listen("127.0.0.1", ports[0])


def test_only_readable_photos_are_examples_and_only_of_adapters_that_read_photos(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_text("no photo")
    (tmp_path / "good.jpg").write_bytes(photo())
    printed = Console(file=io.StringIO(), width=200)
    found = serving._examples(tmp_path, Known(), printed)
    assert found == {name: [tmp_path / "good.jpg"] for name in ("plates", "hostile")}
    assert "not used as an example: " in printed.file.getvalue()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (Options(adapters=[Path("run")], host="0.0.0.0"), "use vlm-ft serve --tokens, or listen on 127.0.0.1"),
        (Options(), "no adapter"),
        (Options(adapters=[Path("run")], work=Path("work")), "--work: needs --registry"),
        (Options(registry=Path("adapters"), root=Path("photos")), "--root: needs --work"),
        (Options(adapters=[Path("run")], with_app=False, examples=Path("photos")), "--examples: needs the app"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_any_work(
    options: Options, says: str, quiet: Console
) -> None:
    with pytest.raises(RecipeError, match=says):
        serving.serve(options, quiet)


def test_other_machines_need_a_token(run_of: Callable[..., Path]) -> None:
    for command in ("demo", "serve"):
        result = CliRunner().invoke(app, [command, "--adapter", str(run_of("fast_vlm")), "--host", "0.0.0.0"])
        assert isinstance(result.exception, RecipeError)
        assert "others could reach the service without a token" in str(result.exception)


def test_a_token_is_printed_once_and_never_stored(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    made = CliRunner().invoke(app, ["token", str(file), "desk", "--right", "assess"]).stdout.strip()
    assert len(made) > 40
    assert made not in file.read_text()
    assert Tokens(file).owner(made.encode(), "assess") == ("desk", True)
    assert Tokens(file).owner(made.encode(), "read") == ("desk", False)
    assert CliRunner().invoke(app, ["token", str(file), "desk", "--right", "all"]).exit_code == 2
