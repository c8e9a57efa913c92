"""The OpenAPI document has an example of every request, and nothing that it allows breaks the service."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode

from tests.service.servers import photo, running
from vlm_ft.registry import Registry
from vlm_ft.review.store import Reviews
from vlm_ft.service.app import build_service
from vlm_ft.service.current import Current, open_engine
from vlm_ft.work.jobs import Jobs
from vlm_ft.work.workplace import Workplace

EXAMPLES = 150  # requests of each mode: as the document allows, and otherwise


@pytest.fixture(scope="module")
def service(run_of: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a service whose adapter has the name in the examples."""
    place = tmp_path_factory.mktemp("openapi")
    registry = Registry(place / "adapters")
    registry.add("mine", run_of("fast_vlm"))
    work = Workplace(registry, Reviews(place / "reviews"), Jobs(place / "jobs"), place)
    with running(build_service(Current(open_engine([], registry, None), registry), work=work)) as (host, port):
        yield f"http://{host}:{port}"


@pytest.fixture(scope="module")
def description(service: str) -> dict[str, Any]:
    found: dict[str, Any] = httpx.get(f"{service}/openapi.json").raise_for_status().json()
    return found


@pytest.fixture(scope="module")
def interface(description: dict[str, Any]) -> Any:
    """The description with the adapter's name filled in, so that requests pass the first check."""
    content = copy.deepcopy(description)
    for model in content["components"]["schemas"].values():
        for name in {"adapter", "model"} & set(model.get("properties", {})):
            model["properties"][name] = {"const": "mine"}
    return schemathesis.openapi.from_dict(content)


@pytest.mark.parametrize("mode", GenerationMode)
def test_no_request_breaks_the_service(interface: Any, service: str, mode: GenerationMode) -> None:
    @given(case=interface.as_strategy(generation_mode=mode))
    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=HealthCheck)
    def ask(case: Any) -> None:
        case.call_and_validate(base_url=service, timeout=60, checks=[not_a_server_error])

    ask()


def test_the_example_of_a_chat_is_answered(description: dict[str, Any], service: str) -> None:
    (example,) = description["components"]["schemas"]["ChatRequest"]["examples"]
    found = httpx.post(f"{service}/v1/chat/completions", json=example, timeout=60)
    assert found.status_code == 200, found.text


def test_the_example_of_an_answer_has_the_parts_of_one(description: dict[str, Any], service: str) -> None:
    (content,) = description["paths"]["/v1/assess"]["post"]["responses"]["200"]["content"].values()
    sent = {"photos": ("a.jpg", photo())}
    found = httpx.post(f"{service}/v1/assess", data={"adapter": "mine"}, files=sent, timeout=60).json()
    assert list(content["example"]) == [name for name, value in found.items() if value is not None]


def test_every_request_body_has_an_example(description: dict[str, Any]) -> None:
    operations = [operation for path in description["paths"].values() for operation in path.values()]
    contents = [
        content for operation in operations for content in operation.get("requestBody", {}).get("content", {}).values()
    ]
    models = [content["schema"]["$ref"].rpartition("/")[2] for content in contents]
    assert len(models) == 7
    for model in models:
        assert description["components"]["schemas"][model]["examples"], model
