"""Asking through the app: by its handler, and through its address."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from gradio_client import Client, handle_file
from PIL import Image

from demo.app import NO_ADAPTER, assess, build_app, mount


def test_a_photo_is_answered(known: Any, photo: Path) -> None:
    image, html, raw = assess(known, "plates", str(photo), " look at the edge ")
    assert image is not None
    assert image.size == (320, 240)
    assert "scratch" in html
    assert json.loads(raw)["fields"]["kind"]["value"] == "scratch"
    assert known.asked[0].turns[0].text == "look at the edge"


def test_a_text_adapter_gets_no_photo(known: Any, photo: Path) -> None:
    image, html, _ = assess(known, "contracts", str(photo), "Audits are allowed.")
    assert image is None
    assert "audit_rights" in html
    assert known.asked[0].images == ()
    assert "Give a text first" in assess(known, "contracts", str(photo), "")[1]


@pytest.mark.parametrize("name", ["text.jpg", "empty.jpg", "cut.png", "huge.png"])
def test_a_bad_upload_is_one_line(known: Any, photo: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    whole = photo.read_bytes()
    match name:
        case "huge.png":
            Image.new("1", (20_000, 20_000)).save(path)
        case "cut.png":
            path.write_bytes(whole[: len(whole) // 2])
        case _:
            path.write_text("no image" if name == "text.jpg" else "")
    image, html, raw = assess(known, "plates", str(path), "")
    assert (image, raw, known.asked) == (None, "", [])
    assert f"</strong> {name}: " in html
    assert str(tmp_path) not in html


def test_what_fails_inside_is_no_traceback(known: Any, photo: Path) -> None:
    def fail(requests: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    known.predict = fail
    html = assess(known, "plates", str(photo), "")[1]
    assert "Something went wrong inside" in html
    assert "CUDA" not in html
    assert "reload this page" in assess(known, "gone", str(photo), "")[1]
    assert "Give a photo or a text first" in assess(known, "plates", None, None)[1]


def test_no_adapter_is_said(known: Any) -> None:
    known.cards = {}
    blocks = build_app(known)
    assert NO_ADAPTER in json.dumps(blocks.get_config_file())


@pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting' is deprecated")  # Gradio's own use of pandas
def test_the_address_answers(address: str, photo: Path, tmp_path: Path) -> None:
    client = Client(address, verbose=False)
    shown, html, raw = client.predict("plates", handle_file(photo), "", api_name="/assess")
    assert Path(shown["value"] if isinstance(shown, dict) else shown).is_file()
    assert "scratch" in html
    assert json.loads(raw)["decision"] == "answer"
    bad = tmp_path / "bad.jpg"
    bad.write_text("no image")
    assert "not an image" in client.predict("plates", handle_file(bad), "", api_name="/assess")[1]
    assert list(client.view_api(return_format="dict", print_info=False)["named_endpoints"]) == ["/assess"]


def test_the_app_lives_inside_a_service(known: Any) -> None:
    with TestClient(mount(FastAPI(), build_app(known), "/app")) as client:
        assert client.get("/app/").status_code == 200
        assert client.get("/").status_code == 404
