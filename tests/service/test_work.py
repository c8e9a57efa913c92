"""The whole loop over HTTP: an answer, its correction, a new version, the gate, and another answer."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from PIL import Image
from rich.console import Console

from tests.command_here import CommandHere, start_here
from tests.service.servers import HERE
from tests.service.work_client import assessed, client_of, ended, events_of, finished, noise, zipped
from vlm_ft.inference.engine import Engine
from vlm_ft.registry import Registry
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.serving import Options, service
from vlm_ft.work.jobs import Job, Jobs
from vlm_ft.work.memory import PROCESS, Need
from vlm_ft.work.tokens import Right, Tokens, add_token
from vlm_ft.work.workplace import Workplace


@pytest.fixture
def client(work: Workplace) -> TestClient:
    return client_of(work)


def test_what_people_correct_trains_the_next_version(client: TestClient, work: Workplace) -> None:
    before = assessed(client, noise(0))
    answer = {name: field["value"] for name, field in before.items()}
    kinds = list(before["kind"]["distribution"])
    for seed in range(4):
        correct = {"passed": not answer["passed"], "kind": next(kind for kind in kinds if kind != answer["kind"])}
        verdict = {
            "adapter": "parts",
            "verdict": "corrected",
            "answer": json.dumps(answer),
            "correct": json.dumps(correct),
        }
        found = client.post("/v1/reviews", data=verdict, files={"photos": ("a.png", noise(seed))})
        assert found.json()["verdict"] == "corrected"
    assert len(client.get("/v1/reviews").json()) == 4

    trained = finished(client, client.post("/v1/jobs/train", json={"adapter": "parts"}))
    assert trained["state"] == "done", trained["log"]
    assert trained["title"] == "parts 1 with 4 reviews"
    told = events_of(client, trained["id"])
    lines = [data["line"] for kind, data in told if kind == "line"]
    assert any(re.match(r"step \d+/\d+ +loss \d", line) for line in lines)
    assert "\n".join(lines) == trained["log"].rstrip()
    promoted = finished(client, client.post("/v1/jobs/promote", json={"job": trained["id"], "margin": 1}))
    assert "difference" in promoted["log"]
    assert "now current" in promoted["log"]
    state = client.get("/v1/adapters/parts/versions").json()
    assert state["current"] == len(state["versions"])
    assert [bool(version["metrics"]) for version in state["versions"]] == [False, True]
    cards = [version["card"] for version in state["versions"]]
    for given, version in (({}, 2), ({"card": cards[0]}, 1), ({"card": cards[1]}, 2)):  # of whose answer it is
        found = client.post("/v1/reviews", data={**verdict, **given}, files={"photos": ("a.png", noise(0))}).json()
        assert (found["version"], found["card"]) == (version, cards[version - 1])
    refused = client.post("/v1/reviews", data={**verdict, "card": "0" * 64}, files={"photos": ("a.png", noise(0))})
    assert refused.status_code == 400
    assert "no version of 'parts' has it" in refused.text
    assert work.registry.current("parts").evaluation.is_file()
    after = assessed(client, noise(0))
    assert after["kind"]["distribution"] != before["kind"]["distribution"]

    assert client.post("/v1/adapters/parts/roll-back").json() == {"current": 1}
    assert assessed(client, noise(0))["kind"]["distribution"] == pytest.approx(before["kind"]["distribution"])


def test_a_jobs_memory_is_estimated_from_the_base_or_what_was_measured(
    run_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quiet: Console
) -> None:
    monkeypatch.setattr(Jobs, "_next", lambda _: None)
    Registry(tmp_path / "adapters").add("parts", run_of("fast_vlm"))
    options = Options(registry=tmp_path / "adapters", work=tmp_path / "work", with_app=False)
    api, predictor = service(options, quiet)
    with TestClient(api, base_url=HERE) as client:
        sent = {"archive": ("a.png", noise(1))}
        scored = client.post("/v1/batches", data={"adapter": "parts"}, files=sent).json()
        assert scored["need"]["memory"] > PROCESS
        answer = json.dumps({name: field["value"] for name, field in assessed(client, noise(0)).items()})
        verdict = {"adapter": "parts", "verdict": "accepted", "answer": answer}
        client.post("/v1/reviews", data=verdict, files={"photos": ("a.png", noise(0))})
        trained = client.post("/v1/jobs/train", json={"adapter": "parts"}).json()
    card = predictor.cards["parts"]
    assert trained["need"] == Need.of(0, card.training["peak_bytes"]).model_dump()


def test_a_request_to_train_opens_no_photo(
    client: TestClient, work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job does: which reviews are of the test set's photos is known only from the pixels."""
    answer = {name: field["value"] for name, field in assessed(client, noise(0)).items()}
    verdict = {"adapter": "parts", "verdict": "accepted", "answer": json.dumps(answer)}
    client.post("/v1/reviews", data=verdict, files={"photos": ("a.png", noise(0))})
    monkeypatch.setattr(Jobs, "_next", lambda _: None)  # so that no job begins
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("a photo was opened"))
    assert client.post("/v1/jobs/train", json={"adapter": "parts"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("/v1/batches", {"adapter": "parts"}, "give one of the two"),
        ("/v1/batches", {"adapter": "parts", "folder": "a\0b"}, "under the service's root"),
        ("/v1/batches", {"adapter": "parts", "folder": "../adapters"}, "under the service's root"),
        ("/v1/batches", {"adapter": "parts", "folder": "a" * 300}, "under the service's root"),
        ("/v1/batches", {"adapter": "parts", "folder": "/etc"}, "under the service's root"),
        ("/v1/batches", {"adapter": "../parts", "folder": "batch"}, "is not served"),
        ("/v1/jobs/train", {"adapter": "parts"}, "no accepted or corrected answer"),
        ("/v1/jobs/train", {"adapter": "parts", "recipe": "x.yaml"}, "recipe"),
        ("/v1/jobs/train", {"adapter": "parts", "job": "1"}, "give an adapter, or a job"),
        ("/v1/jobs/train", {}, "give an adapter, or a job"),
        ("/v1/jobs/train", {"job": "../adapters"}, "no job"),
        ("/v1/jobs/preflight", {"name": "castings"}, "give one zip file or one folder"),
        ("/v1/jobs/preflight", {"name": "../castings", "folder": "batch"}, "not a plain word"),
        ("/v1/jobs/preflight", {"name": "castings", "folder": "../adapters"}, "under the service's root"),
        ("/v1/jobs/preflight", {"name": "castings", "folder": "batch", "recipe": "/etc/passwd"}, "not a shipped one"),
        ("/v1/jobs/preflight", {"name": "castings", "folder": "batch", "task": "task.py"}, "unknown task 'task.py'"),
        ("/v1/jobs/promote", {"job": "../adapters"}, "no job"),
        ("/v1/reviews", {"adapter": "parts", "verdict": "accepted", "answer": "["}, "is not JSON"),
        ("/v1/reviews", {"adapter": "parts", "verdict": "accepted", "answer": "[]"}, "is not an object"),
        ("/v1/reviews", {"adapter": "parts", "verdict": "fine", "answer": "{}"}, "verdict"),
        ("/v1/reviews", {"adapter": "parts", "verdict": "accepted", "answer": '{"passed": "maybe"}'}, "does not fit"),
        ("/v1/reviews", {"adapter": "parts", "verdict": "accepted", "answer": "[" * 50_000}, "is not JSON"),
    ],
)
def test_bad_requests_are_refused(
    client: TestClient, tmp_path: Path, path: str, body: dict[str, str], says: str
) -> None:
    as_json = path in ("/v1/jobs/train", "/v1/jobs/promote")
    found = client.post(path, json=body) if as_json else client.post(path, data=body)
    assert found.status_code in (400, 404), found.text
    assert says in found.json()["error"]["message"]
    assert str(tmp_path) not in found.text
    assert client.get("/v1/jobs").json() == []


