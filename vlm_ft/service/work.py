"""The routes for work on adapters: reviews, jobs, versions.

/v1/reviews                     store a verdict on an answer
/v1/jobs/score                  score a zip file of photos, or a folder on the server
/v1/jobs/train                  train the next version of an adapter, from what people have reviewed
/v1/jobs/promote                compare a trained adapter with the current version, and serve it if it is no worse
/v1/jobs, /v1/jobs/ID           states; /log, /result, /stop, /resume
/v1/adapters/NAME/versions      versions and the changes of the current one; /roll-back
"""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Form, UploadFile
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.errors import DataError
from vlm_ft.inference.request import Predictor
from vlm_ft.registry import Registry
from vlm_ft.review.gate import MARGIN
from vlm_ft.review.next_recipe import write_next_recipe
from vlm_ft.review.store import Reviews, Verdict
from vlm_ft.service.decoder import Decoder
from vlm_ft.service.gate import OWNER
from vlm_ft.service.intake import MAX_TEXT, below, received, unpacked
from vlm_ft.service.jobs import Job, Jobs
from vlm_ft.service.served import card_of
from vlm_ft.service.tokens import Right, Tokens

Table = Literal["csv", "parquet", "jsonl"]
RUN = "run"


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
        """Whether this user may do that."""
        return self.tokens is None or self.tokens.allows(user, right)

    def photos_of(self, job: str, files: Sequence[Path], folder: str) -> Path:
        """The folder of photos to score: the uploaded files in the job's own folder, or a folder below `root`.

        Raises `DataError` for a folder that is not there, and for a zip file without images.
        """
        if folder:
            return below(self.root, folder)
        photos = self.jobs.folder / job / "photos"
        photos.mkdir()
        for number, file in enumerate(files, 1):
            if zipfile.is_zipfile(file):
                with file.open("rb") as archive:
                    unpacked(archive, photos if len(files) == 1 else photos / str(number))
            else:
                taken = (photos / file.name).exists()
                shutil.copyfile(file, photos / (f"{number} {file.name}" if taken else file.name))
        return photos.resolve()

    def score(self, card: Card, photos: Path, table: Table, job: str, by: str | None) -> Job:
        """Queue the scoring of a folder of photos."""
        adapter, out = self.registry.current(card.name), f"scores.{table}"
        arguments = ["score", str(photos), "--adapter", str(adapter.folder.resolve()), "--out", out]
        title = f"{card.name} {adapter.number}: {photos.name}"
        return self.jobs.submit(job, "score", title, [*arguments, "--review", "review.html"], out, by)

    def train(self, card: Card, minutes: float | None, by: str | None) -> Job:
        """Queue the training of an adapter's next version, on its data and on what people have reviewed since."""
        adapter, job = self.registry.current(card.name), self.jobs.new()
        recipe = self.jobs.folder / job / f"{card.name}.yaml"
        added = write_next_recipe(self.reviews.folder, adapter.folder, recipe)
        limit = ["--set", f"training.minutes={minutes:g}"] if minutes is not None else []
        title = f"{card.name} {adapter.number} with {len(added)} reviews"
        return self.jobs.submit(job, "train", title, ["train", recipe.name, "--out", RUN, *limit], RUN, by)

    def promote(self, trained: str, margin: float, by: str | None) -> Job:
        """Queue the comparison of a trained adapter with the current version, which it replaces if it is no worse."""
        run = self.jobs.result(trained).resolve()
        if self.jobs.get(trained).kind != "train":
            raise DataError("job", f"{trained} has not trained an adapter", "give a job of kind train")
        name, job = next(run.parent.glob("*.yaml")).stem, self.jobs.new()
        place = ["--registry", str(self.registry.folder.resolve()), "--name", name]
        arguments = ["promote", str(run), *place, "--margin", f"{margin:g}"]
        return self.jobs.submit(job, "promote", f"{name}: job {trained}", arguments, "log.txt", by)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ReviewForm(_Body):
    """A verdict on an adapter's answer about photos, a text, or both; `answer` and `correct` are JSON objects."""

    adapter: Annotated[str, Field(max_length=200)]
    verdict: Verdict
    answer: Annotated[str, Field(max_length=MAX_TEXT, description="the answer's fields, as JSON")]
    correct: Annotated[str, Field(max_length=MAX_TEXT, description="all fields as they should be, as JSON")] = ""
    text: str = ""
    photos: list[UploadFile] = []


