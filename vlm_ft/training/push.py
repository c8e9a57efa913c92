"""Push an adapter to the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from httpx2 import HTTPError  # the HTTP client of huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import HfHubHTTPError
from rich.console import Console

from vlm_ft.adapters import CONFIG, README, Card, adapter_folder, read_card
from vlm_ft.errors import HubError, cause
from vlm_ft.training.model_card import model_card


def push(place: Path, repository: str, *, public: bool = False, console: Console) -> str:
    """Commit an adapter, or a whole model, with its model card to a repository, and return the commit's URL.

    A new repository is private unless `public`. Raises `HubError` without a token, if the repository is public and
    `public` is not set, or if the Hub refuses.
    """
    folder = adapter_folder(place)
    card = read_card(folder)
    if get_token() is None:
        raise HubError(f"repository {repository}", "no token for the Hub", "run `hf auth login`, or set HF_TOKEN")
    api = HfApi()
    with _errors_of(repository):
        name = api.create_repo(repository, private=not public, exist_ok=True).repo_id
        private = bool(api.model_info(name).private)
        if not (private or public):
            raise HubError(f"repository {name}", "is public", "give --public, or another name")
        commit = api.create_commit(name, _additions(folder, card), commit_message=f"Upload {card.name}")
    console.print(f"{'private' if private else 'public'} {commit.commit_url}", markup=False, highlight=False)
    return str(commit.commit_url)


def _additions(folder: Path, card: Card) -> Iterator[CommitOperationAdd]:
    """Every file of the folder, with the latest results in the model card, and the base's name in PEFT's file."""
    written = {README: model_card(card)}
    if (folder / CONFIG).is_file():
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        written[CONFIG] = json.dumps({**config, "base_model_name_or_path": card.base.name}, indent=2)
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        yield CommitOperationAdd(name, written[name].encode() if name in written else path)


@contextmanager
def _errors_of(repository: str) -> Iterator[None]:
    try:
        yield
    except (HfHubHTTPError, HTTPError, ConnectionError, ValueError) as error:  # ValueError for names and metadata
        remedy = "check the name, the token's rights and the network"
        raise HubError(f"repository {repository}", f"the Hub refused it ({cause(error)})", remedy) from error
