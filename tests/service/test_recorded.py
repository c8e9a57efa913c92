"""Every answer is in the decision log, or it is not given."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import RotatingFileHandler
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from vlm_ft.demo.app import build_app, mount

from datasets_vision.example import Turn
from datasets_vision.metadata import remove_metadata
from tests.service.servers import HERE, photo
from vlm_ft.adapters import read_card
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.registry import Registry
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.service.gate import OWNER
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.work.tokens import Tokens, add_token


def test_an_answer_that_cannot_be_logged_is_not_returned(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(RotatingFileHandler, "_open", lambda self: Full())
    monkeypatch.setattr(RotatingFileHandler, "shouldRollover", lambda self, record: True)
    found = client.post("/v1/assess", data={"adapter": "trial"}, files={"photos": ("a.jpg", photo())})
    assert found.status_code == 500
    assert "No space" not in found.text


def test_the_log_rotates_and_keeps_every_line(tmp_path: Path, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vlm_ft.service.recorded.ROTATE", 2000)
    log = DecisionLog(tmp_path / "log.jsonl")
    answer = Attributed(fields={"kind": FieldValue("dent")}, card=engine.cards["trial"])
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            request = Request(turns=(Turn("user", f"{number}"),), adapter="trial")
            pool.submit(log.add, request, answer)
    lines = [line for file in tmp_path.glob("log.jsonl*") for line in file.read_text().splitlines()]
    assert len({json.loads(line)["text"] for line in lines}) == len(lines) == 200
    assert len(list(tmp_path.glob("log.jsonl*"))) > 2


def test_the_log_names_the_version_that_answered(run_of: Callable[..., Path], tmp_path: Path) -> None:
    registry, changed = Registry(tmp_path / "adapters"), tmp_path / "changed"
    registry.add("parts", run_of("fast_vlm"))
    shutil.copytree(registry.current("parts").folder, changed)
    read_card(changed).model_copy(update={"training": {"steps": 7}}).write(changed)
    registry.add("parts", changed)

    class PromotedMeanwhile(Current):
        def predict(self, requests: Sequence[Request]) -> list[Attributed]:
            registry.promote("parts", 2)
            return super().predict(requests)

    current = PromotedMeanwhile(open_engine([], registry, None), registry)
    recorded = Recorded(current, Meter(), DecisionLog(tmp_path / "log.jsonl"))
    assert recorded.cards["parts"].number == 1
    (answer,) = recorded.predict([Request((Image.new("RGB", (64, 64)),), adapter="parts")])
    (entry,) = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    second = registry.version("parts", 2).card
    assert (entry["version"], entry["card"]) == (2, second.fingerprint)
    assert answer.card == second.model_copy(update={"name": "parts", "number": 2})
    assert Prediction.from_json(answer.to_json()).values == answer.values


def test_answers_in_the_app_are_logged_with_who_asked(engine: Engine, tmp_path: Path) -> None:
    tokens, log = tmp_path / "tokens.json", tmp_path / "decisions.jsonl"
    bearer = {"Authorization": f"Bearer {add_token(tokens, 'desk', ('read', 'assess'))}"}
    recorded = Recorded(engine, Meter(), DecisionLog(log))
    api = build_service(recorded, tokens=Tokens(tokens))
    mount(api, build_app(recorded), auth=lambda request: OWNER.get())
    with TestClient(api, base_url=HERE, headers=bearer) as client:
        (path,) = client.post("/app/gradio_api/upload", files={"files": ("a.png", photo(form="PNG"))}).json()
        given = {"data": ["trial", [{"path": path, "meta": {"_type": "gradio.FileData"}}], "", "One case", None]}
        event = client.post("/app/gradio_api/call/assess", json=given).json()["event_id"]
        assert "event: complete" in client.get(f"/app/gradio_api/call/assess/{event}").text
    (entry,) = map(json.loads, log.read_text().splitlines())
    assert entry["by"] == "desk"
    kept = tmp_path / "a.png"
    kept.write_bytes(photo(form="PNG"))
    remove_metadata(kept)
    assert entry["photos"] == [{"file": hashlib.sha256(kept.read_bytes()).hexdigest()}]


def test_a_line_that_was_cut_off_does_not_spoil_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: logging.LogRecord) -> str:
        raise OSError(28, "No space left on device")

    file = tmp_path / "decisions.jsonl"
    file.write_bytes(b'{"time": "torn \xff')
    log, request = DecisionLog(file), Request(turns=(Turn("user", "text"),), adapter="first")
    log.add(request, Attributed())
    log._handler.stream.write('{"cut off by a full disk')
    with monkeypatch.context() as patch:
        patch.setattr(log._handler, "format", full)
        with pytest.raises(OSError, match="No space left"):
            log.add(request, Attributed())
    log.add(request, Attributed())
    assert [entry["adapter"] for entry in log.search("first", 10)] == ["first", "first"]
