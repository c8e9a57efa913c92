"""The minutes and the scores of the quickstart and the tour are kept for the README."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from tests.cards import card_of
from tests.evaluation.made import clause_cases, form_of
from vlm_ft.adapters import PEFT_FILES
from vlm_ft.experiments.first_steps import add_first_steps
from vlm_ft.experiments.sheet import Sheet


def test_minutes_and_main_figures_are_kept(tmp_path: Path, quiet: Console) -> None:
    metrics = {"clause_type.macro_f1": {"value": 0.9}}
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    for name in PEFT_FILES:
        (adapter / name).touch()
    card_of(form_of("legal_documents", clause_cases()), "clauses", metrics=metrics).write(adapter)
    sheet = Sheet("vlm-ft quickstart", quiet)
    add_first_steps(sheet, "quickstart", 150.0, [adapter], most=5.0, least=0.95)
    sheet.write(tmp_path / "first_steps.json")
    minutes, score = json.loads((tmp_path / "first_steps.json").read_text())
    assert (minutes["figure"], minutes["value"], minutes["goal"]) == ("quickstart: until the app opens", 2.5, 5.0)
    assert (score["figure"], score["value"]) == ("quickstart: clauses, clause_type.macro_f1", 0.9)
