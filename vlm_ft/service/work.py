"""The routes for work on adapters: reviews, jobs, versions.

/v1/reviews                     store a verdict on an answer
/v1/batches                     score a zip file of photos, or a folder on the server
/v1/jobs/preflight              read and check new data, and estimate what training on them would cost
/v1/jobs/train                  train the next version of an adapter, from what people have reviewed, or a new adapter
/v1/jobs/promote                compare a trained adapter with the current version, and serve it if it is not worse
/v1/jobs, /v1/jobs/ID           states; /events, /log, /result, /review, /preflight, /checks, /stop, /resume
/v1/adapters/NAME/versions      versions and the changes of the current one; /roll-back
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Self

from fastapi import FastAPI, Form, Header, UploadFile
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field, model_validator

from vlm_ft.data.preflight import CHECK_PAGE, Preflight
from vlm_ft.errors import DataError
from vlm_ft.inference import photo_decoder
from vlm_ft.inference.request import Predictor
from vlm_ft.review.gate import MARGIN
from vlm_ft.review.store import Verdict
from vlm_ft.service.gate import OWNER
from vlm_ft.service.intake import MAX_TEXT, Body, example, received
from vlm_ft.service.job_events import INTERNAL, job_events
from vlm_ft.service.served import card_of
from vlm_ft.work.jobs import Job, Jobs
from vlm_ft.work.workplace import REVIEW, Table, Workplace

PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


class EventStream(StreamingResponse):
    """A response of server-sent events."""

    media_type = "text/event-stream"


class ReviewForm(Body):
    """A verdict on an adapter's answer about photos, a text, or both; `answer` and `correct` are JSON objects."""

    model_config = example(
        adapter="mine",
        verdict="corrected",
        answer='{"passed": true, "kind": "good"}',
        correct='{"passed": false, "kind": "scratch"}',
        photos=["door.jpg"],
    )

    adapter: Annotated[str, Field(max_length=200)]
    card: Annotated[str, Field(max_length=64, description="as the answer states it; by default, what is served")] = ""
    verdict: Verdict
    answer: Annotated[str, Field(max_length=MAX_TEXT, description="the answer's fields, as JSON")]
    correct: Annotated[str, Field(max_length=MAX_TEXT, description="all fields as they should be, as JSON")] = ""
    text: str = ""
    photos: list[UploadFile] = Field([])


class ScoreForm(Body):
    """Photos to score: a zip file, or the name of a folder under the service's root."""

    model_config = example(adapter="mine", folder="monday")

    adapter: Annotated[str, Field(max_length=200)]
    archive: UploadFile | None = None
    folder: Annotated[str, Field(max_length=500)] = ""
    table: Table = "csv"


class PreflightForm(Body):
    """New data to read and check: a zip file, or the name of a folder under the service's root."""

    model_config = example(name="castings", folder="castings", task="product_defects")

    name: Annotated[str, Field(max_length=200, description="of the adapter that would be trained")]
    archive: UploadFile | None = None
    folder: Annotated[str, Field(max_length=500)] = ""
    recipe: Annotated[str, Field(max_length=200, description="a shipped one; by default, one is proposed")] = ""
    task: Annotated[str, Field(max_length=200, description="of the proposal; by default, the one that fits best")] = ""


class TrainRequest(Body):
    """What to train, and for how many minutes instead of the recipe's.

    Either the next version of an adapter, or a new adapter on the data of a finished job of kind preflight.
    """

    model_config = example(adapter="mine", minutes=15)

    adapter: Annotated[str, Field(max_length=200)] | None = None
    job: Annotated[str, Field(max_length=40)] | None = None
    minutes: Annotated[float, Field(gt=0, le=10_000)] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if (self.adapter is None) == (self.job is None):
            raise ValueError("give an adapter, or a job of kind preflight")
        return self


class PromoteRequest(Body):
    """A finished training job; `margin`: how much lower the mean score on a slice of the test set may be."""

    model_config = example(job="20260101000000000000-00000000", margin=MARGIN)

    job: Annotated[str, Field(max_length=40)]
    margin: Annotated[float, Field(ge=0, le=1)] = MARGIN


def add_work_routes(api: FastAPI, predictor: Predictor, work: Workplace) -> None:
    """Add the routes; `predictor` serves the registry's adapters."""
    _add_review_routes(api, predictor, work)
    _add_job_routes(api, predictor, work)
    _add_state_routes(api, work.jobs)
    _add_event_route(api, work.jobs)
    _add_result_routes(api, work.jobs)
    _add_version_routes(api, predictor, work)


def _add_review_routes(api: FastAPI, predictor: Predictor, work: Workplace) -> None:
    @api.post("/v1/reviews")
    def review(form: Annotated[ReviewForm, Form(media_type="multipart/form-data")]) -> dict[str, Any]:
        """Store a verdict on an answer. A later one on an answer to the same photos and text replaces it."""
        served = card_of(predictor, form.adapter)
        card = work.version(served, form.card) if form.card else served
        answer, correct = _object("answer", form.answer), _object("correct", form.correct) if form.correct else None
        with received([photo.file for photo in form.photos], [form.text]) as files:
            photos = photo_decoder.shared().decoded(files)
        stored = work.reviews.add(card, photos, form.text, answer, form.verdict, correct, OWNER.get())
        return {"case": stored.case, "verdict": stored.verdict, "version": stored.version, "card": stored.card}

    @api.get("/v1/reviews")
    def listed() -> list[dict[str, Any]]:
        """The last verdict on each adapter's answer to each case."""
        return [found.model_dump(mode="json") for found in work.reviews.last()]