@pytest.mark.usefixtures("one_shape", "shipped_tiny")
def test_a_zip_file_is_checked_and_trained_on(
    client: TestClient, work: Workplace, drawings: Path, tmp_path: Path
) -> None:
    files = [(f"set/{file.relative_to(drawings)}", file.read_bytes()) for file in drawings.rglob("*") if file.is_file()]
    sent = {"archive": ("set.zip", zipped(*files).getvalue())}
    look = client.post("/v1/jobs/preflight", data={"name": "castings", "recipe": "tiny"}, files=sent)
    job = finished(client, look)
    assert job["state"] == "done", job["log"]
    found = client.get(f"/v1/jobs/{job['id']}/preflight")
    assert found.json()["errors"] == 0
    assert "steps of 4 rows" in found.json()["cost"]
    page = client.get(f"/v1/jobs/{job['id']}/checks")
    assert "Data check: castings" in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert str(tmp_path) not in found.text + page.text
    trained = finished(client, client.post("/v1/jobs/train", json={"job": job["id"]}))
    assert trained["state"] == "done", trained["log"]
    promoted = ended(work, work.promote(trained["id"], 0.0, "ann"))
    assert promoted.state == "done", work.jobs.log(promoted.id)
    assert work.registry.current("castings").number == 1
    taken = client.post("/v1/jobs/preflight", data={"name": "castings", "folder": "batch"})
    assert "is taken" in taken.json()["error"]["message"]
    for path in ("preflight", "checks"):
        assert "give a job of kind preflight" in client.get(f"/v1/jobs/{trained['id']}/{path}").text
    assert "give a job of kind preflight" in client.post("/v1/jobs/train", json={"job": trained["id"]}).text


