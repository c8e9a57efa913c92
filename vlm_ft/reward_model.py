"""`RewardModel`: scores answers with an adapter that was trained by the method `reward`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vlm_ft.adapters import Card, adapter_folder, read_card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.load import Base
from vlm_ft.bases.value_head import add_value_head, values
from vlm_ft.card_base import base_of, require_base, with_adapter
from vlm_ft.conversation import Batch, Conversation, Row
from vlm_ft.errors import AdapterError
from vlm_ft.likelihood import last_hidden, scores_of


class RewardModel:
    """A base with a value head and one adapter. Higher scores are better; only their differences are meaningful.

    It keeps its own copy of the base.
    """

    def __init__(self, base: Base, card: Card, folder: Path) -> None:
        self.card, self.folder = card, folder
        self._base = base
        self._conversation = Conversation(base.reader.limited(card.limits), card.loss_on)
        add_value_head(base.model)
        self._model: Any = with_adapter(base.model, folder).eval()

    @classmethod
    def open(cls, place: Path, base: str | None = None) -> RewardModel:
        """The reward model in an adapter or run folder, on the base that its card names, or a copy of it at `base`.

        Raises `AdapterError` if it is not a reward model, or was trained on another base.
        """
        folder = adapter_folder(place)
        card = read_card(folder)
        if card.method != "reward":
            raise AdapterError(
                f"adapter {folder}", f"was trained with method {card.method}", "give one trained with method: reward"
            )
        loaded = base_of(card, folder, base)
        require_base(card, folder, loaded)
        return cls(loaded, card, folder)

    def rate(self, rows: Sequence[Row], predictions: Sequence[Prediction]) -> list[float]:
        """The score of each prediction as an answer to its row; a failed prediction gets the lowest score of all.

        Only the fields that the reward model was trained on are scored. Raises `AdapterError` if there are none.
        """
        for prediction in predictions:
            if prediction.error is None and not set(self.card.form.names) & set(prediction.fields):
                fields = ", ".join(self.card.form.names)
                raise AdapterError(f"adapter {self.folder}", f"scores {fields} only", "train one for these answers")
        written = [self._written(*pair) for pair in zip(rows, predictions, strict=True)]
        found = self.scores([row for row in written if row is not None])
        scores = iter(found)
        return [min(found, default=0.0) if row is None else next(scores) for row in written]

    def _written(self, row: Row, prediction: Prediction) -> Row | None:
        names = [name for name in self.card.form.names if name in prediction.fields]
        if prediction.error is not None:
            return None
        form = self.card.form.narrow(names)
        return Row(form, row.turns, row.images, form.target(prediction.values))

    def scores(self, rows: Sequence[Row]) -> list[float]:
        """The scores of rows with targets."""

        def score(batch: Batch) -> Tensor:
            return values(self._model, last_hidden(self._model, batch))

        return scores_of(self._conversation, rows, self._base.device, score)
