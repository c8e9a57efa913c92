"""`Jobs`: commands that take minutes or hours, one after the other, each in its own process and folder.

    jobs.sqlite    what runs, for whom, and its state
    JOB/log.txt    what it prints

A job is stored as queued until it has ended, so one that was running when the service ended, however that happened,
runs again and continues where it stopped. One whose memory is not free waits for it, and others may overtake it.
"""

from __future__ import annotations

import logging
import os
import re
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import Literal

from filelock import FileLock, Timeout
from pydantic import ValidationError

from vlm_ft.answers.kinds import Strict
from vlm_ft.errors import BusyError, DataError, without_folders
from vlm_ft.runs import Run
from vlm_ft.work.memory import Need

State = Literal["queued", "running", "done", "failed", "stopped"]
Kind = Literal["preflight", "score", "train", "promote"]
ENDED: frozenset[State] = frozenset({"done", "failed", "stopped"})

FILE, LOG = "jobs.sqlite", "log.txt"
OLD_FILE = "job.json"  # in a job's folder, instead of `FILE`, until version 0.2
_TABLE = "CREATE TABLE IF NOT EXISTS jobs (id TEXT PRIMARY KEY, state TEXT NOT NULL, job TEXT NOT NULL)"
ID = re.compile(r"[0-9]{20}-[0-9a-f]{8}")
PATIENCE = 20  # seconds for a job to end on its own after SIGINT
LOG_SHOWN = 20_000  # characters of a log that are returned
LOG_READ = 1 << 16  # bytes of a log that are read at once
LOOK = 5.0  # seconds between checks of the free memory that a job waits for
REFUSED = 3  # the exit code of a command that did its work and found something to check


log = logging.getLogger(__name__)


class UnknownJobError(DataError):
    """A request for a job that does not exist."""


class Job(Strict):
    """One command. `arguments` are those of the command line; `out` is what it writes, within the job's folder.

    `waits` says why a queued job has not started although no other one runs.
    """

    id: str
    kind: Kind
    title: str
    arguments: tuple[str, ...]
    out: str
    by: str | None = None
    state: State = "queued"
    created: str
    started: str | None = None
    ended: str | None = None
    exit_code: int | None = None
    need: Need = Need()
    waits: str = ""


