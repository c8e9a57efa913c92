"""`RemoteEngine`: the same questions asked of an OpenAI-compatible server, such as vLLM with the adapter loaded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from datasets_vision.endpoint import Endpoint
from datasets_vision.images import opened
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import DataError, FormError
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.pages import data_url

IN_FLIGHT = 16
QUALITY = 95  # of the JPEGs that are sent
SCHEMA = "answer"


class RemoteEngine:
    """A `Predictor` for one adapter, whose model runs on a server.

    The prompt is the card's form, and the server is asked to follow its JSON schema. The replies are checked here.
    The server gives no probabilities, so none are calibrated: if the card has a calibration, a person is asked about
    every answer.
    """

    def __init__(self, card: Card, endpoint: Endpoint) -> None:
        self.cards = {card.name: card}
        self._endpoint = endpoint

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """Like `Engine.predict`, with many requests in flight; a reply that cannot be used gives an error prediction.

        Raises `DataError` if the server cannot be reached, or refuses the key, the model or the address.
        """
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            answers = pool.map(self._answer, requests)
            return [
                Attributed.to(self.cards[request.adapter], answer)
                for request, answer in zip(requests, answers, strict=True)
            ]

    def _answer(self, request: Request) -> Prediction:
        form = request.form or self.cards[request.adapter].form
        try:
            text = self._endpoint.complete(_body(form, request))
            values = form.parse(text)
        except (ValueError, FormError) as error:
            return Prediction.failed(f"server: {error}")
        except DataError as error:
            if error.place.startswith("server"):
                raise
            return Prediction.failed(str(error))
        prediction = Prediction(fields={name: FieldValue(value) for name, value in values.items()})
        if self.cards[request.adapter].confidence is not None:
            reason = "the server gives no probability to hold against the adapter's threshold"
            prediction = replace(prediction, decision="ask a person", reason=reason)
        return replace(prediction, derived=form.derive(values))


def _body(form: Form, request: Request) -> dict[str, Any]:
    """The body of a chat completion request: the form as the system message, photos in the first user turn."""
    photos = [{"type": "image_url", "image_url": {"url": data_url(opened(image), QUALITY)}} for image in request.images]
    turns: list[dict[str, Any]] = [{"role": turn.role, "content": turn.text} for turn in request.turns]
    if photos:
        first = turns.pop(0) if turns and turns[0]["role"] == "user" else {"role": "user", "content": ""}
        text = [{"type": "text", "text": first["content"]}] if first["content"] else []
        turns = [{"role": "user", "content": [*photos, *text]}, *turns]
    schema = {"name": SCHEMA, "schema": form.schema_of_answer, "strict": True}
    return {
        "messages": [{"role": "system", "content": form.prompt}, *turns],
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
