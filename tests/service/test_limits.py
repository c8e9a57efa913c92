"""What is too large, too slow or too much at once is refused, and the rest is answered."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from tests.service.conftest import Slow
from tests.service.servers import photo, running
from vlm_ft.service import intake
from vlm_ft.service.app import build_service
from vlm_ft.service.gate import Gate
from vlm_ft.service.intake import MAX_BYTES


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
    """Admitted requests are answered, and the service can still be monitored."""
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


def test_a_slow_sender_does_not_keep_its_place(slow: Slow) -> None:
    api = build_service(slow, waiting=1)
    gate = next(middleware for middleware in api.user_middleware if middleware.cls is Gate)
    gate.kwargs["seconds"] = 0.5
    with running(api) as (host, port):
        with socket.create_connection((host, port)) as sender:
            sender.sendall(
                b"POST /v1/assess HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n"
                b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n"
            )
            assert b"408" in sender.recv(1000)
        asked: Any = {"data": {"adapter": "trial"}, "files": {"photos": ("a.jpg", photo())}, "timeout": 60}
        assert httpx.post(f"http://{host}:{port}/v1/assess", **asked).status_code == 200


@pytest.mark.usefixtures("no_photo_process")
def test_a_client_is_asked_to_retry_while_no_process_can_decode_photos(client: TestClient) -> None:
    found = client.post("/v1/assess", data={"adapter": "trial"}, files={"photos": ("a.jpg", photo())})
    assert found.status_code == 429
    assert found.json()["error"] == {
        "message": "photos: no process is available to decode them; retry later",
        "type": "busy",
    }
    assert int(found.headers["Retry-After"]) > 0
    assert 'vlm_ft_refused_total{reason="busy"} 1.0' in client.get("/metrics").text
