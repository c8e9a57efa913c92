"""The routes of the HTTP service.

/v1/assess                  takes photos, text or both; returns a typed answer with its probabilities
/v1/chat/completions        the same for clients of OpenAI's API; each adapter is a model
/v1/models, /v1/adapters    what is served
/healthz, /readyz, /metrics for monitors
/v1/reviews, /v1/jobs       see `work`
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from io import BytesIO
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import anyio.to_thread
from fastapi import FastAPI, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.box_format import STANDARD
from vlm_ft.answers.task import Values
from vlm_ft.errors import BusyError, DataError, FormError, UserError
from vlm_ft.inference.photo_decoder import decoded
from vlm_ft.inference.request import Attributed, Predictor
from vlm_ft.inference.request import Request as Question
from vlm_ft.inference.streaming import streamed
from vlm_ft.service.gate import Gate, refusal
from vlm_ft.service.intake import (
    MAX_BYTES,
    MAX_PHOTOS,
    MAX_TEXT,
    AssessForm,
    ChatRequest,
    chat_contents,
    received,
    remove_leftovers,
)
from vlm_ft.service.meter import Meter
from vlm_ft.service.served import NotServedError, card_of
from vlm_ft.service.work import add_work_routes
from vlm_ft.work.jobs import UnknownJobError
from vlm_ft.work.tokens import Tokens
from vlm_ft.work.uploads import delete_old_uploads
from vlm_ft.work.workplace import Workplace

THIS_MACHINE = ("127.0.0.1", "localhost")
BETWEEN_DELETIONS = 600  # seconds between deletions of old uploads
OURS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO})

log = logging.getLogger(__name__)


def build_service(
    predictor: Predictor,
    *,
    tokens: Tokens | None = None,
    meter: Meter | None = None,
    waiting: int = 16,
    work: Workplace | None = None,
) -> FastAPI:
    """The service for the adapters of a predictor, and for work on them if there is a place for it.

    `waiting`: requests for answers beyond which another is refused. Without `tokens`, every request that names this
    machine as its host is allowed.
    """
    meter = meter or Meter()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        remove_leftovers()
        deleting = asyncio.create_task(_delete_old_uploads(work)) if work is not None else None
        anyio.to_thread.current_default_thread_limiter().total_tokens = waiting + 16  # these and the app's
        try:
            yield
        finally:
            if deleting is not None:
                deleting.cancel()
            if work is not None:
                work.jobs.close()

    api = FastAPI(
        title="vlm-ft",
        version=metadata.version("vlm-ft"),
        description="Typed assessments of photos and texts.",
        lifespan=lifespan,
        max_body_size=MAX_BYTES,
        form_limits={"max_files": MAX_PHOTOS, "max_fields": 6, "max_part_size": 4 * MAX_TEXT},
    )
    api.add_middleware(Gate, tokens=tokens, most=waiting, meter=meter)
    if tokens is None:  # else any page could reach the service under a name of its own (DNS rebinding)
        api.add_middleware(TrustedHostMiddleware, allowed_hosts=THIS_MACHINE)
    _add_error_handlers(api, meter)
    _add_state_routes(api, predictor, meter)
    _add_answer_routes(api, predictor)
    if work is not None:
        add_work_routes(api, predictor, work)
    return api


async def _delete_old_uploads(work: Workplace) -> None:
    """Deletes old uploads from time to time, until it is cancelled."""
    while True:
        try:
            await anyio.to_thread.run_sync(delete_old_uploads, work)
        except Exception:  # such as a file system that cannot be written: the next time may be better
            log.exception("old uploads could not be deleted")
        await asyncio.sleep(BETWEEN_DELETIONS)


def _add_answer_routes(api: FastAPI, predictor: Predictor) -> None:
    @api.post("/v1/assess")
    def assess(form: Annotated[AssessForm, Form(media_type="multipart/form-data")]) -> Response:
        """A typed answer about the photos of one case, a text, or both."""
        card = card_of(predictor, form.adapter)
        turns = [Turn("user", form.text)] if form.text.strip() else []
        with received([photo.file for photo in form.photos], [form.text]) as photos:
            answer = _answer(predictor, _question(card, photos, turns))
        return Response(answer.to_json(adapter=form.adapter, notice=_notice(answer)), media_type="application/json")

    @api.post("/v1/chat/completions")
    def complete(body: ChatRequest) -> Response:
        """A chat completion; the content is the answer as JSON, in the adapter's form."""
        card = card_of(predictor, body.model)
        pictures, turns = chat_contents(body)
        with received([BytesIO(picture) for picture in pictures], [turn.text for turn in turns]) as photos:
            question = _question(card, photos, turns)
        if body.stream:
            events = _events(body.model, streamed(predictor, question))
            first = next(events)  # errors are raised before the response begins
            return StreamingResponse(chain([first], events), media_type="text/event-stream")
        answer = _answer(predictor, question)
        message = {"role": "assistant", "content": json.dumps(answer.values)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        whole = {**_head(body.model, "chat.completion"), "choices": [choice], "assessment": _assessment(answer)}
        return JSONResponse(whole)


def _question(card: Card, photos: Sequence[Path], turns: Sequence[Turn]) -> Question:
    """The request to the adapter. Raises `DataError` for a kind of input that it has not learned from."""
    if turns and "text" not in card.inputs:
        raise DataError("text", "this adapter was trained on photos only", "send the photos alone")
    if photos and "photo" not in card.inputs:
        raise DataError("photos", "this adapter was trained on texts only", "send the text alone")
    return Question(decoded(photos), tuple(turns), adapter=card.name)


def _answer(predictor: Predictor, question: Question) -> Attributed:
    """The adapter's answer. Raises `HTTPException` if it has none."""
    (answer,) = predictor.predict([question])
    if answer.error is not None:
        raise HTTPException(422, answer.error)
    return answer


def _assessment(answer: Attributed) -> dict[str, Any]:
    """The answer with its probabilities and its notice."""
    found: dict[str, Any] = json.loads(answer.to_json(notice=_notice(answer)))
    return found


def _notice(answer: Attributed) -> str:
    """The notice of the version that gave the answer."""
    return answer.card.notice if answer.card is not None else ""


def _head(adapter: str, kind: str) -> dict[str, Any]:
    now = time.time()
    return {"id": f"chatcmpl-{int(now * 1e6):x}", "object": kind, "created": int(now), "model": adapter}


def _events(adapter: str, found: Iterator[Values | Attributed]) -> Iterator[str]:
    """The answer as server-sent events, which OpenAI's clients expect if they ask for a stream.

    Its pieces add up to the content of an answer that is not streamed. Raises `HTTPException` if there is no answer;
    once the response has begun, that is an event.
    """
    head, sent = _head(adapter, "chat.completion.chunk"), ""

    def event(delta: dict[str, str], finish: str | None = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"

    for one in found:
        if isinstance(one, Attributed) and one.error is not None:
            if not sent:
                raise HTTPException(422, one.error)
            yield f"data: {json.dumps({'error': {'message': one.error, 'type': 'unanswerable'}})}\n\n"
            return
        content = json.dumps(one.values) if isinstance(one, Attributed) else json.dumps(one).removesuffix('"}')
        if piece := content.removeprefix(sent):
            yield event({"content": piece} if sent else {"role": "assistant", "content": piece})
            sent = content
        if isinstance(one, Attributed):
            yield event({}, "stop", assessment=_assessment(one))
            yield "data: [DONE]\n\n"


def _add_state_routes(api: FastAPI, predictor: Predictor, meter: Meter) -> None:
    @api.get("/healthz")
    async def healthz() -> dict[str, str]:
        """Whether the process is running."""
        return {"status": "ok"}

    @api.get("/readyz")
    def readyz() -> Response:
        """Whether there is an adapter that answers."""
        ready = bool(predictor.cards)
        return JSONResponse({"status": "ready" if ready else "no adapter"}, 200 if ready else 503)

    @api.get("/metrics")
    async def metrics() -> Response:
        """Counts and times in Prometheus' format."""
        return Response(meter.text(), media_type=CONTENT_TYPE_LATEST)

    @api.get("/v1/models")
    def models() -> dict[str, Any]:
        """The adapters, as OpenAI's API lists models."""
        entries = [{"id": name, "object": "model", "created": 0, "owned_by": "vlm-ft"} for name in predictor.cards]
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
                "schema": card.form.with_boxes(STANDARD).schema_of_answer,
                "metrics": card.metrics,
                "notice": card.notice,
            }
            for name, card in predictor.cards.items()
        ]


def _is_ours(error: UserError) -> bool:
    """Whether this machine is at fault, such as its full disk."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in OURS


def _add_error_handlers(api: FastAPI, meter: Meter) -> None:
    respond = partial(refusal, meter)

    @api.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        if isinstance(error, BusyError):
            return respond(429, error.public(), "busy")
        if isinstance(error, NotServedError | UnknownJobError):
            return respond(404, error.public(), "not_found")
        if isinstance(error, DataError | FormError) and not _is_ours(error):
            return respond(400, error.public(), "invalid_request")
        log.error("%s", error)
        return respond(503, "this cannot be done at present; the operator's log has the details", "unavailable")

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return respond(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}", "invalid_request")

    @api.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        kinds = {404: "not_found", 408: "too_slow", 413: "too_large", 422: "unanswerable"}
        return respond(error.status_code, str(error.detail), kinds.get(error.status_code, "invalid_request"))

    @api.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return respond(500, "something went wrong on the server; its log has the details", "internal")
