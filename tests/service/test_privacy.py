"""What people send stays in what they get back: no log, error, title or job says it, or where the server keeps it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image
from PIL.ExifTags import IFD

from tests.datasets_vision.made_dicom import PRIVATE, cut_in_the_header, write_dicom
from tests.service.servers import HERE
from tests.service.work_client import ended, zipped
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.work.jobs import LOG
from vlm_ft.work.workplace import Workplace

NAME, PLACE = "Winterkorn^Ottilie", "PLANTEDPLACE"


@pytest.fixture
def client(work: Workplace, tmp_path: Path) -> TestClient:
    meter = Meter()
    current = Current(open_engine([], work.registry, None), work.registry)
    recorded = Recorded(current, meter, DecisionLog(tmp_path / "decisions.jsonl"))
    return TestClient(build_service(recorded, work=work, meter=meter), base_url=HERE, raise_server_exceptions=False)


@pytest.fixture
def planted(tmp_path: Path) -> dict[str, bytes]:
    """Files by name: two good ones and three damaged ones, with a person or a place in their names and their tags."""
    pixels = np.random.default_rng(0).integers(0, 4096, (32, 32)).astype(np.uint16)
    scan = write_dicom(tmp_path / "scan", pixels)
    cut = scan.with_name("cut")
    cut.write_bytes(scan.read_bytes()[:-500])
    odd = write_dicom(tmp_path / "odd", pixels, WindowCenter=["40"], SeriesDescription=NAME, Modality=f"{PLACE}")
    image, jpeg = Image.fromarray((pixels >> 4).astype(np.uint8)).convert("RGB"), io.BytesIO()
    exif = image.getexif()
    gps = exif.get_ifd(IFD.GPSInfo)
    gps |= {1: "N", 2: (48.0, 8.0, 12.0), 27: PLACE.encode(), 28: PLACE.encode(), 29: PLACE}
    exif[IFD.GPSInfo] = gps
    exif[0x010E] = exif[0x013B] = NAME
    image.save(jpeg, "JPEG", exif=exif)
    assert PLACE.encode() in jpeg.getvalue()
    files = {
        "scan.dcm": scan.read_bytes(),
        "photo.jpg": jpeg.getvalue(),
        "cut.dcm": cut.read_bytes(),
        "cut header.dcm": cut_in_the_header(tmp_path / "header").read_bytes(),
        "odd.dcm": odd.read_bytes(),
        "cut.jpg": jpeg.getvalue()[:-200],
    }
    return {f"{NAME} {name}": content for name, content in files.items()}


def test_no_name_place_tag_or_folder_is_revealed(
    client: TestClient, work: Workplace, planted: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []

    def post(path: str, **sent: Any) -> Any:
        found = client.post(path, **sent)
        said.append(found.text)
        return found

    statuses = []
    for name, content in planted.items():
        sent = {"photos": (name, content)}
        answer = post("/v1/assess", data={"adapter": "parts"}, files=sent)
        statuses.append(answer.status_code)
        fields = answer.json().get("fields", {})
        verdict = {
            "adapter": "parts",
            "verdict": "accepted",
            "answer": json.dumps({key: field["value"] for key, field in fields.items()}),
        }
        post("/v1/reviews", data=verdict, files=sent)
    assert statuses[:2] == [200, 200]
    assert 400 in statuses
    archive = {"archive": (f"{NAME}.zip", zipped(*planted.items()).getvalue())}
    scored = post("/v1/batches", data={"adapter": "parts", "table": "jsonl"}, files=archive).json()["id"]
    classes = {
        f"{('good', 'crack')[at % 2]}/{at}{Path(name).suffix}": each for at, (name, each) in enumerate(planted.items())
    }
    # the files of a data set are named, so that they can be found
    data = {"archive": (f"{NAME}.zip", zipped(*classes.items()).getvalue())}
    looked = post("/v1/jobs/preflight", data={"name": "castings"}, files=data).json()["id"]
    for job in (scored, looked):
        assert ended(work, work.jobs.get(job)).state in ("done", "failed")
        said += [client.get(f"/v1/jobs/{job}{part}").text for part in ("", "/log", "/events")]
    assert "set aside" in client.get(f"/v1/jobs/{scored}/log").text
    said += [client.get(path).text for path in ("/v1/jobs", "/v1/reviews", "/metrics", "/v1/jobs/x/log")]
    said += [(tmp_path / "decisions.jsonl").read_text(), (tmp_path / "reviews" / "reviews.jsonl").read_text()]
    said += capfd.readouterr()
    planted_values = {NAME, *NAME.split("^"), PLACE, *PRIVATE, str(tmp_path)}
    for text in said:
        assert not {value for value in planted_values if value in text}, text


def test_a_jobs_log_names_no_folder_of_the_server(work: Workplace, tmp_path: Path) -> None:
    with work.jobs.preparing() as place:
        (place / LOG).write_text(
            f"{place}/photos/a.png: 0 bytes\n{tmp_path}/adapters/parts/1: version 1\n"
            f'  File "/usr/lib/python3/site.py", line 1\nsee https://example.com/a/b'
        )
        job = work.jobs.submit(place, "score", "", ["--version"], LOG, None)
    ended(work, job)
    log = work.jobs.log(job.id).splitlines()
    assert log[:3] == ["photos/a.png: 0 bytes", "1: version 1", '  File "site.py", line 1']
    assert log[3].startswith("see https://example.com/a/b")
    assert [line for _, line in work.jobs.lines(job.id)] == log
