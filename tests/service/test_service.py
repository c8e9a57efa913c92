"""The service answers as the engine does, to those who may ask, and says nothing else."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image

from vlm_ft.errors import BusyError
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.service.app import build_service
from vlm_ft.service.decision_log import DecisionLog
from vlm_ft.service.intake import MOST_BYTES
from vlm_ft.service.tokens import add_token, read_tokens

GPS = "SECRETGPS"


def photo(red: int = 200, form: str = "JPEG") -> bytes:
    """A picture whose EXIF data name a place."""
    image, out = Image.new("RGB", (80, 60), (red, 40, 30)), io.BytesIO()
    exif = image.getexif()
    exif[0x010E] = GPS
    image.save(out, form, exif=exif)
    return out.getvalue()


@pytest.fixture(scope="module")
def engine(run_of: Callable[..., Path]) -> Engine:
    return Engine.open([run_of("fast_vlm") / "adapter"])


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> TestClient:
    return TestClient(build_service(engine, log=DecisionLog(tmp_path / "decisions.jsonl")))


@pytest.fixture(scope="module")
def address(engine: Engine) -> Iterator[str]:
    """A real server on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(build_service(engine), port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not server.started:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    (listening,) = server.servers[0].sockets
    yield f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
    server.should_exit = True
    thread.join(30)


def test_an_assessment_is_the_engines_answer(client: TestClient, engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(photo())
    (expected,) = engine.predict([Request((tmp_path / "photo.jpg",), adapter="trial")])
    found = client.post("/v1/assess", data={"adapter": "trial"}, files=[("photos", ("me.jpg", photo()))])
    assert found.status_code == 200
    answer = found.json()
    assert {name: field["value"] for name, field in answer["fields"].items()} == expected.values
    assert answer["fields"]["kind"]["distribution"] == pytest.approx(expected.fields["kind"].distribution, abs=1e-6)
    assert (answer["adapter"], answer["decision"]) == ("trial", expected.decision)


def test_openai_clients_are_served(address: str, engine: Engine, tmp_path: Path) -> None:
    theirs = openai.OpenAI(base_url=address, api_key="none")
    assert [model.id for model in theirs.models.list()] == ["trial"]
    (tmp_path / "photo.jpg").write_bytes(photo())
    (expected,) = engine.predict([Request((tmp_path / "photo.jpg",), adapter="trial")])
    url = "data:image/jpeg;base64," + base64.b64encode(photo()).decode()
    messages: Any = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]
    whole = theirs.chat.completions.create(model="trial", messages=messages)
    assert json.loads(whole.choices[0].message.content or "") == expected.values
    chunks = theirs.chat.completions.create(model="trial", messages=messages, stream=True)
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(streamed) == expected.values
    with pytest.raises(openai.NotFoundError, match="did you mean 'trial'"):
        theirs.chat.completions.create(model="trail", messages=messages)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("https://example.com/a.jpg", "is not a data URI"),
        ("file:///etc/passwd", "is not a data URI"),
        ("data:image/png;base64,%%%", "is not base64"),
        ("data:image/png;base64,AAAA", "not a readable image"),
    ],
)
def test_pictures_come_with_the_request(client: TestClient, url: str, says: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "trial", "messages": [{"role": "user", "content": content}]}
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code in (400, 422)
    assert says in found.json()["error"]["message"]


@pytest.mark.parametrize(
    "change", [{"temperature": 0}, {"response_format": {"type": "json_object"}}, {"tools": []}, {"messages": []}]
)
def test_what_would_be_ignored_is_refused(client: TestClient, change: dict[str, Any]) -> None:
    body = {"model": "trial", "messages": [{"role": "user", "content": "Hello"}], **change}
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code == 400
    assert next(iter(change)) in found.json()["error"]["message"]


def test_nothing_private_is_said(client: TestClient, tmp_path: Path) -> None:
    """Neither the server's folders nor a photo's own data appear in answers, errors or the log."""
    asked = {"data": {"adapter": "trial"}}
    good = client.post("/v1/assess", **asked, files=[("photos", (f"{GPS}.jpg", photo()))])
    bad = client.post("/v1/assess", **asked, files=[("photos", (f"../{GPS}.jpg", b"no picture"))])
    none = client.post("/v1/assess", **asked)
    assert (good.status_code, bad.status_code, none.status_code) == (200, 422, 422)
    assert "photo 1: not a readable image" in bad.json()["error"]["message"]
    log = (tmp_path / "decisions.jsonl").read_text()
    for text in (good.text, bad.text, none.text, log):
        assert GPS not in text
        assert "/tmp" not in text
        assert str(tmp_path) not in text
    entry = json.loads(log.splitlines()[0])
    assert entry["answer"] == {name: field["value"] for name, field in good.json()["fields"].items()}
    assert len(entry["photos"][0]) == 64


def test_every_path_but_health_needs_a_token(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    reader, assessor = add_token(file, "monitor", ("read",)), add_token(file, "desk", ("read", "assess"))
    assert reader not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    client = TestClient(build_service(engine, read_tokens(file)))
    paths = [route.path for route in client.app.routes]
    for path in ["/app", "/app/x", *paths]:
        if path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
            continue
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic ****"}):
            assert client.request("POST" if "assess" in path else "GET", path, headers=headers).status_code == 401
    asked = {"data": {"adapter": "trial"}, "files": [("photos", ("a.jpg", photo()))]}
    for token, status in ((reader, 403), (assessor, 200)):
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.get("/v1/models", headers=bearer).status_code == 200
        assert client.post("/v1/assess", headers=bearer, **asked).status_code == status
        assert client.post("/v1/assess", auth=("anyone", token), **asked).status_code == status


def test_too_much_is_refused(client: TestClient) -> None:
    large = ("photos", ("a.jpg", b"0" * (MOST_BYTES + 1)))
    asked = {"data": {"adapter": "trial"}}
    assert client.post("/v1/assess", **asked, files=[large]).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(MOST_BYTES // 1_000_000 + 1):
            yield b"0" * 1_000_000

    json_body = {"Content-Type": "application/json"}
    assert client.post("/v1/chat/completions", content=chunks(), headers=json_body).status_code == 413
    many = [("photos", (f"{number}.jpg", photo())) for number in range(9)]
    assert client.post("/v1/assess", **asked, files=many).status_code == 400


def test_a_busy_engine_asks_to_come_again(client: TestClient, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def busy(requests: Any) -> Any:
        raise BusyError("engine", "64 of at most 64 requests in progress", "retry later")

    monkeypatch.setattr(engine, "predict", busy)
    found = client.post("/v1/assess", data={"adapter": "trial"}, files=[("photos", ("a.jpg", photo()))])
    assert found.status_code == 429
    assert int(found.headers["Retry-After"]) > 0


def test_what_is_served_is_described(client: TestClient) -> None:
    (entry,) = client.get("/v1/adapters").json()
    assert (entry["name"], entry["task"]) == ("trial", "product_defects")
    assert set(entry["schema"]["properties"]) == {"passed", "kind"}
    client.post("/v1/assess", data={"adapter": "trial"}, files=[("photos", ("a.jpg", photo()))])
    assert 'vlm_ft_seconds_count{adapter="trial"} 1.0' in client.get("/metrics").text
    assert client.get("/openapi.json").json()["paths"]["/v1/assess"]
