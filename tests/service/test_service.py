"""The service gives the engine's answers to authorised clients, and reveals nothing else."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import uvicorn
from fastapi.testclient import TestClient
from PIL import Image
from safetensors.torch import load_file, save_file
from starlette.websockets import WebSocketDisconnect

from datasets_vision.example import Turn
from demo.app import build_app, mount
from vlm_ft.adapters import TENSORS
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Request
from vlm_ft.service import intake
from vlm_ft.service.app import build_service
from vlm_ft.service.gate import OWNER, Gate, right_of
from vlm_ft.service.intake import MAX_BYTES, remove_leftovers
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.service.tokens import Tokens, add_token

GPS = "SECRETGPS"


def photo(red: int = 200, form: str = "JPEG") -> bytes:
    """A picture with a location in its EXIF data."""
    image, out = Image.new("RGB", (80, 60), (red, 40, 30)), io.BytesIO()
    exif = image.getexif()
    exif[0x010E] = GPS
    image.save(out, form, exif=exif)
    return out.getvalue()


@pytest.fixture(scope="module")
def engine(run_of: Callable[..., Path]) -> Engine:
    return Engine.open([run_of("fast_vlm") / "adapter"])


HERE = "http://127.0.0.1"


@pytest.fixture
def client(engine: Engine, tmp_path: Path) -> TestClient:
    meter = Meter()
    recorded = Recorded(engine, meter, DecisionLog(tmp_path / "decisions.jsonl"))
    return TestClient(build_service(recorded, meter=meter), base_url=HERE, raise_server_exceptions=False)


class Slow:
    """An engine whose answers wait until they are released."""

    def __init__(self, engine: Engine) -> None:
        self.cards, self._engine = engine.cards, engine
        self.go, self.asked = threading.Event(), 0
        self.go.set()

    def predict(self, requests: Any) -> Any:
        self.asked += 1
        assert self.go.wait(60)
        return self._engine.predict(requests)


@pytest.fixture(scope="module")
def slow(engine: Engine) -> Slow:
    return Slow(engine)


@pytest.fixture(scope="module")
def address(slow: Slow) -> Iterator[str]:
    """A real server on a free port of this machine."""
    server = uvicorn.Server(uvicorn.Config(build_service(slow, waiting=3), port=0, log_level="error"))
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
    *chunks, last = chunks
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert json.loads(streamed) == expected.values
    for found in (whole, last):
        assert found.model_extra["assessment"]["decision"] == expected.decision
    lenient: Any = {"temperature": 0, "n": 1, "seed": 7, "tools": None}
    again = theirs.chat.completions.create(model="trial", messages=messages, **lenient)
    assert again.choices[0].message.content == whole.choices[0].message.content
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
def test_pictures_must_come_with_the_request(client: TestClient, url: str, says: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"model": "trial", "messages": [{"role": "user", "content": content}]}
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code in (400, 422)
    assert says in found.json()["error"]["message"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"temperature": 0.7}, "temperature"),
        ({"n": 2}, "body.n"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"tools": [{}]}, "tools"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "system", "content": "Be brief."}]}, "the adapter has its own instruction"),
        ({"messages": [0] * 100_000}, "messages"),
        ({"model": "x" * 1000}, "model"),
    ],
)
def test_parameters_that_would_be_ignored_are_refused(client: TestClient, change: dict[str, Any], says: str) -> None:
    body = {"model": "trial", "messages": [{"role": "user", "content": "Hello"}], **change}
    found = client.post("/v1/chat/completions", json=body)
    assert found.status_code == 400
    assert says in found.json()["error"]["message"]
    assert len(found.content) < 1500


def test_a_misspelt_field_is_refused(client: TestClient) -> None:
    found = client.post("/v1/assess", data={"adapter": "trial"}, files={"photo": ("a.jpg", photo())})
    assert found.status_code == 400
    assert "photo" in found.json()["error"]["message"]


def test_a_text_for_a_photo_adapter_is_refused(client: TestClient) -> None:
    asked = {"adapter": "trial", "text": "Is this fine?"}
    found = client.post("/v1/assess", data=asked, files={"photos": ("a.jpg", photo())})
    assert found.status_code == 400
    assert "learned from photos only" in found.json()["error"]["message"]


def test_nothing_private_is_revealed(client: TestClient, tmp_path: Path) -> None:
    """Neither the server's folders nor a photo's own data appear in answers, errors or the log."""
    asked = {"data": {"adapter": "trial"}}
    good = client.post("/v1/assess", **asked, files=[("photos", (f"{GPS}.jpg", photo()))])
    bad = client.post("/v1/assess", **asked, files=[("photos", (f"../{GPS}.jpg", b"no picture"))])
    none = client.post("/v1/assess", **asked)
    assert (good.status_code, bad.status_code, none.status_code) == (200, 400, 422)
    assert bad.json()["error"]["message"].startswith("photo 1: not a readable image")
    log = (tmp_path / "decisions.jsonl").read_text()
    for text in (good.text, bad.text, none.text, log):
        assert GPS not in text
        assert tempfile.gettempdir() not in text
        assert str(tmp_path) not in text
    entry = json.loads(log.splitlines()[0])
    assert entry["answer"] == {name: field["value"] for name, field in good.json()["fields"].items()}
    assert entry["photos"] == [{"file": hashlib.sha256(photo()).hexdigest()}]


def test_every_path_but_health_needs_a_token(engine: Engine, tmp_path: Path) -> None:
    file = tmp_path / "tokens.json"
    reader, assessor = add_token(file, "monitor", ("read",)), add_token(file, "desk", ("read", "assess"))
    assert reader not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0
    log = tmp_path / "decisions.jsonl"
    api = build_service(Recorded(engine, Meter(), DecisionLog(log)), tokens=Tokens(file))
    mount(api, build_app(engine))
    client = TestClient(api, base_url=HERE)
    paths = {getattr(route, "path", "") for route in api.routes} | {"/app/", "/app/x", "/nowhere"}
    for path in paths:
        if path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
            continue
        for headers in (
            {},
            {"Authorization": "Bearer x"},
            {"Authorization": "Basic ****"},
            {"Authorization": "Bearer "},
        ):
            assert client.get(path, headers=headers).status_code == 401, path
        status = client.get(path, headers={"Authorization": f"Bearer {reader}"}).status_code
        assert (status == 403) == (right_of(path) != "read"), path
    files = [("photos", ("a.jpg", photo()))]
    for path, status in (("/v1/assess", 403), ("/v1/assess%0A", 404), ("/v1/chat/completions%0A", 404)):
        bearer = {"Authorization": f"Bearer {reader}"}
        assert client.post(path, headers=bearer, data={"adapter": "trial"}, files=files).status_code == status
    for given in ({"headers": {"Authorization": f"Bearer {assessor}"}}, {"auth": ("anyone", assessor)}):
        assert client.post("/v1/assess", data={"adapter": "trial"}, files=files, **given).status_code == 200
    assert {json.loads(line)["by"] for line in log.read_text().splitlines()} == {"desk"}
    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/app/ws"):
        pass
    add_token(file, "desk", ("read",))  # replaces the token without a restart
    bearer = {"Authorization": f"Bearer {assessor}"}
    assert client.get("/v1/models", headers=bearer).status_code == 401


def test_pages_of_other_sites_are_refused(client: TestClient, engine: Engine) -> None:
    asked = {"data": {"adapter": "trial"}, "files": [("photos", ("a.jpg", photo()))]}
    assert client.post("/v1/assess", headers={"Sec-Fetch-Site": "cross-site"}, **asked).status_code == 403
    assert client.get("/v1/models", headers={"Host": "evil.example"}).status_code == 400


def test_oversized_requests_are_refused(address: str, client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    large = [("photos", ("a.jpg", b"0" * (MAX_BYTES + 1)))]
    asked = {"data": {"adapter": "trial"}}
    assert client.post("/v1/assess", **asked, files=large).status_code == 413

    def chunks() -> Iterator[bytes]:
        for _ in range(MAX_BYTES // 1_000_000 + 1):
            yield b"0" * 1_000_000

    json_body = {"Content-Type": "application/json"}
    assert httpx.post(f"{address}/chat/completions", content=chunks(), headers=json_body).status_code == 413
    many = [("photos", (f"{number}.jpg", photo())) for number in range(9)]
    assert client.post("/v1/assess", **asked, files=many).status_code == 400
    monkeypatch.setattr(intake, "MAX_PIXELS", 2 * 80 * 60)
    found = client.post("/v1/assess", **asked, files=many[:3])
    assert (found.status_code, "14400 pixels" in found.text) == (400, True)


def test_a_busy_service_asks_clients_to_retry(address: str, slow: Slow) -> None:
    """Admitted requests are answered, and the service can be monitored meanwhile."""
    asked: Any = {"data": {"adapter": "trial"}, "files": {"photos": ("a.jpg", photo())}, "timeout": 60}
    slow.go.clear()
    before = slow.asked
    with ThreadPoolExecutor(3) as pool:
        admitted = [pool.submit(httpx.post, f"{address}/assess", **asked) for _ in range(3)]
        deadline = time.monotonic() + 30
        while slow.asked < before + 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        found = httpx.post(f"{address}/assess", **asked)
        assert found.status_code == 429
        assert int(found.headers["Retry-After"]) > 0
        assert httpx.get(f"{address.removesuffix('/v1')}/healthz", timeout=5).status_code == 200
        slow.go.set()
        assert [each.result().status_code for each in admitted] == [200, 200, 200]


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
    answer = Prediction(fields={"kind": FieldValue("dent")})
    with ThreadPoolExecutor(8) as pool:
        for number in range(200):
            request = Request(turns=(Turn("user", f"{number}"),), adapter="trial")
            pool.submit(log.add, engine.cards["trial"], request, answer)
    lines = [line for file in tmp_path.glob("log.jsonl*") for line in file.read_text().splitlines()]
    assert len({json.loads(line)["text"] for line in lines}) == len(lines) == 200
    assert len(list(tmp_path.glob("log.jsonl*"))) > 2


def test_leftovers_of_a_killed_service_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"vlm-ft-{dead.pid}-abc", f"vlm-ft-{os.getpid()}-abc", "vlm-ft-mine"):
        (tmp_path / name).mkdir()
    remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {f"vlm-ft-{os.getpid()}-abc", "vlm-ft-mine"}


def test_two_adapters_with_the_same_name_stay_apart(run_of: Callable[..., Path], tmp_path: Path) -> None:
    first = run_of("fast_vlm") / "adapter"
    other = tmp_path / "other"
    shutil.copytree(first, other)
    tensors = load_file(other / TENSORS)
    save_file({name: -3 * tensor for name, tensor in tensors.items()}, other / TENSORS)
    engine = Engine.open([first, other])
    assert list(engine.cards) == ["trial", "trial-2"]
    client = TestClient(build_service(engine), base_url=HERE)
    found = [
        client.post("/v1/assess", data={"adapter": name}, files={"photos": ("a.jpg", photo())}).json()
        for name in engine.cards
    ]
    assert [answer["adapter"] for answer in found] == ["trial", "trial-2"]
    shares = [answer["fields"]["kind"]["distribution"] for answer in found]
    assert shares[0] != pytest.approx(shares[1], abs=1e-4)


def test_the_service_describes_what_it_serves(client: TestClient) -> None:
    (entry,) = client.get("/v1/adapters").json()
    assert (entry["name"], entry["task"]) == ("trial", "product_defects")
    assert set(entry["schema"]["properties"]) == {"passed", "kind"}
    client.post("/v1/assess", data={"adapter": "trial"}, files=[("photos", ("a.jpg", photo()))])
    assert "vlm_ft_seconds_count 1.0" in client.get("/metrics").text
    assert client.get("/v1/none").json()["error"]["type"] == "not_found"
    assert client.get("/openapi.json").json()["paths"]["/v1/assess"]


def test_a_slow_sender_does_not_hold_a_place(slow: Slow) -> None:
    api = build_service(slow, waiting=1)
    gate = next(middleware for middleware in api.user_middleware if middleware.cls is Gate)
    gate.kwargs["seconds"] = 0.5
    server = uvicorn.Server(uvicorn.Config(api, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    (listening,) = server.servers[0].sockets
    with socket.create_connection(listening.getsockname()) as sender:
        sender.sendall(
            b"POST /v1/assess HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
            b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
        )
        assert b"408" in sender.recv(1000)
    address = f"http://127.0.0.1:{listening.getsockname()[1]}"
    found = httpx.post(
        f"{address}/v1/assess", data={"adapter": "trial"}, files={"photos": ("a.jpg", photo())}, timeout=60
    )
    assert found.status_code == 200
    server.should_exit = True
    thread.join(30)


def test_the_app_takes_no_file_of_the_server(engine: Engine, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(photo(form="PNG"))
    api = mount(build_service(engine), build_app(engine))
    with TestClient(api, base_url=HERE) as client:
        given = {"data": ["trial", [{"path": str(secret), "meta": {"_type": "gradio.FileData"}}], ""]}
        call = client.post("/app/gradio_api/call/assess", json=given)
        event = call.json()["event_id"]
        found = client.get(f"/app/gradio_api/call/assess/{event}").text
    assert "event: error" in found
    assert "complete" not in found


def test_answers_in_the_app_are_logged_with_who_asked(engine: Engine, tmp_path: Path) -> None:
    tokens, log = tmp_path / "tokens.json", tmp_path / "decisions.jsonl"
    bearer = {"Authorization": f"Bearer {add_token(tokens, 'desk', ('read', 'assess'))}"}
    recorded = Recorded(engine, Meter(), DecisionLog(log))
    api = build_service(recorded, tokens=Tokens(tokens))
    mount(api, build_app(recorded), auth=lambda request: OWNER.get())
    with TestClient(api, base_url=HERE, headers=bearer) as client:
        (path,) = client.post("/app/gradio_api/upload", files={"files": ("a.png", photo(form="PNG"))}).json()
        given = {"data": ["trial", [{"path": path, "meta": {"_type": "gradio.FileData"}}], ""]}
        event = client.post("/app/gradio_api/call/assess", json=given).json()["event_id"]
        assert "event: complete" in client.get(f"/app/gradio_api/call/assess/{event}").text
    assert [json.loads(line)["by"] for line in log.read_text().splitlines()] == ["desk"]
