"""`Recipe`: everything that one training run is told, as strict YAML."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from datasets_vision.formats import FORMATS
from datasets_vision.source import Source
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Strict
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.parts import PARTS, Part, Tuning
from vlm_ft.errors import RecipeError, nearest

LossOn = Literal["decisions", "answer"]
Role = Literal["train", "tune", "calibrate", "test"]
ROLES: tuple[Role, ...] = get_args(Role)
RECIPES = Path(__file__).parent.parent / "recipes"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


class _Section(Strict):
    """A part of a recipe: its numbers are finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Origin(_Section):
    """Where a data set can be obtained: its name, its licence, and its address or the command that makes it."""

    name: str
    licence: str
    source: str


class DataEntry(Source):
    """An entry of `data`: what is read, and where it came from."""

    origin: Origin | None = None

    @property
    def shows_text(self) -> bool:
        """Whether its format is stated, and is one of texts."""
        return self.format in FORMATS and "text" in FORMATS[self.format].options and self.image is None


class Pixels(_Section):
    """The least and the most pixels of one image as the model sees it."""

    minimum: int = Field(ge=1)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Pixels:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} exceeds maximum {self.maximum}; swap them")
        return self


class Tiling(_Section):
    """Large photos are looked at in overlapping tiles, in training and in every answer.

    `side` and `overlap` are pixels of the photo. `visible`: the share of an object's box that must lie in a tile of
    training. `empty`: tiles without an object that training sees for each one with (1 at least for each photo).
    """

    side: int = Field(ge=16)
    overlap: int = Field(ge=0)
    visible: float = Field(default=0.5, gt=0, le=1)
    empty: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _advances(self) -> Tiling:
        if self.overlap > self.side // 2:
            raise ValueError(f"overlap {self.overlap} is more than half of the side {self.side}; give less")
        return self


class Splits(_Section):
    """How examples get their role; groups are never shared between roles.

    `source` keeps a data set's own lists ({"val": "test"}); the rest is shared out by the shares. `calibrate` has no
    share by default, since nothing is fitted on it yet.
    `folds` and `fold` make a cross-validation: that fold is `test`, the rest follows the other shares.
    `train_examples`: at most so many of `train` are used, whole groups, drawn by `subset_seed`; the other roles stay.
    """

    train: float = Field(default=0.75, gt=0, le=1e9)
    tune: float = Field(default=0.10, ge=0, le=1e9)
    calibrate: float = Field(default=0.0, ge=0, le=1e9)
    test: float = Field(default=0.15, ge=0, le=1e9)
    source: dict[str, Role] = Field(default_factory=dict)
    folds: int | None = Field(default=None, ge=2)
    fold: int = Field(default=0, ge=0)
    seed: int = 0
    train_examples: int | None = Field(default=None, ge=1)
    subset_seed: int = 0

    @model_validator(mode="after")
    def _fold_exists(self) -> Splits:
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} does not exist; folds are 0..{self.folds - 1}")
        return self


class AdapterSettings(_Section):
    """What is trained of each part of the base: frozen, a low-rank adapter (LoRA or DoRA), or in full.

    A part left out follows the base: LoRA on the language model, a frozen tower, and the projector in full where it
    has random weights. `rates`: learning rates of parts that differ from `training.learning_rate`.
    """

    language: Tuning | None = None
    projector: Tuning | None = None
    vision: Tuning | None = None
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rates: dict[Part, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)

    @property
    def asked(self) -> dict[Part, Tuning]:
        """The parts whose word the recipe states."""
        words = {part: getattr(self, part) for part in PARTS}
        return {part: word for part, word in words.items() if word is not None}


