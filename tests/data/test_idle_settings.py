"""Settings without effect on a recipe's data are reported or rejected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from vlm_ft.data.cases import load
from vlm_ft.data.manuals import chatbot_rows
from vlm_ft.errors import DataError
from vlm_ft.recipe import Recipe


def recipe(folder: Path, **settings: Any) -> Recipe:
    rows = [f"passage number {row},{('audit', 'notice')[row % 2]}" for row in range(20)]
    (folder / "rows.csv").write_text("\n".join(["text,clause_type", *rows]))
    content = {"name": "trial", "task": "legal_documents", "data": [{"path": str(folder / "rows.csv")}], **settings}
    return Recipe.model_validate(content)


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"splits": {"source": {"nowhere": "test"}}}, "splits.source: no example is in a list 'nowhere'"),
        ({"augment": "light"}, "augment: no example has a photo"),
        ({"image_tokens": 5}, "image_tokens: no example has a photo"),
        ({"pixels": {"minimum": 1, "maximum": 9}}, "pixels: no example has a photo"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_setting_without_effect_is_reported(tmp_path: Path, settings: dict[str, Any], note: str) -> None:
    assert note in " ".join(load(recipe(tmp_path, **settings)).notes)
    assert load(recipe(tmp_path)).notes == ()


def test_a_fold_without_examples_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="fold 0 of 999 is empty; use fewer folds"):
        load(recipe(tmp_path, splits={"folds": 999}))


@pytest.mark.parametrize(
    ("out", "server", "model", "problem"),
    [
        ("a.md", None, "", "is one of the manuals and would be overwritten"),
        ("rows.jsonl", None, "some", "needs a server"),
        ("rows.jsonl", "http://a b", "some", "not an HTTP or HTTPS address"),
        ("rows.jsonl", "http://[::1", "some", "not an HTTP or HTTPS address"),
        ("rows.jsonl", "http://x:99999/v1", "some", "not an HTTP or HTTPS address"),
    ],
)
def test_manuals_are_not_overwritten_and_servers_must_be_addresses(
    tmp_path: Path, out: str, server: str | None, model: str, problem: str
) -> None:
    manual = tmp_path / "a.md"
    manual.write_text("# Pump\n\nThe pump is a machine that moves oil.\n")
    before = manual.read_bytes()
    with pytest.raises(DataError, match=problem):
        list(chatbot_rows(tmp_path, tmp_path / out, server, model, "NO_KEY" if server else None, 1200, 600))
    assert manual.read_bytes() == before


def test_a_key_without_a_server_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="needs a server"):
        list(chatbot_rows(tmp_path, tmp_path / "rows.jsonl", None, "", "MY_KEY", 1200, 600))
