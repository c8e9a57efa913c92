"""The command serves, stops on request, and does not expose anything by accident."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
from PIL import Image
from typer.testing import CliRunner

from tests.service.servers import served
from vlm_ft.cli import app
from vlm_ft.errors import RecipeError
from vlm_ft.service.tokens import Tokens


def test_a_service_answers_shows_the_app_and_stops(run_of: Callable[..., Path], tmp_path: Path) -> None:
    log, photo = tmp_path / "decisions.jsonl", io.BytesIO()
    Image.new("RGB", (64, 64), (180, 30, 30)).save(photo, "PNG")
    files = {"photos": ("a.png", photo.getvalue())}
    with served("--adapter", str(run_of("fast_vlm") / "adapter"), "--log", str(log)) as (address, process):
        assert "Photo assessor" in httpx.get(f"{address}/app/").text
        answer = httpx.post(f"{address}/v1/assess", data={"adapter": "trial"}, files=files, timeout=60)
        assert answer.status_code == 200
        with ThreadPoolExecutor(1) as pool, httpx.stream("GET", f"{address}/app/gradio_api/heartbeat/tab") as tab:
            assert tab.status_code == 200
            data = {"adapter": "trial"}
            last = pool.submit(httpx.post, f"{address}/v1/assess", data=data, files=files, timeout=60)
            while "vlm_ft_seconds_count 1.0" not in httpx.get(f"{address}/metrics").text and not last.done():
                time.sleep(0.001)
            process.send_signal(signal.SIGTERM)
            assert last.result().status_code == 200
            started = time.monotonic()
            process.wait(60)
            assert time.monotonic() - started < 15  # an open tab does not delay it
    assert len(log.read_text().splitlines()) == 2


def test_other_machines_need_a_token(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["serve", "--adapter", str(tmp_path), "--host", "0.0.0.0"])
    assert isinstance(result.exception, RecipeError)
    assert "give --tokens" in str(result.exception)


def test_a_token_is_printed_once_and_never_stored(tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    made = CliRunner().invoke(app, ["token", str(file), "desk", "--right", "assess"]).stdout.strip()
    assert len(made) > 40
    assert made not in file.read_text()
    assert Tokens(file).owner(made.encode(), "assess") == ("desk", True)
    assert Tokens(file).owner(made.encode(), "read") == ("desk", False)
    assert CliRunner().invoke(app, ["token", str(file), "desk", "--right", "all"]).exit_code == 2