class Training(_Section):
    """How it is tuned. With `minutes` the number of steps follows from a measured step, else from `epochs`."""

    epochs: float = Field(default=10, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=8, ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: int | None = Field(default=None, ge=16, description="tokens; None: what the base takes")
    loss_on: LossOn = Field(
        default="decisions",
        description="what the form leaves open, or the whole answer: for a model that will write without the grammar",
    )
    workers: int | None = Field(
        default=None, ge=0, description="processes that decode and augment; None: half the cores, four at most"
    )
    evaluations: int = Field(default=8, ge=1, description="how often `tune` is looked at in a run")
    patience: int | None = Field(default=None, ge=1, description="evaluations without a better `tune` loss")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    checkpointing: bool | None = Field(
        default=None, description="recompute activations in the backward pass; None: on a GPU"
    )
    seed: int = 0
    report_to: tuple[str, ...] = ("tensorboard",)


class Recipe(Strict):
    """One task, one base, some data: one adapter."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    task: str
    task_file: Path | None = None
    base: str = "compact"
    revision: str | None = None
    quantize: Literal["nf4", "int8"] | None = None
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="of the base's weights; None: bfloat16 on a GPU, float32 on a CPU"
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = None
    data: tuple[DataEntry, ...] = Field(min_length=1)
    fields: tuple[str, ...] | None = Field(default=None, min_length=1)
    labels: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    rate_card: str | None = Field(default=None, description="a CSV file, or the name of a shipped one")
    splits: Splits = Splits()
    pixels: Pixels | None = None
    tiling: Tiling | None = None
    image_tokens: int | None = Field(default=None, ge=1, description="the most of one row; its photos are lowered")
    augment: str = "none"
    adapter: AdapterSettings = AdapterSettings()
    training: Training = Training()

    @property
    def limits(self) -> Limits:
        """What its images and rows are held to."""
        return Limits((self.pixels.minimum, self.pixels.maximum) if self.pixels else None, self.image_tokens)

    @field_validator("fields")
    @classmethod
    def _each_once(cls, fields: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = next((name for name in fields or () if (fields or ()).count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} stands twice; keep one")
        return fields

    @field_validator("labels")
    @classmethod
    def _words(cls, labels: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        for word in (word for words in labels.values() for word in words):
            if not word.strip() or not word.isprintable():
                raise ValueError(f"{word!r} is no word to choose; write printed characters")
        return labels


def find_recipe(name: str) -> Path:
    """A recipe file by path, or a shipped one by its name. Raises `RecipeError`."""
    for path in (Path(name), RECIPES / f"{name}.yaml"):
        if os.path.isfile(path):  # a name that the system does not take is no file, either
            return path
    raise RecipeError(f"recipe {name}", "no such file, nor a shipped recipe", nearest(name, shipped(), 3))


def require_data(recipe: Recipe, file: Path) -> None:
    """Raises `RecipeError` for data that do not exist: where to obtain them, and which setting of `file` names them."""
    variables = dict.fromkeys(match["name"] for match in _VARIABLE.finditer(_read(file)))
    for number, entry in enumerate(recipe.data):
        if entry.format == "huggingface" or os.path.exists(entry.path):
            continue
        remedy = f"set {' or '.join([*variables, f'data.{number}.path'])}"
        if origin := entry.origin:
            remedy = f"obtain {origin.name} (licence: {origin.licence}) from {origin.source}, then {remedy}"
        raise RecipeError(os.path.abspath(entry.path), "no such file or folder", remedy)


def shipped() -> list[str]:
    """The names of the recipes that travel with the package."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def find_rate_card(name: str) -> Path:
    """A rate card's file by path, or a shipped one by its name. Raises `RecipeError`."""
    folder = RECIPES / "rate_cards"
    for path in (Path(name), folder / f"{name}.csv"):
        if os.path.isfile(path):
            return path
    known = [path.stem for path in folder.glob("*.csv")]
    raise RecipeError(f"rate_card {name}", "no such file, nor a shipped rate card", nearest(name, known))


def with_rates(form: Form, recipe: Recipe) -> Form:
    """The form whose answers are priced by the recipe's rate card, if it has one."""
    if recipe.rate_card is None:
        return form
    return form.deriving(read_rate_card(find_rate_card(recipe.rate_card)))


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, with ``key=value`` settings (``training.epochs=3``) laid over it.

    ``${NAME}`` and ``${NAME:-default}`` are taken from the environment. Raises `RecipeError`.
    """
    text = _substituted(_read(path), path)
    content = _parsed(text, path)
    if not isinstance(content, dict):
        raise RecipeError(path, f"a recipe is a mapping of keys, not {type(content).__name__}", "see recipes/")
    for setting in settings:
        _lay_over(content, setting)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(path, one_line(error, Recipe)) from error


_REMEDIES = {
    "tuple_type": "is no list; write [a, b], or a line with a dash for each",
    "dict_type": "is no mapping; write its keys below it",
    "model_type": "is no section; write its keys below it",
    "path_type": "is no path; write one",
}
"""By pydantic's types of faults whose messages speak of Python."""


def one_line(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault of a validation: the key, the value and the remedy."""
    faults = error.errors(include_url=False)
    first = next(
        (fault for fault in faults if fault["type"] == "extra_forbidden"), faults[0]
    )  # a slip leaves a gap, too
    where = [str(part) for part in first["loc"]]
    key = ".".join(where)
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(where[-1], _keys_at(model, first['loc'][:-1]))}"
    if first["type"] == "missing":
        return f"key {key!r} is missing; add it"
    told = _REMEDIES.get(first["type"], first["msg"].removeprefix("Value error, "))
    return f"{key}: {str(first['input'])[:80]!r}: {told}"


def _keys_at(model: type[BaseModel], location: Sequence[int | str]) -> list[str]:
    current: type[BaseModel] = model
    for part in location:
        if isinstance(part, int):
            continue
        annotation = current.model_fields[part].annotation
        inner = [a for a in (annotation, *get_args(annotation)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if not inner:
            return []
        current = inner[0]
    return list(current.model_fields)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RecipeError(f"recipe {path}", "no such file", f"shipped recipes: {', '.join(shipped())}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path}", f"cannot be read as UTF-8 text ({error})") from error


class _OnceEach(yaml.SafeLoader):
    """YAML in which no key may be given twice: the first would be lost in silence."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                problem = f"key {key.value[:80]!r} is given twice"
                raise yaml.composer.ComposerError(problem=problem, problem_mark=key.start_mark)
            seen.add((key.tag, str(key.value)))
        return node


def _parsed(text: str, path: Path) -> Any:
    """Raises RecipeError for what YAML makes nothing of, and for dates and numbers that are none."""
    try:
        return yaml.load(text, _OnceEach)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        raise RecipeError(place, f"not YAML: {problem}", "mend the line") from error
    except RecursionError as error:
        raise RecipeError(path, "nested too deeply for a recipe", "see recipes/") from error
    except (ValueError, AttributeError) as error:  # what PyYAML lets through: 2020-99-99, !!float x
        problem = " ".join(str(error).split())[:120]
        raise RecipeError(path, f"a value that is no date or number ({problem})", "put it in quotes") from error


def _substituted(text: str, path: Path) -> str:
    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        found = os.environ.get(name, default)
        if found is None:
            raise RecipeError(path, f"environment variable {name} is not set", "export it, or write a path")
        return found

    return _VARIABLE.sub(value, text)


def _lay_over(content: dict[str, Any], setting: str) -> None:
    key, separator, text = setting.partition("=")
    if not separator:
        raise RecipeError(f"--set {setting}", "no '='", "write --set training.epochs=3")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, AttributeError, RecursionError) as error:
        raise RecipeError(f"--set {setting}", f"{text!r} is no YAML value", "quote it") from error
    *parents, last = key.split(".")
    place: Any = content
    for part in parents:
        place = _descend(place, part, setting)
    if isinstance(place, list):
        _descend(place, last, setting)
        place[int(last)] = value
    else:
        place[last] = value


def _descend(place: Any, part: str, setting: str) -> Any:
    if isinstance(place, list):
        if not part.isdecimal() or int(part) >= len(place):
            raise RecipeError(
                f"--set {setting}", f"{part!r} is no position in a list of {len(place)}", "they start at 0"
            )
        return place[int(part)]
    if place.get(part) is None:  # absent, or a section left empty
        place[part] = {}
    inner = place[part]
    if not isinstance(inner, dict | list):
        raise RecipeError(f"--set {setting}", f"{part!r} holds a value, not keys", "shorten the key")
    return inner