class ScoreForm(_Body):
    """Photos to score: a zip file, or the name of a folder below the service's root."""

    adapter: Annotated[str, Field(max_length=200)]
    archive: UploadFile | None = None
    folder: Annotated[str, Field(max_length=500)] = ""
    table: Table = "csv"


class TrainRequest(_Body):
    """The adapter whose next version is trained, and for how many minutes instead of the recipe's."""

    adapter: Annotated[str, Field(max_length=200)]
    minutes: Annotated[float, Field(gt=0, le=10_000)] | None = None


class PromoteRequest(_Body):
    """A finished training job; `margin`: how much lower the mean score on a slice of the test set may be."""

    job: Annotated[str, Field(max_length=40)]
    margin: Annotated[float, Field(ge=0, le=1)] = MARGIN


def add_work_routes(api: FastAPI, predictor: Predictor, work: Workplace, decoder: Decoder) -> None:
    """Add the routes; `predictor` serves the registry's adapters."""

    @api.post("/v1/reviews")
    def review(form: Annotated[ReviewForm, Form(media_type="multipart/form-data")]) -> dict[str, Any]:
        """Store a verdict on an answer. A later verdict on the same photos and text replaces an earlier one."""
        card = card_of(predictor, form.adapter)
        answer, correct = _object("answer", form.answer), _object("correct", form.correct) if form.correct else None
        with received([photo.file for photo in form.photos], [Turn("user", form.text)] if form.text else []) as case:
            photos = decoder.decoded(case.photos)
        stored = work.reviews.add(card, photos, form.text, answer, form.verdict, correct, OWNER.get())
        return {"case": stored.case, "verdict": stored.verdict}

    @api.get("/v1/reviews")
    def reviews() -> list[dict[str, Any]]:
        """The last verdict on each case."""
        return [found.model_dump(mode="json") for found in work.reviews.last()]

    @api.post("/v1/jobs/score")
    def score(form: Annotated[ScoreForm, Form(media_type="multipart/form-data")]) -> Job:
        """Score photos; the result is a table, with a page of the answers that a person should look at."""
        card = card_of(predictor, form.adapter)
        if (form.archive is None) == (not form.folder):
            raise DataError("archive, folder", "give one of the two", "send a zip file, or name a folder")
        if form.archive is None:
            return work.score(card, below(work.root, form.folder), form.table, work.jobs.new(), OWNER.get())
        job = work.jobs.new()
        photos = work.jobs.folder / job / "photos"
        unpacked(form.archive.file, photos)
        return work.score(card, photos.resolve(), form.table, job, OWNER.get())

    @api.post("/v1/jobs/train")
    def train(body: TrainRequest) -> Job:
        """Train the next version of an adapter on its data and on what people have reviewed since."""
        return work.train(card_of(predictor, body.adapter), body.minutes, OWNER.get())

    @api.post("/v1/jobs/promote")
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
        card_of(predictor, name)
        return {"current": work.registry.roll_back(name, by=OWNER.get()).number}


def _add_job_routes(api: FastAPI, jobs: Jobs) -> None:
    @api.get("/v1/jobs")
    def listed() -> list[Job]:
        """All jobs, oldest first."""
        return jobs.all()

    @api.get("/v1/jobs/{job}")
    def one(job: str) -> Job:
        """One job."""
        return jobs.get(job)

    @api.get("/v1/jobs/{job}/log")
    def log(job: str) -> dict[str, str]:
        """The end of what a job has printed."""
        return {"log": jobs.log(job)}

    @api.get("/v1/jobs/{job}/result")
    def result(job: str) -> FileResponse:
        """The file that a finished job has written."""
        path = jobs.result(job)
        if not path.is_file():
            raise DataError("", f"job {job} has written a folder", "promote it")
        return FileResponse(path, filename=path.name)

    @api.post("/v1/jobs/{job}/stop")
    def stop(job: str) -> Job:
        """Stop a job."""
        return jobs.stop(job)

    @api.post("/v1/jobs/{job}/resume")
    def resume(job: str) -> Job:
        """Continue a stopped or failed job."""
        return jobs.resume(job)


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise DataError(name, "is not JSON", "send an object of fields") from error
    if not isinstance(found, dict):
        raise DataError(name, "is not an object", "send an object of fields")
    return found
