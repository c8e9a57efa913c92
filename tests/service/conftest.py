"""An engine with one photo adapter, clients of its service, and a workplace."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from tests.command_here import start_here
from tests.service.servers import HERE, running
from vlm_ft.inference.engine import Engine
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.service.app import build_service
from vlm_ft.service.meter import Meter
from vlm_ft.service.recorded import DecisionLog, Recorded
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.workplace import Workplace


@pytest.fixture(scope="module")
def engine(run_of: Callable[..., Path]) -> Engine:
    return Engine.open([run_of("fast_vlm") / "adapter"])


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
    with running(build_service(slow, waiting=3)) as (host, port):
        yield f"http://{host}:{port}/v1"


@pytest.fixture
def work(run_of: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Workplace]:
    monkeypatch.setattr(Jobs, "_start", start_here)
    registry = Registry(tmp_path / "adapters")
    registry.add("parts", run_of("fast_vlm"))
    (tmp_path / "root" / "batch").mkdir(parents=True)
    place = Workplace(registry, Reviews(tmp_path / "reviews"), Jobs(tmp_path / "jobs"), tmp_path / "root")
    yield place
    place.jobs.close()