def test_an_unknown_job_is_not_found(client: TestClient) -> None:
    for path in ("", "/result", "/log", "/events"):
        assert client.get(f"/v1/jobs/20260101000000000000-00000000{path}").status_code == 404


def test_a_full_disk_is_not_the_clients_mistake(
    client: TestClient, work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    answer = json.dumps({name: field["value"] for name, field in assessed(client, noise(0)).items()})
    verdict, files = {"adapter": "parts", "verdict": "accepted", "answer": answer}, {"photos": ("a.png", noise(0))}
    monkeypatch.setattr(Image.Image, "save", full)
    found = client.post("/v1/reviews", data=verdict, files=files)
    assert found.status_code == 503, found.text
    assert str(work.reviews.folder) not in found.text


def test_each_right_opens_its_own_paths(work: Workplace, tmp_path: Path) -> None:
    rights: tuple[Right, ...] = ("read", "assess", "review", "train", "admin")
    tokens = {right: add_token(tmp_path / "tokens.json", right, (right,)) for right in rights}
    predictor = Current(open_engine([], work.registry, None), work.registry)
    client = TestClient(
        build_service(predictor, work=work, tokens=Tokens(tmp_path / "tokens.json")),
        base_url=HERE,
        raise_server_exceptions=False,
    )
    paths = {
        "/v1/adapters/parts/versions": "read",
        "/v1/batches": "assess",
        "/v1/reviews": "review",
        "/v1/jobs/preflight": "train",
        "/v1/jobs/20260101000000000000-00000000/preflight": "train",
        "/v1/jobs/20260101000000000000-00000000/checks": "train",
        "/v1/jobs/train": "train",
        "/v1/jobs/20260101000000000000-00000000/log": "train",
        "/v1/jobs/20260101000000000000-00000000/events": "train",
        "/v1/jobs/20260101000000000000-00000000/stop": "train",
        "/v1/jobs/promote": "admin",
        "/v1/adapters/parts/roll-back": "admin",
        "/v1/something/new": "admin",
    }
    for path, needed in paths.items():
        for right, token in tokens.items():
            for method in ("GET", "POST"):
                bearer = {"Authorization": f"Bearer {token}"}
                status = client.request(method, path, headers=bearer).status_code
                assert (status == 403) == (right != needed), (path, right, status)
                assert client.request(method, f"{path}%0A", headers=bearer).status_code == 404


def test_an_adapter_outside_the_registry_has_no_versions(run_of: Callable[..., Path], work: Workplace) -> None:
    engine = Engine.open([run_of("fast_vlm") / "adapter"])
    client = TestClient(build_service(engine, work=work), base_url=HERE, raise_server_exceptions=False)
    (name,) = engine.cards
    found = client.get(f"/v1/adapters/{name}/versions")
    assert found.status_code == 400
    assert "is not in the registry" in found.text


def test_a_version_that_cannot_be_served_leaves_the_old_one_serving(client: TestClient, work: Workplace) -> None:
    before = assessed(client, noise(0))
    version = work.registry.add("parts", work.registry.current("parts").folder)
    (version.folder / "adapter_model.safetensors").write_bytes(b"broken")
    work.registry.promote("parts", 2)
    assert assessed(client, noise(0))["kind"]["distribution"] == before["kind"]["distribution"]


def test_events_tell_a_jobs_states_and_lines(
    client: TestClient, work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = threading.Event()

    def late(jobs: Jobs, job: Job) -> CommandHere:
        assert begin.wait(60)
        return start_here(jobs, job)

    monkeypatch.setattr(Jobs, "_start", late)
    sent = {"archive": ("a.png", noise(1))}
    job = client.post("/v1/batches", data={"adapter": "parts"}, files=sent).json()["id"]
    threading.Timer(1, begin.set).start()
    told = events_of(client, job)
    states = [data["state"] for kind, data in told if kind == "state"]
    assert states[0] in ("queued", "running")
    assert states[-1] == "done"
    assert told[-1][0] == "state"
    assert [data["line"] for kind, data in told if kind == "line"] == work.jobs.log(job).splitlines()
    assert all("arguments" not in data for _, data in told)
    (first, _), *_ = work.jobs.lines(job)
    assert len([kind for kind, _ in events_of(client, job, first) if kind == "line"]) == len(told) - len(states) - 1


def test_events_end_when_the_service_stops(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Jobs, "_next", lambda _: None)  # so that the job stays queued
    job = client.post("/v1/batches", data={"adapter": "parts"}, files={"archive": ("a.png", noise(1))}).json()["id"]
    api: Any = client.app
    threading.Timer(1, api.state.stopping.set).start()
    assert [data["state"] for _, data in events_of(client, job)] == ["queued"]
