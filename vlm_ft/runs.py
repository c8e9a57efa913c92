"""`Run`: the folder of one training run, with its files and its state."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, TypeVar
from zipfile import is_zipfile

from filelock import FileLock, Timeout
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open

from datasets_vision.placing import whole_file
from vlm_ft.adapters import ADAPTER, CARD
from vlm_ft.data.contents import changes
from vlm_ft.data.splits import SPLITS
from vlm_ft.errors import DataError, RecipeError, cause
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.settings import fault_of, write_settings

State = Literal["empty", "begun", "checkpointed", "finished"]
Content = TypeVar("Content")

RECIPE = "recipe.yaml"
EVALUATION = "evaluation.json"
LIBRARIES = ("vlm-ft", "torch", "transformers", "peft", "accelerate")
FULL = 1 << 20  # a disk with no more free bytes than this counts as full
STATE = "trainer_state.json"  # the file of a checkpoint that is written last
PARTS = {
    "state of the trainer": (STATE,),
    "weights": ("*.safetensors", "pytorch_model_fsdp*"),
    "state of the optimizer": ("optimizer*", "global_step*"),
    "schedule": ("scheduler.pt", "global_step*"),
    "random state": ("rng_state*",),
}
"""The parts of a checkpoint, and the names that their files can have: alone, under FSDP, or under DeepSpeed."""


class Run:
    """The folder of one training run. Creating the object reads and writes nothing.

    recipe.yaml     what the recipe sets, without the defaults
    splits.jsonl    the role of each group of examples
    data.json       a hash of each example
    versions.json   of Python and the libraries that train
    plan.json       the number of steps, fixed at the start
    references.json log-likelihoods under the model that the run began with, for methods that compare with it
    bank/           the frozen tower's features of the photos, until training ends
    checkpoints/    the trainer's checkpoints
    losses.jsonl    the losses so far, as they are logged
    loss.png        their curves
    adapter/        PEFT files and card, or a whole model
    evaluation/     the report, and its figures and answers as JSON
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recipe_file = folder / RECIPE
        self.splits = folder / SPLITS
        self.data = folder / "data.json"
        self.versions = folder / "versions.json"
        self.plan = folder / "plan.json"
        self.references = folder / "references.json"
        self.bank = folder / "bank"
        self.checkpoints = folder / "checkpoints"
        self.losses = folder / "losses.jsonl"
        self.curves = folder / "loss.png"
        self.adapter = folder / ADAPTER
        self.evaluation = folder / "evaluation"
        self.evaluated = self.evaluation / EVALUATION

    @property
    def state(self) -> State:
        """How far the training got; the card is the last file that it writes."""
        if not self.recipe_file.exists():
            return "empty"
        if (self.adapter / CARD).exists():
            return "finished"
        return "begun" if self.checkpoint is None else "checkpointed"

    @property
    def checkpoint(self) -> Path | None:
        """The newest whole checkpoint; without one, a run starts over at step 0."""
        return next((folder for folder, fault in self._examined() if not fault), None)

    @property
    def passed_over(self) -> list[str]:
        """What is wrong with the checkpoints that are newer than the one to resume from."""
        newer = takewhile(lambda pair: pair[1], self._examined())
        return [f"{folder.name} {fault}" for folder, fault in newer]

    def _examined(self) -> Iterator[tuple[Path, str]]:
        """Each checkpoint, the newest first, and what is wrong with it ("" if nothing)."""
        steps = {int(folder.name.partition("-")[2]): folder for folder in self.checkpoints.glob("checkpoint-*")}
        return ((steps[step], _fault(steps[step])) for step in sorted(steps, reverse=True))

    @property
    def recipe(self) -> Recipe:
        """The recipe of this run. Raises `RecipeError` if there is none, or it cannot be read."""
        return load_recipe(self.recipe_file)

    def holds(self, recipe: Recipe) -> bool:
        """Whether the folder holds a run of this recipe.

        Both recipes get the current version's defaults, so a changed default makes no difference. Raises
        `RecipeError` with the first key that differs if the folder holds a run of another recipe.
        """
        if self.state == "empty":
            return False
        kept, given = (entry.model_dump(mode="json") for entry in (self.recipe, recipe))
        difference = _first_difference(kept, given)
        if difference:
            raise RecipeError(self.recipe_file, difference, "use the same recipe, or give another --out")
        return True

    def require_empty(self) -> None:
        """Raise `RecipeError` if the folder holds a run."""
        if self.state != "empty":
            raise RecipeError(self.folder, "already holds a run", "continue it with --resume, or give another --out")

    def read_losses(self) -> list[dict[str, float]]:
        """The losses so far: each entry has a `step`, and a `loss` on `train` or an `eval_loss` on `tune`."""
        if not self.losses.is_file():
            return []
        *whole, _ = self.losses.read_text(encoding="utf-8").split("\n")  # the last line may be incomplete
        return [json.loads(line) for line in whole]

    @contextmanager
    def claimed(self, recipe: Recipe, *, resume: bool = False) -> Iterator[None]:
        """Claim the folder for this recipe; an exception in the block releases it again if it was free before.

        Raises `RecipeError` if the folder holds a run and `resume` is not set, if there is nothing to resume, or if the
        folder cannot be written.
        """
        if resume and not self.holds(recipe):
            raise RecipeError(self.folder, "holds no run to resume", "leave out --resume")
        if not resume:
            self.require_empty()
        existed = self.folder.exists()
        ours = [
            file
            for file in (self.recipe_file, self.splits, self.data, self.versions, self.plan, self.references)
            if not file.exists()
        ]
        try:
            self._write_recipe(recipe)
            yield
        except BaseException:
            for file in ours:
                with suppress(NotADirectoryError):  # `out` is a file
                    file.unlink(missing_ok=True)
            if self.plan in ours:
                shutil.rmtree(self.bank, ignore_errors=True)
            if not existed:
                with suppress(OSError):  # absent, or another process has put files into it
                    self.folder.rmdir()
            raise

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Train in the folder as the only process.

        Raises `RecipeError` if another one does, and `DataError` if the disk is full.
        """
        lock = FileLock(self.folder / ".lock", timeout=0)
        try:
            lock.acquire()
        except Timeout as error:
            problem = "another process is training in it"
            raise RecipeError(self.folder, problem, "wait until it has finished, or stop it") from error
        try:
            yield
        except (RuntimeError, SafetensorError, OSError) as error:  # torch names neither the disk nor the file
            if shutil.disk_usage(self.folder).free > FULL:
                raise
            problem = f"the disk is full ({cause(error)})"
            raise DataError(self.folder, problem, "free some space, and continue with --resume") from error
        finally:
            lock.release()

    def check_data(self, contents: Mapping[str, str]) -> None:
        """Store the hash of each example, by id (`Dataset.contents`), or compare with the stored hashes.

        Raises `DataError` with the first examples that were changed, removed or added since.
        """
        if not self.data.exists():
            store(self.data, dict(contents))
            return
        if differences := changes(stored(self.data, dict[str, str]), contents):
            problem = f"the data have changed since the run began: {differences}"
            raise DataError(self.folder, problem, "restore them, or train in another --out")

    def record_versions(self) -> str:
        """Store the versions of the libraries, or return the first one that differs from the stored ones; or ""."""
        if not self.versions.exists():
            store(self.versions, versions())
        return _first_difference(stored(self.versions, dict[str, str]), versions())

    def _write_recipe(self, recipe: Recipe) -> None:
        """Write only the keys that are set, so that a new default in a later version does not look like a change."""
        if self.recipe_file.exists():
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecipeError(self.folder, f"cannot be written ({error.strerror})", "give another --out") from error
        write_settings(self.recipe_file, recipe.model_dump(mode="json", exclude_unset=True))


def versions() -> dict[str, str]:
    """The versions of Python and of the libraries on which the result of training depends."""
    return {"python": platform.python_version()} | {name: metadata.version(name) for name in LIBRARIES}


def store(file: Path, content: Any) -> None:
    """Write a JSON file of a run; an interruption leaves the previous one, or none."""
    with whole_file(file) as part:
        part.write_text(json.dumps(content, indent=0, ensure_ascii=False), encoding="utf-8")


def stored(file: Path, kind: type[Content]) -> Content:
    """The content of a file that `store` wrote. Raises `DataError` if it was cut off, or no longer fits `kind`."""
    try:
        return TypeAdapter(kind).validate_json(file.read_bytes())
    except ValidationError as error:
        raise DataError(file, fault_of(error), "restore it, or train in another --out") from error


def _fault(checkpoint: Path) -> str:
    """What is wrong with a checkpoint: it may be unfinished, or a disk may have lost files or their ends."""
    for part, names in PARTS.items():
        if not any(any(checkpoint.glob(name)) for name in names):
            return f"has no {part}"
    try:
        json.loads((checkpoint / STATE).read_text(encoding="utf-8"))
        for tensors in checkpoint.glob("*.safetensors"):
            with safe_open(tensors, "numpy"):
                pass
    except (ValueError, OSError, SafetensorError) as error:
        return f"is damaged ({cause(error)})"
    cut_off = next((file.name for file in checkpoint.glob("*.pt*") if not is_zipfile(file)), "")  # as torch.save writes
    return cut_off and f"is damaged ({cut_off})"


def _first_difference(kept: Any, given: Any, key: str = "") -> str:
    """The first key whose values differ, with both values; "" if there is none."""
    if isinstance(kept, dict) and isinstance(given, dict):
        names = dict.fromkeys((*kept, *given))
        inner = (_first_difference(kept.get(name), given.get(name), f"{key}.{name}") for name in names)
        return next(filter(None, inner), "")
    if isinstance(kept, list) and isinstance(given, list) and len(kept) == len(given):
        inner = (_first_difference(*pair, f"{key}.{place}") for place, pair in enumerate(zip(kept, given, strict=True)))
        return next(filter(None, inner), "")
    return "" if kept == given else f"{key[1:]} was {kept!r}, and is {given!r} now"
