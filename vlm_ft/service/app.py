"""The routes of the HTTP service.

/v1/assess                  takes photos, text or both; returns a typed answer with its probabilities
/v1/chat/completions        the same for clients of OpenAI's API; each adapter is a model
/v1/models, /v1/adapters    what is served
/healthz, /readyz, /metrics for monitoring
/v1/reviews, /v1/batches, /v1/jobs: see `work`
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import metadata
from io import BytesIO
from itertools import chain
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import anyio.to_thread
from fastapi import FastAPI, Form, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.box_format import STANDARD
from vlm_ft.errors import BusyError, DataError, FormError, UserError, problem_of
from vlm_ft.inference import photo_decoder
from vlm_ft.inference.request import Attributed, CaseId, Predictor, new_case
from vlm_ft.inference.request import Request as Question
from vlm_ft.inference.streaming import streamed
from vlm_ft.service.chat import assessment, check_format, completion, events
from vlm_ft.service.gate import Gate, refusal
from vlm_ft.service.intake import (
    EXAMPLE_ANSWER,
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
from vlm_ft.service.work import EventStream, add_work_routes
from vlm_ft.work.jobs import UnknownJobError
from vlm_ft.work.tokens import Tokens
from vlm_ft.work.uploads import delete_old_uploads
from vlm_ft.work.workplace import Workplace

THIS_MACHINE = ("127.0.0.1", "localhost")
BETWEEN_DELETIONS = 600  # seconds between deletions of old uploads
SERVER_FAULTS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO})

log = logging.getLogger(__name__)


def build_service(
    predictor: Predictor,
    *,
    tokens: Tokens | None = None,
    meter: Meter | None = None,
    waiting: int = 16,
    work: Workplace | None = None,
) -> FastAPI:
    """The service for the adapters of a predictor, and for `work` on them if given.

    `waiting`: the maximum number of requests for answers in progress; more are refused. Without `tokens`, every request
    that names this machine as its host is allowed.
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
    api.state.stopping = Event()
    api.add_middleware(Gate, tokens=tokens, limit=waiting, meter=meter)
    if tokens is None:  # otherwise, any page could reach the service under its own host name (DNS rebinding)
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
    answered: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"example": EXAMPLE_ANSWER}}}}

    @api.post("/v1/assess", responses=answered)
    def assess(form: Annotated[AssessForm, Form(media_type="multipart/form-data")]) -> Response:
        """A typed answer about the photos of one case, a text, or both."""
        card, case = card_of(predictor, form.adapter), new_case()
        turns = [Turn("user", form.text)] if form.text.strip() else []
        with received([photo.file for photo in form.photos], [form.text]) as photos:
            answer = _answer(predictor, _question(card, photos, turns, case))
        return Response(assessment(form.adapter, case, answer), media_type="application/json")

    @api.post("/v1/chat/completions")
    def complete(body: ChatRequest) -> Response:
        """A chat completion; the content is the answer as JSON, in the adapter's form."""
        card, case = card_of(predictor, body.model), new_case()
        check_format(body, card.form.task)
        pictures, turns = chat_contents(body)
        with received([BytesIO(picture) for picture in pictures], [turn.text for turn in turns]) as photos:
            question = _question(card, photos, turns, case)
        if body.stream:
            found = events(body, case, streamed(predictor, question))
            first = next(found)  # errors are raised before the response begins
            return EventStream(chain([first], found))
        return JSONResponse(completion(body, case, _answer(predictor, question)))


def _question(card: Card, photos: Sequence[Path], turns: Sequence[Turn], case: CaseId) -> Question:
    """The request to the adapter. Raises `DataError` for a kind of input that it was not trained on."""
    if turns and "text" not in card.inputs:
        raise DataError("text", "this adapter was trained on photos only", "send the photos alone")
    if photos and "photo" not in card.inputs:
        raise DataError("photos", "this adapter was trained on texts only", "send the text alone")
    return Question(photo_decoder.shared().decoded(photos), tuple(turns), adapter=card.name, case=case.number)


def _answer(predictor: Predictor, question: Question) -> Attributed:
    """The adapter's answer. Raises `HTTPException` if it has none."""
    (answer,) = predictor.predict([question])
    if answer.error is not None:
        raise HTTPException(422, answer.error)
    return answer


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
                "version": card.number,
                "card": card.fingerprint,
                "task": card.form.task,
                "title": card.form.title,
                "reads": list(card.inputs),
                "most_photos": card.most_photos,
                "schema": card.form.with_boxes(STANDARD).schema_of_answer,
                "metrics": card.metrics,
                "notice": card.notice,
            }
            for name, card in predictor.cards.items()
        ]


def _is_server_fault(error: UserError) -> bool:
    """Whether this machine is at fault, for example because its disk is full."""
    return isinstance(error.__cause__, OSError) and error.__cause__.errno in SERVER_FAULTS


def _add_error_handlers(api: FastAPI, meter: Meter) -> None:
    respond = partial(refusal, meter)

    @api.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> Response:
        if isinstance(error, BusyError):
            return respond(429, error.public(), "busy")
        if isinstance(error, NotServedError | UnknownJobError):
            return respond(404, error.public(), "not_found")
        if isinstance(error, DataError | FormError) and not _is_server_fault(error):
            return respond(400, error.public(), "invalid_request")
        log.error("%s", error)
        return respond(503, "this cannot be done right now; the operator's log has the details", "unavailable")

    @api.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return respond(400, f"{'.'.join(map(str, first['loc']))}: {problem_of(first)}", "invalid_request")

    @api.exception_handler(HTTPException)
    async def refused(request: Request, error: HTTPException) -> Response:
        kinds = {404: "not_found", 408: "too_slow", 413: "too_large", 422: "unanswerable"}
        return respond(error.status_code, str(error.detail), kinds.get(error.status_code, "invalid_request"))

    @api.exception_handler(Exception)
    async def failed(request: Request, error: Exception) -> Response:
        return respond(500, "something went wrong on the server; its log has the details", "internal")
