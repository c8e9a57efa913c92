"""What clients upload is scored or trained on, photo by photo, and cannot write elsewhere or fill the disk."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.hostile_decoder import hostile
from tests.service.work_client import client_of, finished, noise, zipped
from vlm_ft.errors import DataError
from vlm_ft.inference.photo_decoder import PhotoDecoder
from vlm_ft.scoring.progress import PROGRESS, read_progress
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.workplace import Workplace


@pytest.fixture
def client(work: Workplace) -> TestClient:
    return client_of(work)


def link(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = 0o120777 << 16
    return entry


def test_a_zip_file_and_a_folder_are_scored(client: TestClient, work: Workplace) -> None:
    names = ("a.png", "deep/er/b.png", "../../escape.png", "notes.txt")
    sent = {"archive": ("photos.zip", zipped(*((name, noise(1)) for name in names)).getvalue())}
    job = finished(client, client.post("/v1/batches", data={"adapter": "parts", "table": "jsonl"}, files=sent))
    assert job["state"] == "done", job["log"]
    rows = [json.loads(line) for line in client.get(f"/v1/jobs/{job['id']}/result").text.splitlines()]
    assert sorted(row["path"] for row in rows) == ["a.png", "deep/er/b.png", "escape.png"]
    progress = read_progress(work.jobs.folder / job["id"] / PROGRESS)
    assert progress is not None
    assert (progress.done, progress.total) == (3, 3)
    assert {row["card"] for row in rows} == {client.get("/v1/adapters").json()[0]["card"]}
    assert work.root is not None
    (work.root / "batch" / "c.png").write_bytes(noise(2))
    job = finished(client, client.post("/v1/batches", data={"adapter": "parts", "folder": "batch"}))
    assert job["state"] == "done", job["log"]
    assert "c.png" in client.get(f"/v1/jobs/{job['id']}/result").text
    assert "<html" in client.get(f"/v1/jobs/{job['id']}/review").text
    for path in ("/v1/jobs", f"/v1/jobs/{job['id']}"):
        assert str(work.jobs.folder.parent) not in client.get(path).text


def test_a_photo_that_hangs_or_crashes_its_decoder_is_set_aside(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = PhotoDecoder(seconds=3, open_photo=hostile)
    monkeypatch.setattr("vlm_ft.inference.photo_decoder.shared", lambda: decoder)
    names = ("dies.png", "good.png", "hangs.png")
    sent = {"archive": ("photos.zip", zipped(*((name, noise(1)) for name in names)).getvalue())}
    job = finished(client, client.post("/v1/batches", data={"adapter": "parts", "table": "jsonl"}, files=sent))
    assert job["state"] == "done", job["log"]
    rows = [json.loads(line) for line in client.get(f"/v1/jobs/{job['id']}/result").text.splitlines()]
    reasons = {row["path"]: row["error"] or "" for row in rows}
    assert sorted(reasons) == sorted(names)
    assert "its decoder crashed" in reasons["dies.png"]
    assert "takes more than 3 s to decode" in reasons["hangs.png"]
    assert not reasons["good.png"]
    decoder.close()


@pytest.mark.usefixtures("one_shape", "shipped_tiny")
def test_data_with_a_photo_that_hangs_its_decoder_are_refused(
    client: TestClient, drawings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoder = PhotoDecoder(seconds=3, open_photo=hostile)
    monkeypatch.setattr("vlm_ft.inference.photo_decoder.shared", lambda: decoder)
    files = [(str(file.relative_to(drawings)), file.read_bytes()) for file in drawings.rglob("*") if file.is_file()]
    photo_name = next(name for name, _ in files if name.endswith(".png"))
    renamed = [
        (name.replace(Path(photo_name).stem, "hangs"), content.replace(Path(photo_name).stem.encode(), b"hangs"))
        for name, content in files
    ]
    sent = {"archive": ("set.zip", zipped(*renamed).getvalue())}
    look = client.post("/v1/jobs/preflight", data={"name": "castings", "recipe": "tiny"}, files=sent)
    job = finished(client, look)
    assert job["state"] == "failed"
    assert "hangs.png: takes more than 3 s to decode" in job["log"]
    decoder.close()


def test_archives_that_would_fill_the_disk_or_cannot_be_written_are_refused(
    client: TestClient, work: Workplace
) -> None:
    def refused(*entries: tuple[str, bytes]) -> str:
        sent = {"archive": ("photos.zip", zipped(*entries).getvalue())}
        found = client.post("/v1/batches", data={"adapter": "parts"}, files=sent)
        assert found.status_code == 400, found.text
        return str(found.json()["error"]["message"])

    assert "unpacks to many times its size" in refused(("a.bmp", bytes(60_000_000)))
    assert "occurs twice" in refused(("a.png", b"x"), ("../a.png", b"y"))
    assert "cannot be unpacked" in refused(("a.png", b"x"), ("a.png/b.png", b"y"))
    assert "cannot be unpacked" in refused(("a" * 300 + ".png", b"x"))
    assert not [entry for entry in work.jobs.folder.iterdir() if entry.is_dir()]


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ([("../a.csv", b"x")], "leads out of the data set's folder"),
        ([("/etc/a.csv", b"x")], "leads out of the data set's folder"),
        ([("a\\..\\..\\a.csv", b"x")], "leads out of the data set's folder"),
        ([(link("a.csv"), b"/etc/passwd")], "is a link"),
        ([("a.csv", b"x"), ("./a.csv", b"y")], "occurs twice"),
        ([("a.csv", bytes(60_000_000))], "unpacks to many times its size"),
        ([(f"{number}.csv", b"") for number in range(4)], "is one of more than 3 files"),
        ([(".hidden", b"x"), ("__MACOSX/a.csv", b"x")], "contains no file"),
    ],
)
def test_data_that_would_be_written_elsewhere_or_fill_the_disk_are_refused(
    work: Workplace, monkeypatch: pytest.MonkeyPatch, entries: Any, says: str
) -> None:
    monkeypatch.setattr("vlm_ft.work.archives.MAX_FILES", 3)
    with pytest.raises(DataError, match=says):
        work.preflight("castings", [("a.zip", zipped(*entries))], "", "", "", None)
    assert not [entry for entry in work.jobs.folder.iterdir() if entry.is_dir()]


def test_photos_with_the_same_name_are_all_scored(work: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jobs, "_next", lambda _: None)
    sent = [(name, io.BytesIO(name.encode() + bytes([at]))) for at, name in enumerate(["3 a.png", "a.png", "a.png"])]
    job = work.score(work.registry.current("parts").card.model_copy(update={"name": "parts"}), sent, "", "csv", None)
    assert len(list((work.jobs.folder / job.id / "photos").iterdir())) == 3


def test_a_file_that_is_not_a_zip_file_is_refused(client: TestClient) -> None:
    for content, says in ((b"no zip", "cannot be unpacked"), (b"PK\x05\x06" + bytes(18), "contains no image")):
        found = client.post("/v1/batches", data={"adapter": "parts"}, files={"archive": ("a.zip", content)})
        assert found.status_code == 400
        assert says in found.json()["error"]["message"]


def test_a_photo_with_a_long_name_is_scored(client: TestClient) -> None:
    sent = {"archive": (f"{'ä' * 300}.png", noise(0))}
    job = finished(client, client.post("/v1/batches", data={"adapter": "parts"}, files=sent))
    assert "ää.png" in client.get(f"/v1/jobs/{job['id']}/result").text