class Jobs:
    """The jobs in a folder. A thread runs the oldest queued one; `close` ends it and leaves its job for the next start.

    `limit`: the maximum number of waiting jobs. Raises `DataError` if another service uses the folder, or its file of
    jobs is damaged; later calls raise `sqlite3.Error` if that file cannot be read or written.
    """

    def __init__(self, folder: Path, limit: int = 100) -> None:
        self.folder, self._limit = folder, limit
        self._changed = threading.Condition()
        self._process: subprocess.Popen[bytes] | None = None
        self._running: str | None = None  # the job that the process works on, unless it was stopped
        self._waits: dict[str, str] = {}  # why queued jobs wait while none runs
        self._unstored: dict[str, Job] = {}  # jobs whose end could not be stored; after a restart, they run again
        self._closed = False
        folder.mkdir(parents=True, exist_ok=True)
        self._claim = FileLock(folder / ".lock", timeout=0)
        try:
            self._claim.acquire()
        except Timeout as error:
            raise DataError(folder, "is in use by another service", "stop that one, or give another folder") from error
        self._db = _opened(folder / FILE)
        self._adopt()
        self._remove_leftovers()
        self._thread = threading.Thread(target=self._run, name="jobs", daemon=True)
        self._thread.start()

    @contextmanager
    def preparing(self) -> Iterator[Path]:
        """The folder of a new job, named by its id; it is removed if the job is not submitted within the block."""
        place = self.folder / f"{datetime.now(UTC):%Y%m%d%H%M%S%f}-{secrets.token_hex(4)}"
        place.mkdir()
        try:
            yield place
        finally:
            if not self._select("WHERE id = ?", place.name):
                shutil.rmtree(place, ignore_errors=True)

    def submit(
        self,
        place: Path,
        kind: Kind,
        title: str,
        arguments: Sequence[str],
        out: str,
        by: str | None,
        need: Need = Need(),  # noqa: B008 (frozen)
    ) -> Job:
        """Queue a command in a folder from `preparing`. Raises `BusyError` if too many wait."""
        with self._changed:
            if sum(other.state == "queued" for other in self.all()) >= self._limit:
                raise BusyError("jobs", f"{self._limit} jobs are waiting already", "retry later")
            found = Job(
                id=place.name,
                kind=kind,
                title=title,
                arguments=tuple(arguments),
                out=out,
                by=by,
                created=_now(),
                need=need,
            )
            self._write(found)
            self._changed.notify_all()
        return found

    def get(self, job: str) -> Job:
        """A job by its id. Raises `UnknownJobError` if there is none."""
        found = self._select("WHERE id = ?", job) if ID.fullmatch(job) else []
        if not found:
            raise UnknownJobError("", f"no job {job[:40]!r}", "list the jobs")
        return found[0]

    def all(self) -> list[Job]:
        """Every job, oldest first."""
        return self._select("ORDER BY id")

    def log(self, job: str) -> str:
        """The end of what a job has printed, without the server's folders."""
        found = self.get(job)
        file = self.folder / found.id / LOG
        printed = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
        return self._without_folders(found, printed[-LOG_SHOWN:])

    def lines(self, job: str, after: int = 0) -> list[tuple[int, str]]:
        """The next lines that a job has printed after so many bytes, each with the number of bytes up to its end.

        A last one that is incomplete is left out, unless the job has ended, or it alone exceeds `LOG_READ`.
        """
        of = self.get(job)
        file = self.folder / of.id / LOG
        if not file.is_file():
            return []
        with file.open("rb") as log:
            log.seek(after)
            printed = log.read(LOG_READ)
        found = printed.splitlines(keepends=True)
        more_to_come = len(found) > 1 if len(printed) == LOG_READ else of.state not in ENDED
        if found and not found[-1].endswith(b"\n") and more_to_come:
            found.pop()
        ends = accumulate(map(len, found))
        texts = (self._without_folders(of, line.decode("utf-8", "replace").rstrip()) for line in found)
        return list(zip((after + end for end in ends), texts, strict=True))

    def _without_folders(self, job: Job, printed: str) -> str:
        """What a job has printed, with its own files named by their place in its folder, and others by their name."""
        place = self.folder / job.id
        known = {str(place), str(place.resolve()), *filter(os.path.isabs, job.arguments)}
        for path in sorted(known, key=len, reverse=True):
            printed = printed.replace(f"{path}/", "").replace(path, Path(path).name)
        return without_folders(printed)

    def result(self, job: str, kind: Kind | None = None) -> Path:
        """What a job has written. Raises `DataError` for a job of another kind, and if there is nothing yet."""
        found = self.get(job)
        if kind not in (None, found.kind):
            raise DataError("", f"job {job} is of kind {found.kind}", f"give a job of kind {kind}")
        path = self.folder / found.id / found.out
        if found.state != "done":
            raise DataError("", f"job {job} has no result yet", "wait until its state is done")
        if not path.exists():
            raise DataError("", f"the result of job {job} was deleted with its upload", "upload the files again")
        return path

    def stop(self, job: str) -> Job:
        """Stop a job that waits or runs; `resume` continues it."""
        with self._changed:
            found = self.get(job)
            if found.state not in ("queued", "running"):
                return found
            found = self._write(found, state="stopped", ended=_now())
            process = self._process if self._running == job else None
            if process is not None:
                self._running = None
        if process is not None:
            _end(process)
        return found

    def resume(self, job: str) -> Job:
        """Queue a stopped or failed job again; it continues where it stopped."""
        with self._changed:
            found = self.get(job)
            if found.state in ("stopped", "failed"):
                found = self._write(found, state="queued", ended=None, exit_code=None)
                self._changed.notify_all()
        return found

    def close(self) -> None:
        """End the running job's process; the job is queued again at the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            process = self._process
        if process is not None:
            _end(process)
        self._thread.join()
        self._db.close()
        self._claim.release()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (job := self._next()) is None and not self._closed:
                    self._changed.wait(LOOK if self._waits else None)
                if self._closed or job is None:
                    return
            try:
                self._execute(job)
            except Exception as error:  # such as a full disk: this job has failed, the next one may not
                log.exception("job %s failed", job.id)
                self._failed(job, error)

    def _execute(self, job: Job) -> None:
        with self._changed:
            if self._closed or self.get(job.id).state != "queued":
                return  # stopped since it was chosen
            job = self._write(job, started=job.started or _now())
            self._process, self._running = self._start(job), job.id
            self._waits = {}
        code = self._process.wait()
        with self._changed:
            stopped = self._running is None
            self._process = self._running = None
            if not stopped and not self._closed:
                done = code == 0 or (code == REFUSED and job.kind != "train")
                self._write(job, state="done" if done else "failed", ended=_now(), exit_code=code)

    def _failed(self, job: Job, error: Exception) -> None:
        """Mark a job as failed; if even that cannot be stored, it stays so until the service starts again."""
        with suppress(OSError), (self.folder / job.id / LOG).open("a", encoding="utf-8") as file:
            file.write(f"{error}\n")
        with self._changed:
            try:
                self._write(job, state="failed", ended=_now())
            except sqlite3.Error:
                self._unstored[job.id] = job.model_copy(update={"state": "failed", "ended": _now()})

    def _next(self) -> Job | None:
        """The oldest queued job whose memory is free."""
        waiting = [job for job in self._select("WHERE state = 'queued' ORDER BY id") if job.state == "queued"]
        self._waits = {job.id: lacking for job in waiting if (lacking := job.need.lacking())}
        return next((job for job in waiting if job.id not in self._waits), None)

    def _start(self, job: Job) -> subprocess.Popen[bytes]:
        place = self.folder / job.id
        resumed = job.kind == "train" and Run(place / job.out).state != "empty"
        with (place / LOG).open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "vlm_ft.cli.worker", *job.arguments, *(["--resume"] if resumed else [])],
                cwd=place,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the service, which then ends the job
            )

    def _select(self, where: str, *values: str) -> list[Job]:
        """Stored jobs, in their present states."""
        with self._changed:
            stored = self._db.execute(f"SELECT job FROM jobs {where}", values).fetchall()
            return [self._now(Job.model_validate_json(content)) for (content,) in stored]

    def _now(self, job: Job) -> Job:
        if job.id == self._running:
            return job.model_copy(update={"state": "running"})
        if job.state == "queued" and job.id in self._waits:
            return job.model_copy(update={"waits": self._waits[job.id]})
        return self._unstored.get(job.id, job)

    def _write(self, job: Job, **changes: object) -> Job:
        job = job.model_copy(update={"waits": "", **changes})
        row = (job.id, job.state, job.model_dump_json())
        self._db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?, ?)", row)
        self._unstored.pop(job.id, None)
        return job

    def _adopt(self) -> None:
        """Take over jobs that an earlier version stored in separate files."""
        for file in self.folder.glob(f"*/{OLD_FILE}"):
            try:
                job = Job.model_validate_json(file.read_bytes())
            except ValidationError:
                log.warning("%s: is not a job; remove its folder", file)
                continue
            self._write(job, state="queued" if job.state == "running" else job.state)
            file.unlink()

    def _remove_leftovers(self) -> None:
        """Remove the folders of jobs that were being prepared when the service was killed."""
        known = {job.id for job in self.all()}
        for place in self.folder.iterdir():
            if not ID.fullmatch(place.name) or place.name in known:
                continue
            if not (place / LOG).exists() and not (place / OLD_FILE).exists():
                shutil.rmtree(place, ignore_errors=True)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with SIGINT, or after a while with SIGKILL."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _opened(file: Path) -> sqlite3.Connection:
    """The database of jobs; every change is committed at once. Raises `DataError` if it cannot be opened or created."""
    try:
        database = sqlite3.connect(file, check_same_thread=False, isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute(_TABLE)
    except sqlite3.Error as error:
        raise DataError(file, f"cannot be used ({error})", "free some space, or restore it") from error
    return database


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
