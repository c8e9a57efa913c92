"""The routes for work on adapters: reviews, jobs, versions.

/v1/reviews                     store a verdict on an answer
/v1/jobs/score                  score a zip file of photos, or a folder on the server
/v1/jobs/preflight              read and check new data, and estimate what training on them would cost
/v1/jobs/train                  train the next version of an adapter, from what people have reviewed, or a new adapter
/v1/jobs/promote                compare a trained adapter with the current version, and serve it if it is not worse
/v1/jobs, /v1/jobs/ID           states; /log, /result, /review, /preflight, /checks, /stop, /resume
/v1/adapters/NAME/versions      versions and the changes of the current one; /roll-back
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

from fastapi import FastAPI, Form, UploadFile
from fastapi.responses import FileResponse
from pydantic import Field, model_validator

from datasets_vision.example import Turn
from vlm_ft.adapters import Card, adapter_folder, read_card
from vlm_ft.data.preflight import CHECK_PAGE, Preflight
from vlm_ft.errors import AdapterError, DataError, nearest
from vlm_ft.inference.photo_decoder import decoded
from vlm_ft.inference.request import BASE, Predictor
from vlm_ft.recipe import shipped
from vlm_ft.registry import NAME, Registry, Version
from vlm_ft.review.gate import MARGIN
from vlm_ft.review.next_recipe import reviews_of
from vlm_ft.review.store import Reviews, Verdict
from vlm_ft.runs import RECIPE
from vlm_ft.scoring.first import FIRST
from vlm_ft.service.gate import OWNER
from vlm_ft.service.intake import MAX_TEXT, Body, below, example, received, unpacked_data, unpacked_photos
from vlm_ft.service.jobs import LOG, Job, Jobs
from vlm_ft.service.served import card_of
from vlm_ft.service.tokens import Right, Tokens
from vlm_ft.tasks import TASKS

Table = Literal["csv", "parquet", "jsonl"]
RUN, REVIEW, PREFLIGHT = "run", "review.html", "preflight"
INTERNAL = {"arguments", "out"}
"""What a job's description says only to the service: paths on the server."""

PAGE_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