def _add_job_routes(api: FastAPI, predictor: Predictor, work: Workplace) -> None:
    """The routes that queue jobs."""

    @api.post("/v1/batches", response_model_exclude=INTERNAL)
    def score(form: Annotated[ScoreForm, Form(media_type="multipart/form-data")]) -> Job:
        """Score photos; the result is a table, with a page of the answers that a person should check."""
        card = card_of(predictor, form.adapter)
        return work.score(card, _files(form.archive), form.folder, form.table, OWNER.get())

    @api.post("/v1/jobs/preflight", response_model_exclude=INTERNAL)
    def preflight(form: Annotated[PreflightForm, Form(media_type="multipart/form-data")]) -> Job:
        """Read and check new data, and estimate what training on them would cost, before an adapter is trained."""
        files = _files(form.archive)
        return work.preflight(form.name, files, form.folder, form.recipe, form.task, OWNER.get())

    @api.post("/v1/jobs/train", response_model_exclude=INTERNAL)
    def train(body: TrainRequest) -> Job:
        """Train an adapter: the next version, from reviews, or a new one, on data that were checked without errors."""
        if body.job is not None:
            return work.train_new(body.job, body.minutes, OWNER.get())
        return work.train(card_of(predictor, body.adapter or ""), body.minutes, OWNER.get())

    @api.post("/v1/jobs/promote", response_model_exclude=INTERNAL)
    def promote(body: PromoteRequest) -> Job:
        """Serve a trained adapter if it is not worse than the current version; the log has the comparison."""
        return work.promote(body.job, body.margin, OWNER.get())


def _add_state_routes(api: FastAPI, jobs: Jobs) -> None:
    @api.get("/v1/jobs", response_model_exclude={"__all__": INTERNAL})
    def listed() -> list[Job]:
        """All jobs, oldest first."""
        return jobs.all()

    @api.get("/v1/jobs/{job}", response_model_exclude=INTERNAL)
    def one(job: str) -> Job:
        """One job."""
        return jobs.get(job)

    @api.get("/v1/jobs/{job}/log")
    def log(job: str) -> dict[str, str]:
        """The end of what a job has printed."""
        return {"log": jobs.log(job)}

    @api.post("/v1/jobs/{job}/stop", response_model_exclude=INTERNAL)
    def stop(job: str) -> Job:
        """Stop a job."""
        return jobs.stop(job)

    @api.post("/v1/jobs/{job}/resume", response_model_exclude=INTERNAL)
    def resume(job: str) -> Job:
        """Continue a stopped or failed job."""
        return jobs.resume(job)


def _add_event_route(api: FastAPI, jobs: Jobs) -> None:
    @api.get("/v1/jobs/{job}/events", response_class=EventStream)
    def events(job: str, last_event_id: Annotated[int, Header(ge=0)] = 0) -> EventStream:
        """A job's state and what it prints, as server-sent events until it ends.

        A client that was cut off sends the id of the last event that it has received, and misses nothing.
        """
        jobs.get(job)  # an error is raised before the response begins
        return EventStream(job_events(jobs, job, last_event_id, api.state.stopping))


def _add_result_routes(api: FastAPI, jobs: Jobs) -> None:
    @api.get("/v1/jobs/{job}/result")
    def result(job: str) -> FileResponse:
        """The table that a finished job has written."""
        path = jobs.result(job, "score")
        return FileResponse(path, filename=path.name)

    @api.get("/v1/jobs/{job}/review")
    def review(job: str) -> FileResponse:
        """A page of the answers that a person should check."""
        return _page(jobs.result(job, "score").with_name(REVIEW))

    @api.get("/v1/jobs/{job}/preflight")
    def preflight(job: str) -> Preflight:
        """What was read of new data, how many errors the checks found, and what training would cost."""
        return Preflight.of(jobs.result(job, "preflight"))

    @api.get("/v1/jobs/{job}/checks")
    def checks(job: str) -> FileResponse:
        """A page of the checks of new data, with their pictures."""
        return _page(jobs.result(job, "preflight") / CHECK_PAGE)


def _add_version_routes(api: FastAPI, predictor: Predictor, work: Workplace) -> None:
    @api.get("/v1/adapters/{name}/versions")
    def versions(name: str) -> dict[str, Any]:
        """An adapter's versions with their test results, and the changes of the current one."""
        current = work.current(card_of(predictor, name))
        cards = {each.number: each.card for each in work.registry.versions(name)}
        found = [
            {"version": number, "card": card.fingerprint, "metrics": card.metrics} for number, card in cards.items()
        ]
        history = [change.model_dump() for change in work.registry.history(name)]
        return {"current": current.number, "versions": found, "history": history}

    @api.post("/v1/adapters/{name}/roll-back")
    def roll_back(name: str, over: int | None = None) -> dict[str, int]:
        """Serve the previously current version; `over`: the one to go back from, refused if another is current."""
        return {"current": work.roll_back(card_of(predictor, name), OWNER.get(), over).number}


def _page(file: Path) -> FileResponse:
    if not file.is_file():
        raise DataError("", "the page was deleted with the upload that it shows", "upload the files again")
    return FileResponse(file, headers={"Content-Security-Policy": PAGE_POLICY})


def _files(archive: UploadFile | None) -> list[tuple[str, BinaryIO]]:
    """The uploaded file, if any, as `Workplace` expects files."""
    return [(archive.filename or "", archive.file)] if archive is not None else []


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(name, "is not JSON", "send an object of fields") from error
    if not isinstance(found, dict):
        raise DataError(name, "is not an object", "send an object of fields")
    return found
