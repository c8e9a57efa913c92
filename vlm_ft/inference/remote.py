"""`RemoteEngine`: sends requests to an OpenAI-compatible server, such as vLLM with the adapter loaded."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from datasets_vision.endpoint import Endpoint, RejectedError, text_of_choice
from datasets_vision.example import Turn
from datasets_vision.images import opened
from vlm_ft.adapters import Card
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.errors import DataError, FormError
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.inference.server_probabilities import ASKED, distributions
from vlm_ft.inference.tiling import predict_tiled, tiling_of
from vlm_ft.pages import data_url

IN_FLIGHT = 16
QUALITY = 95  # of the JPEGs that are sent
SCHEMA = "answer"
SERVER = "of the server, renormalised over the options, not calibrated"
"""The source of the probabilities in these predictions."""


class RemoteEngine:
    """A `Predictor` for one adapter, whose model runs on a server.

    The prompt is the card's form, and the server is asked to follow its JSON schema. Photos are scaled to the card's
    limit of pixels, and cut into its tiles, before they are sent. The replies are checked here; a box in pixels is read
    as one in the photo that was sent. If the server gives probabilities, closed fields get them, renormalised, and
    the prediction says so (`SERVER`). The calibration was fitted on others: if the card has one, or the form has
    thresholds, a person is asked about every answer.
    """

    def __init__(self, card: Card, endpoint: Endpoint) -> None:
        self.cards = {card.name: card}
        self._endpoint = endpoint
        self._gives_probabilities = True  # until it rejects a request for them

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """Like `Engine.predict`, with many requests in flight; a reply that cannot be used gives an error prediction.

        Raises `DataError` if the server cannot be reached, or refuses the key, the model or the address.
        """
        cards = [self.cards[request.adapter] for request in requests]
        forms = [request.form or card.form for request, card in zip(requests, cards, strict=True)]
        tilings = [tiling_of(request, card) for request, card in zip(requests, cards, strict=True)]
        answers = predict_tiled(self._predict_untiled, requests, tilings, forms)
        return [
            Attributed.to(card, replace(answer, derived=form.derive(answer.values), probabilities=_source(answer)))
            for card, form, answer in zip(cards, forms, answers, strict=True)
        ]

    def _predict_untiled(self, requests: Sequence[Request]) -> list[Prediction]:
        """Like `predict`, but without tiling."""
        with ThreadPoolExecutor(IN_FLIGHT) as pool:
            return list(pool.map(self._answer, requests))

    def _answer(self, request: Request) -> Prediction:
        card = self.cards[request.adapter]
        form, largest = request.form or card.form, card.pixels[1] if card.pixels is not None else None
        try:
            photos = [opened(image, largest=largest) for image in request.images]
        except DataError as error:
            return Prediction.failed(str(error))
        try:
            choice = self._choice(_body(form, request.turns, photos))
            text = text_of_choice(choice)
            values = form.read(text, photos[0].size if photos else None)
        except (ValueError, FormError) as error:
            return Prediction.failed(f"server: {error}")
        sure = distributions(form, text, choice.get("logprobs"))
        prediction = Prediction(fields={name: FieldValue(value, sure.get(name)) for name, value in values.items()})
        if card.confidence is None and card.familiar is None and not form.thresholds:
            return prediction
        return prediction.doubted("answers from the server are not checked against the adapter's thresholds")

    def _choice(self, body: dict[str, Any]) -> dict[str, Any]:
        """The server's reply, with the probabilities of its tokens if it gives any."""
        if self._gives_probabilities:
            try:
                return self._endpoint.choose({**body, **ASKED})
            except RejectedError:
                choice = self._endpoint.choose(body)  # raises again if the request was rejected for another reason
                self._gives_probabilities = False
                return choice
        return self._endpoint.choose(body)


def _source(answer: Prediction) -> str | None:
    return SERVER if any(entry.distribution is not None for entry in answer.fields.values()) else None


def _body(form: Form, said: Sequence[Turn], photos: Sequence[Image]) -> dict[str, Any]:
    """The body of a chat completion request: the form as the system message, photos in the first user turn."""
    shown = [{"type": "image_url", "image_url": {"url": data_url(photo, QUALITY)}} for photo in photos]
    turns: list[dict[str, Any]] = [{"role": turn.role, "content": turn.text} for turn in said]
    if shown:
        first = turns.pop(0) if turns and turns[0]["role"] == "user" else {"role": "user", "content": ""}
        text = [{"type": "text", "text": first["content"]}] if first["content"] else []
        turns = [{"role": "user", "content": [*shown, *text]}, *turns]
    schema = {"name": SCHEMA, "schema": form.schema_of_answer, "strict": True}
    return {
        "messages": [{"role": "system", "content": form.prompt}, *turns],
        "temperature": 0,
        "response_format": {"type": "json_schema", "json_schema": schema},
    }
