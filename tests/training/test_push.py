"""An adapter arrives on the Hub whole, private, and with a card that the Hub's own library reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from huggingface_hub import ModelCard, constants
from rich.console import Console

from tests.hub_server import Hub, serving
from vlm_ft.adapters import ADAPTER, CONFIG, TENSORS, read_card
from vlm_ft.errors import HubError
from vlm_ft.training.model_card import model_card
from vlm_ft.training.push import push

METRIC = {"field": "kind", "name": "macro_f1", "value": 0.5, "low": 0.4, "high": 0.6, "count": 9}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serving() as stub:
        monkeypatch.setattr(constants, "ENDPOINT", stub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        yield stub


@pytest.fixture
def run(run_of: Callable[..., Path]) -> Path:
    return run_of("qwen3_vl", adapter={"language": "lora", "projector": "frozen"})


def test_an_adapter_is_pushed_whole_and_private(hub: Hub, run: Path, quiet: Console) -> None:
    address = push(run, "me/castings", console=quiet)
    assert address.startswith(f"{hub.url}/me/castings/commit/")
    assert (hub.private, hub.tokens) == ({"me/castings": True}, {"Bearer hf_secret"})
    files = hub.files["me/castings"]
    assert set(files) == {path.name for path in (run / ADAPTER).iterdir()}
    assert files[TENSORS] == (run / ADAPTER / TENSORS).read_bytes()
    assert json.loads(files[CONFIG])["base_model_name_or_path"] == read_card(run / ADAPTER).base.name
    assert files["README.md"].decode() == model_card(read_card(run / ADAPTER))


def test_the_card_states_base_task_and_results(run: Path) -> None:
    card = read_card(run / ADAPTER)
    evaluated = card.model_copy(
        update={"base": card.base.model_copy(update={"name": "acme/eyes"}), "metrics": {"kind.macro_f1": METRIC}}
    )
    data = ModelCard(model_card(evaluated)).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("acme/eyes", "peft", "image-text-to-text")
    assert data.model_name == card.name
    assert [(result.metric_type, result.metric_value) for result in data.eval_results] == [("macro_f1", 0.5)]
    assert ModelCard(model_card(card)).data.base_model is None  # a local folder
    assert card.form.prompt in model_card(card)


def test_a_public_repository_must_be_asked_for(hub: Hub, run: Path, quiet: Console) -> None:
    push(run, "me/open", public=True, console=quiet)
    assert hub.private == {"me/open": False}
    with pytest.raises(HubError, match="repository me/open: is public; give --public, or another name"):
        push(run, "me/open", console=quiet)


def test_a_refusal_is_one_line(hub: Hub, run: Path, quiet: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.refuses = True
    with pytest.raises(HubError, match=r"repository me/castings: the Hub refused it \(.*403") as error:
        push(run, "me/castings", console=quiet)
    assert "\n" not in str(error.value)
    with pytest.raises(HubError, match="the Hub refused it"):
        push(run, "not/a/name", console=quiet)
    monkeypatch.setenv("HF_TOKEN", "")
    with pytest.raises(HubError, match=r"no token for the Hub; run `hf auth login`, or set HF_TOKEN"):
        push(run, "me/castings", console=quiet)
    assert not hub.files
