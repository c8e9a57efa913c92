"""The table of versions shows how good each one is, how it is calibrated, and which one is served."""

from __future__ import annotations

import re
from types import SimpleNamespace
from unittest.mock import Mock

from vlm_ft.demo.adapters_tab import _versions

from tests.demo.conftest import card_of
from tests.demo.test_views import Markup
from vlm_ft.answers.confidence import Bound, Confidence
from vlm_ft.registry import Version
from vlm_ft.tasks import TASKS

BOUND = Bound(risk=0.05, level=0.95, threshold=0.83, count=90, needed=59, answered=70, wrong=0)
METRICS = {
    "passed.accuracy": {"value": 0.5},
    "passed.f1": {"value": 0.91, "low": 0.85, "high": 0.95},
    "kind.macro_f1": {"value": 0.72},
}


def test_each_version_has_its_main_figures_and_its_calibration() -> None:
    plain = card_of(TASKS["product_defects"]).model_copy(update={"metrics": {}})
    measured = plain.model_copy(
        update={"metrics": METRICS, "confidence": Confidence(temperatures={"kind": 1.3}, bound=BOUND)}
    )
    cards = {1: measured, 2: plain}
    versions = [Mock(spec=Version, number=number, card=card) for number, card in cards.items()]
    registry = SimpleNamespace(
        current=lambda name: versions[0], versions=lambda name: versions, history=lambda name: []
    )
    reviews = SimpleNamespace(of=lambda name, task: [])
    html = _versions(SimpleNamespace(registry=registry, reviews=reviews), "parts")
    Markup(html)
    newest, oldest = re.findall("<tr>(.*?)</tr>", html)[1:3]
    assert "current" in oldest
    assert "current" not in newest
    assert "passed F1 0.91 (0.85 to 0.95)" in oldest
    assert "kind macro-F1 0.72" in oldest
    assert "accuracy" not in oldest
    assert BOUND.in_words in oldest
    assert "not evaluated" in newest
    assert "not calibrated" in newest
