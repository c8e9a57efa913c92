"""The routes of the HTTP service.

/v1/assess              photos and text in, a typed answer with its probabilities out
/v1/chat/completions    the same for clients of OpenAI's API; each adapter is a model
/v1/models, /v1/adapters    what is served
/healthz, /readyz, /metrics
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from io import BytesIO
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, Response, UploadFile
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import AdapterError, BusyError, UserError, nearest
from vlm_ft.inference import request as asking
from vlm_ft.inference.request import Predictor
from vlm_ft.service.decision_log import DecisionLog
from vlm_ft.service.intake import BodyLimit, Case, ChatRequest, chat_contents, received
from vlm_ft.service.tokens import Gate, Token

RETRY_AFTER = 2  # seconds


def build_service(
    predictor: Predictor, tokens: Mapping[str, Token] | None = None, log: DecisionLog | None = None
) -> FastAPI:
    """The service for the adapters of a predictor. Without `tokens`, everybody may do everything."""
    api = FastAPI(
        title="vlm-ft", version=metadata.version("vlm-ft"), description="Typed assessments of photos and texts."
    )
    meter = Meter()
    desk = _Desk(predictor, log, meter)
    api.add_middleware(BodyLimit)
    if tokens is not None:
        api.add_middleware(Gate, tokens=tokens)
    _add_error_handlers(api, meter)
    _add_state_routes(api, desk, meter)
    _add_asking_routes(api, desk)
    return api


class Meter:
    """What Prometheus reads."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.answers = Counter(
            "vlm_ft_answers", "Answers by adapter and decision.", ["adapter", "decision"], registry=self.registry
        )
        self.refused = Counter("vlm_ft_refused", "Requests refused, by reason.", ["reason"], registry=self.registry)
        self.seconds = Histogram("vlm_ft_seconds", "Seconds per answer.", ["adapter"], registry=self.registry)


class _Desk:
    """Asks the predictor, writes the log, and counts."""

    def __init__(self, predictor: Predictor, log: DecisionLog | None, meter: Meter) -> None:
        self.predictor, self._log, self._meter = predictor, log, meter

    def card(self, adapter: str) -> Card:
        """Raises `AdapterError` for an adapter that is not served."""
        cards = self.predictor.cards
        if adapter not in cards:
            raise AdapterError("", f"adapter {adapter[:80]!r} is not served", nearest(adapter, cards))
        return cards[adapter]

    def answer(self, card: Card, case: Case) -> Prediction:
        """The adapter's answer."""
        started = time.perf_counter()
        (answer,) = self.predictor.predict([asking.Request(case.photos, case.turns, adapter=card.name)])
        self._meter.seconds.labels(card.name).observe(time.perf_counter() - started)
        self._meter.answers.labels(card.name, "error" if answer.error else answer.decision).inc()
        if self._log is not None:
            self._log.add(card, case.photos, case.turns, answer)
        return answer


def _add_asking_routes(api: FastAPI, desk: _Desk) -> None:
    @api.post("/v1/assess")
    def assess(
        adapter: Annotated[str, Form(description="one of /v1/adapters")],
        text: Annotated[str, Form(description="for adapters that read text")] = "",
        photos: Annotated[list[UploadFile] | None, File(description="the photos of one case")] = None,
    ) -> Response:
        """A typed answer about the photos of one case, a text, or both."""
        card = desk.card(adapter)
        turns = [Turn("user", text)] if text.strip() else []
        with received([photo.file for photo in photos or ()], turns) as case:
            answer = desk.answer(card, case)
            if answer.error is not None:
                return _error(422, case.without_folder(answer.error), "unanswerable")
        return Response(answer.to_json(adapter=card.name, notice=card.notice), media_type="application/json")

    @api.post("/v1/chat/completions")
    def complete(body: ChatRequest) -> Response:
        """The answer as a chat completion; its content is the answer's JSON, its form the adapter's own."""
        card = desk.card(body.model)
        pictures, turns = chat_contents(body)
        with received([BytesIO(picture) for picture in pictures], turns) as case:
            answer = desk.answer(card, case)
            if answer.error is not None:
                return _error(422, case.without_folder(answer.error), "unanswerable")
        if body.stream:
            return StreamingResponse(_events(card, answer), media_type="text/event-stream")
        choice = {"index": 0, "message": _message(answer), "finish_reason": "stop"}
        assessment = json.loads(answer.to_json(notice=card.notice))
        return JSONResponse({**_head(card, "chat.completion"), "choices": [choice], "assessment": assessment})


def _head(card: Card, kind: str) -> dict[str, Any]:
    now = time.time()
    return {"id": f"chatcmpl-{int(now * 1e6):x}", "object": kind, "created": int(now), "model": card.name}


def _message(answer: Prediction) -> dict[str, str]:
    return {"role": "assistant", "content": json.dumps(answer.values, ensure_ascii=False)}


def _events(card: Card, answer: Prediction) -> Iterator[str]:
    """The answer as server-sent events, which OpenAI's clients expect if they ask for a stream."""
    head = _head(card, "chat.completion.chunk")
    for delta, end in ((_message(answer), None), ({}, "stop")):
        choice = {"index": 0, "delta": delta, "finish_reason": end}
        yield f"data: {json.dumps({**head, 'choices': [choice]})}\n\n"
    yield "data: [DONE]\n\n"


def _add_state_routes(api: FastAPI, desk: _Desk, meter: Meter) -> None:
    @api.get("/healthz")
    def healthz() -> dict[str, str]:
        """Whether the process lives."""
        return {"status": "ok"}

    @api.get("/readyz")
    def readyz() -> Response:
        """Whether there is an adapter that answers."""
        ready = bool(desk.predictor.cards)
        return JSONResponse({"status": "ready" if ready else "no adapter"}, 200 if ready else 503)

    @api.get("/metrics")
    def measured() -> Response:
        """Counts and times in Prometheus' format."""
        return Response(generate_latest(meter.registry), media_type=CONTENT_TYPE_LATEST)

    @api.get("/v1/models")
    def models() -> dict[str, Any]:
        """The adapters, as OpenAI's API lists models."""
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "vlm-ft"} for name in desk.predictor.cards]
        return {"object": "list", "data": entries}

    @api.get("/v1/adapters")
    def adapters() -> list[dict[str, Any]]:
        """What each adapter answers, the JSON schema of its answers, and how good it is."""
        return [
            {
                "name": name,
                "task": card.form.task,
                "title": card.form.title,
                "reads": list(card.inputs),
                "schema": card.form.schema_of_answer,
                "metrics": card.metrics,
                "notice": card.notice,
            }
            for name, card in desk.predictor.cards.items()
        ]


def _add_error_handlers(api: FastAPI, meter: Meter) -> None:
    @api.exception_handler(UserError)
    def user_error(request: Request, error: UserError) -> Response:
        if isinstance(error, BusyError):
            meter.refused.labels("busy").inc()
            response = _error(429, error.public(), "busy")
            response.headers["Retry-After"] = str(RETRY_AFTER)
            return response
        status = 404 if isinstance(error, AdapterError) else 400
        return _error(status, error.public(), "not_found" if status == 404 else "invalid_request")

    @api.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return _error(400, f"{place}: {first['msg']}", "invalid_request")


def _error(status: int, message: str, kind: str) -> JSONResponse:
    return JSONResponse({"error": {"message": message, "type": kind}}, status)
