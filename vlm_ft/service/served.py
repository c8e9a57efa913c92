"""Which adapters are served."""

from __future__ import annotations

from vlm_ft.adapters import Card
from vlm_ft.errors import AdapterError, nearest
from vlm_ft.inference.request import Predictor


class NotServedError(AdapterError):
    """A request for an adapter that is not served."""


def card_of(predictor: Predictor, adapter: str) -> Card:
    """The card of a served adapter. Raises `NotServedError`."""
    cards = predictor.cards
    if adapter not in cards:
        raise NotServedError("", f"adapter {adapter[:80]!r} is not served", nearest(adapter[:80], cards))
    return cards[adapter]
