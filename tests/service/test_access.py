"""The service is open to authorised clients only, and reveals nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import tempfile
from io import BytesIO
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from starlette.websockets import WebSocketDisconnect
from vlm_ft.demo.app import build_app, mount

from tests.service.servers import GPS, HERE, photo
from vlm_ft.errors import RecipeError
from vlm_ft.inference.engine import Engine
from vlm_ft.service.app import build_service
from vlm_ft.service.gate import right_of
from vlm_ft.service.intake import received, remove_leftovers
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.work.tokens import Tokens, add_token


@pytest.mark.parametrize("name", ["", " ", "desk\n2026-01-01 admin"])
def test_a_tokens_owner_must_be_printable(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not a printable word; give the owner's name"):
        add_token(tmp_path / "tokens.json", name, ("read",))
    assert not list(tmp_path.iterdir())


def test_a_request_without_an_owner_has_no_rights(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"x").hexdigest()
    (tmp_path / "tokens.json").write_text(json.dumps({"": {"sha256": digest, "rights": ["admin"]}}))
    assert not Tokens(tmp_path / "tokens.json").allows(None, "admin")


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
    for origin, status in (("http://evil.example", 403), ("null", 403), (HERE, 200)):
        assert client.post("/v1/assess", headers={"Origin": origin}, **asked).status_code == status
    for sender in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        socket = client.websocket_connect("ws://127.0.0.1/app/ws", headers=sender)
        with pytest.raises(WebSocketDisconnect) as closed, socket:
            pass
        assert closed.value.code == 1008


def test_no_photo_is_opened_in_the_services_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even for its size: the header of a scan may inflate to a gigabyte."""
    sent = BytesIO(photo())
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a photo was opened"))
    with received([sent], []) as (path,):
        assert path.read_bytes() == sent.getvalue()


def test_the_app_does_not_accept_files_on_the_server(engine: Engine, tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(photo(form="PNG"))
    api = mount(build_service(engine), build_app(engine))
    with TestClient(api, base_url=HERE) as client:
        given = {"data": ["trial", [{"path": str(secret), "meta": {"_type": "gradio.FileData"}}], "", "One case", None]}
        call = client.post("/app/gradio_api/call/assess", json=given)
        event = call.json()["event_id"]
        found = client.get(f"/app/gradio_api/call/assess/{event}").text
    assert "event: error" in found
    assert "complete" not in found


def test_leftovers_of_a_killed_service_are_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    dead = subprocess.Popen(["true"])
    dead.wait()
    for name in (f"vlm-ft-{dead.pid}-abc", f"vlm-ft-{os.getpid()}-abc", "vlm-ft-mine"):
        (tmp_path / name).mkdir()
    remove_leftovers()
    assert {path.name for path in tmp_path.iterdir()} == {f"vlm-ft-{os.getpid()}-abc", "vlm-ft-mine"}