@dataclass(frozen=True)
class Workplace:
    """What the service works with besides its predictor.

    `root`: the folder below which it may score folders. Without `tokens`, every user may do everything.
    """

    registry: Registry
    reviews: Reviews
    jobs: Jobs
    root: Path | None = None
    tokens: Tokens | None = None

    def may(self, user: str | None, right: Right) -> bool:
        """Whether this user has the right."""
        return self.tokens is None or self.tokens.allows(user, right)

    def score(
        self, card: Card, files: Sequence[tuple[str, BinaryIO]], folder: str, table: Table, by: str | None
    ) -> Job:
        """Queue the scoring of files (name and content; zip files are unpacked), or of a folder below `root`.

        Raises `DataError` unless it is one of the two, for a folder that is not there, and for a zip file without
        images.
        """
        if bool(files) == bool(folder):
            raise DataError("photos, folder", "give one of the two", "send photos or a zip file, or name a folder")
        with self.jobs.preparing() as place:
            photos = below(self.root, folder) if folder else _taken_in(files, place / "photos")
            adapter, out = self._current(card), f"scores.{table}"
            title = f"{card.name} {adapter.number}: {folder or f'{len(files)} files'}"
            arguments = ["score", str(photos), "--adapter", str(adapter.folder.resolve()), "--out", out]
            pages = ["--review", REVIEW, "--first", FIRST]
            return self.jobs.submit(place, "score", title, [*arguments, *pages], out, by)

    def _current(self, card: Card) -> Version:
        """The adapter's current version. Raises `DataError` if the registry does not have it."""
        if card.name not in self.registry.names():
            raise DataError("adapter", f"{card.name!r} is not in the registry", "choose one that is")
        return self.registry.current(card.name)

    def train(self, card: Card, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter's next version, on its data and on what people have reviewed since."""
        adapter = self._current(card)
        limit = ["--set", f"training.minutes={minutes:g}"] if minutes is not None else []
        with _clients_mistakes():
            title = f"{card.name} {adapter.number} with {len(reviews_of(self.reviews, adapter.folder))} reviews"
        sources = [str(folder.resolve()) for folder in (self.reviews.folder, adapter.folder)]
        with self.jobs.preparing() as place:
            return self.jobs.submit(place, "train", title, ["train-next", *sources, "--out", RUN, *limit], RUN, by)

    def preflight(
        self, name: str, files: Sequence[tuple[str, BinaryIO]], folder: str, recipe: str, task: str, by: str | None
    ) -> Job:
        """Queue a look at new data, in a zip file or a folder below `root`, before an adapter is trained on them.

        `recipe`: a shipped one, "" for a proposal; `task`: that of the proposal, "" for the one that fits best. Raises
        `DataError` for a name that is taken or not a plain word, for a zip file that cannot be unpacked, and unless the
        data are one of the two.
        """
        if not NAME.fullmatch(name) or name in (BASE, *self.registry.names()):
            raise DataError(
                f"name {name[:80]!r}", "is taken, or not a plain word", "give another one, such as castings"
            )
        if bool(files) == bool(folder) or len(files) > 1:
            raise DataError("data", "give one zip file or one folder", "upload a zip file, or name a folder")
        with self.jobs.preparing() as place:
            data = below(self.root, folder) if folder else unpacked_data(files[0][1], place / "data").resolve()
            chosen = ["--recipe", _shipped(recipe)] if recipe else ["--task", _known(task)] if task else []
            arguments = ["preflight", str(data), "--out", PREFLIGHT, "--name", name, *chosen]
            title = f"{name}: {folder or files[0][0]}"
            return self.jobs.submit(place, "preflight", title, arguments, PREFLIGHT, by)

    def train_new(self, checked: str, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter on data that were checked without errors."""
        folder = _looked_at(self.jobs, checked).resolve()
        errors = Preflight.of(folder).errors
        if errors:
            raise DataError("data", f"the checks found {errors} errors", "correct the data, and check them again")
        limit = ["--set", f"training.minutes={minutes:g}"] if minutes is not None else []
        with self.jobs.preparing() as place:
            title = self.jobs.get(checked).title
            return self.jobs.submit(
                place, "train", title, ["train", str(folder / RECIPE), "--out", RUN, *limit], RUN, by
            )

    def promote(self, trained: str, margin: float, by: str | None) -> Job:
        """Queue the comparison of a trained adapter with the current version, which it replaces if it is not worse."""
        run = self.jobs.result(trained).resolve()
        if self.jobs.get(trained).kind != "train":
            raise DataError("job", f"{trained} has not trained an adapter", "give a job of kind train")
        title = f"{read_card(adapter_folder(run)).name}: job {trained}"
        arguments = ["promote", str(run), "--registry", str(self.registry.folder.resolve()), "--margin", f"{margin:g}"]
        with self.jobs.preparing() as place:
            return self.jobs.submit(place, "promote", title, [*arguments, *(["--by", by] if by else [])], LOG, by)

    def roll_back(self, card: Card, by: str | None) -> Version:
        """Serve the version that was current before. Raises `DataError` if there was none."""
        self._current(card)
        with _clients_mistakes():
            return self.registry.roll_back(card.name, by=by)


def _taken_in(files: Sequence[tuple[str, BinaryIO]], photos: Path) -> Path:
    """The new folder `photos` with these files; zip files are unpacked."""
    photos.mkdir()
    for number, (name, content) in enumerate(files, 1):
        if zipfile.is_zipfile(content) or name.lower().endswith(".zip"):
            unpacked_photos(content, photos if len(files) == 1 else photos / str(number))
            continue
        plain = Path(name).name or "photo"
        target = photos / (f"{number} {plain}" if (photos / plain).exists() else plain)
        content.seek(0)
        with target.open("wb") as out:
            shutil.copyfileobj(content, out)
    return photos.resolve()


def _shipped(recipe: str) -> str:
    """The name of a shipped recipe. Raises `DataError` for another one, such as a file's."""
    if recipe not in shipped():
        raise DataError(f"recipe {recipe[:80]!r}", "is not a shipped one", nearest(recipe[:80], shipped()))
    return recipe


def _known(task: str) -> str:
    """The name of a task. Raises `DataError` for another one."""
    if task not in TASKS:
        raise DataError(f"task {task[:80]!r}", "is unknown", nearest(task[:80], TASKS))
    return task


@contextmanager
def _clients_mistakes() -> Iterator[None]:
    """Turns errors about an adapter into `DataError`: the request asked for what the adapter does not have."""
    try:
        yield
    except AdapterError as error:
        raise DataError(error.place, error.problem, error.remedy) from error


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
    verdict: Verdict
    answer: Annotated[str, Field(max_length=MAX_TEXT, description="the answer's fields, as JSON")]
    correct: Annotated[str, Field(max_length=MAX_TEXT, description="all fields as they should be, as JSON")] = ""
    text: str = ""
    photos: list[UploadFile] = Field([])


class ScoreForm(Body):
    """Photos to score: a zip file, or the name of a folder below the service's root."""

    model_config = example(adapter="mine", folder="monday")

    adapter: Annotated[str, Field(max_length=200)]
    archive: UploadFile | None = None
    folder: Annotated[str, Field(max_length=500)] = ""
    table: Table = "csv"


class PreflightForm(Body):
    """New data to read and check: a zip file, or the name of a folder below the service's root."""

    model_config = example(name="castings", folder="castings", task="product_defects")

    name: Annotated[str, Field(max_length=200, description="of the adapter that would be trained")]
    archive: UploadFile | None = None
    folder: Annotated[str, Field(max_length=500)] = ""
    recipe: Annotated[str, Field(max_length=200, description="a shipped one; left out: one is proposed")] = ""
    task: Annotated[str, Field(max_length=200, description="of the proposal; left out: the one that fits best")] = ""


class TrainRequest(Body):
    """What is trained, and for how many minutes instead of the recipe's.

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

    @api.post("/v1/reviews")
    def review(form: Annotated[ReviewForm, Form(media_type="multipart/form-data")]) -> dict[str, Any]:
        """Store a verdict on an answer. A later verdict on the same photos and text replaces an earlier one."""
        card = card_of(predictor, form.adapter)
        answer, correct = _object("answer", form.answer), _object("correct", form.correct) if form.correct else None
        with received([photo.file for photo in form.photos], [Turn("user", form.text)] if form.text else []) as case:
            photos = decoded(case.photos)
        stored = work.reviews.add(card, photos, form.text, answer, form.verdict, correct, OWNER.get())
        return {"case": stored.case, "verdict": stored.verdict}

    @api.get("/v1/reviews")
    def reviews() -> list[dict[str, Any]]:
        """The last verdict on each case."""
        return [found.model_dump(mode="json") for found in work.reviews.last()]

    @api.post("/v1/jobs/score", response_model_exclude=INTERNAL)
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

    _add_job_routes(api, work.jobs)

    @api.get("/v1/adapters/{name}/versions")
    def versions(name: str) -> dict[str, Any]:
        """An adapter's versions with their test results, and the changes of the current one."""
        card_of(predictor, name)
        found = [{"version": each.number, "metrics": each.card.metrics} for each in work.registry.versions(name)]
        history = [change.model_dump() for change in work.registry.history(name)]
        return {"current": work.registry.current(name).number, "versions": found, "history": history}

    @api.post("/v1/adapters/{name}/roll-back")
    def roll_back(name: str) -> dict[str, int]:
        """Serve the version that was current before."""
        return {"current": work.roll_back(card_of(predictor, name), OWNER.get()).number}


def _add_job_routes(api: FastAPI, jobs: Jobs) -> None:
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

    @api.get("/v1/jobs/{job}/result")
    def result(job: str) -> FileResponse:
        """The table that a finished job has written."""
        path = _scored(jobs, job)
        return FileResponse(path, filename=path.name)

    @api.get("/v1/jobs/{job}/review")
    def review(job: str) -> FileResponse:
        """A page of the answers that a person should check."""
        return FileResponse(_scored(jobs, job).with_name(REVIEW), headers={"Content-Security-Policy": PAGE_POLICY})

    @api.get("/v1/jobs/{job}/preflight")
    def preflight(job: str) -> Preflight:
        """What was read of new data, how many errors the checks found, and what training would cost."""
        return Preflight.of(_looked_at(jobs, job))

    @api.get("/v1/jobs/{job}/checks")
    def checks(job: str) -> FileResponse:
        """A page of the checks of new data, with their pictures."""
        return FileResponse(_looked_at(jobs, job) / CHECK_PAGE, headers={"Content-Security-Policy": PAGE_POLICY})

    @api.post("/v1/jobs/{job}/stop", response_model_exclude=INTERNAL)
    def stop(job: str) -> Job:
        """Stop a job."""
        return jobs.stop(job)

    @api.post("/v1/jobs/{job}/resume", response_model_exclude=INTERNAL)
    def resume(job: str) -> Job:
        """Continue a stopped or failed job."""
        return jobs.resume(job)


def _files(archive: UploadFile | None) -> list[tuple[str, BinaryIO]]:
    """The uploaded file, if any, as `Workplace` takes files."""
    return [(archive.filename or "", archive.file)] if archive is not None else []


def _looked_at(jobs: Jobs, job: str) -> Path:
    """What a look at new data has written. Raises `DataError` for a job of another kind, or one that is not done."""
    if jobs.get(job).kind != "preflight":
        raise DataError("job", f"{job} has not checked data", "give a job of kind preflight")
    return jobs.result(job)


def _scored(jobs: Jobs, job: str) -> Path:
    """The table of a job. Raises `DataError` for a job of another kind, or one that is not done."""
    if jobs.get(job).kind != "score":
        raise DataError("", f"job {job} has no table", "give a job of kind score")
    return jobs.result(job)


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(name, "is not JSON", "send an object of fields") from error
    if not isinstance(found, dict):
        raise DataError(name, "is not an object", "send an object of fields")
    return found
