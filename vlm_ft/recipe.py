"""`Recipe`: the settings of one training run, as strict YAML."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from datasets_vision.formats import FORMATS
from datasets_vision.source import Source
from vlm_ft.answers.derivations.estimate import read_rate_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Strict
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.parts import PARTS, Part, Tuning
from vlm_ft.bases.precision import Precision
from vlm_ft.errors import RecipeError, nearest
from vlm_ft.settings import first_fault, read_settings, variables_in

LossOn = Literal["decisions", "answer"]
Role = Literal["train", "tune", "calibrate", "test"]
ROLES: tuple[Role, ...] = get_args(Role)
_PACKAGE = Path(__file__).parent
RECIPES = next(folder for folder in (_PACKAGE / "recipes", _PACKAGE.parent / "recipes") if folder.is_dir())
"""The shipped recipes: below the package in a wheel, beside it in a checkout."""


def _printable(option: str) -> str:
    if not option.strip() or not option.isprintable():
        raise ValueError("not a printable word; use visible characters")
    return option


Option = Annotated[str, AfterValidator(_printable)]
"""An option of a choice."""


class _Section(Strict):
    """A section of a recipe; its numbers must be finite."""

    model_config = ConfigDict(allow_inf_nan=False)


class Origin(_Section):
    """Where a data set can be obtained: its name, its licence, and its address or the command that makes it."""

    name: str
    licence: str
    source: str


class DataEntry(Source):
    """An entry of `data`: a source, and where it was obtained."""

    origin: Origin | None = None

    @property
    def shows_text(self) -> bool:
        """Whether the stated format holds texts without photos."""
        return self.format in FORMATS and "text" in FORMATS[self.format].options and self.image is None


class Pixels(_Section):
    """The range of an image's area, in pixels, as the model sees it."""

    minimum: int = Field(ge=1)
    maximum: int = Field(ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Pixels:
        if self.minimum > self.maximum:
            raise ValueError(f"minimum {self.minimum} exceeds maximum {self.maximum}; swap them")
        return self


class Tiling(_Section):
    """Large photos are cut into overlapping tiles, in training and for every answer.

    `side` and `overlap` are in pixels of the photo. `visible`: the share of an object's box that must lie in a training
    tile. `empty`: training tiles without objects, for each tile with objects (at least one for each photo).
    """

    side: int = Field(ge=16)
    overlap: int = Field(ge=0)
    visible: float = Field(default=0.5, gt=0, le=1)
    empty: float = Field(default=1.0, ge=0)

    @model_validator(mode="after")
    def _advances(self) -> Tiling:
        if self.overlap > self.side // 2:
            raise ValueError(f"overlap {self.overlap} exceeds half of the side {self.side}; reduce it")
        return self


class Splits(_Section):
    """How examples get their roles; a group is never split between roles.

    `source` keeps a data set's own lists ({"val": "test"}); the remaining examples are divided by the shares.
    Probabilities and the threshold for "ask a person" are fitted on `calibrate`, after training.
    `folds` and `fold`: for cross-validation, this fold is `test`, and the rest is divided by the other shares.
    `like`: a run folder, or a version in a registry, whose examples keep the roles that they had there.
    `train_examples`: the maximum number of `train` examples, drawn in whole groups with `subset_seed`.
    """

    train: float = Field(default=0.65, gt=0, le=1e9)
    tune: float = Field(default=0.10, ge=0, le=1e9)
    calibrate: float = Field(default=0.10, ge=0, le=1e9)
    test: float = Field(default=0.15, ge=0, le=1e9)
    source: dict[str, Role] = Field(default_factory=dict)
    like: Path | None = None
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
    """How each part of the base is trained: not at all (frozen), by a low-rank adapter (LoRA or DoRA), or in full.

    A part left out follows the base: LoRA on the language model, a frozen tower, and the projector in full if it
    has random weights. `rslora` scales by alpha over the root of the rank (Kalajdzievski 2023), which lets high ranks
    learn. `rates`: learning rates of parts that differ from `training.learning_rate`.
    """

    language: Tuning | None = None
    projector: Tuning | None = None
    vision: Tuning | None = None
    rank: int = Field(default=16, ge=1)
    alpha: int = Field(default=32, ge=1)
    rslora: bool = False
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rates: dict[Part, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)

    @property
    def asked(self) -> dict[Part, Tuning]:
        """The parts that the recipe sets."""
        tunings = {part: getattr(self, part) for part in PARTS}
        return {part: tuning for part, tuning in tunings.items() if tuning is not None}


Methods = Literal["sft", "dpo", "kto", "reward", "grpo", "rloo"]


class Preference(_Section):
    """How dpo and kto learn from judged replies.

    `beta`: how strongly they are held to the model that the run began with. The weights are for kto's losses.
    """

    beta: float = Field(default=0.1, gt=0)
    liked_weight: float = Field(default=1.0, ge=0)
    disliked_weight: float = Field(default=1.0, ge=0)


class Policy(_Section):
    """How grpo and rloo sample: `answers` to each prompt at this temperature.

    Rewards come from the labels, or from the `reward_model` in an adapter or run folder. `beta`: how strongly they are
    held to the model that the run began with.
    """

    answers: int = Field(default=8, ge=2)
    temperature: float = Field(default=1.0, gt=0)
    beta: float = Field(default=0.0, ge=0)
    reward_model: Path | None = None


class Training(_Section):
    """How to train: for `minutes` if given, based on the measured time of a step, otherwise for `epochs`."""

    epochs: float = Field(default=10, gt=0)
    minutes: float | None = Field(default=None, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    batch_size: int = Field(default=8, ge=1)
    batch_by: Literal["rows", "tokens"] = Field(
        default="rows", description="what each batch has about the same number of; with tokens, batch_size is the mean"
    )
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(default=2e-4, gt=0)
    warmup: float = Field(default=0.05, ge=0, lt=1, description="share of the steps")
    weight_decay: float = Field(default=0.01, ge=0)
    max_length: int | None = Field(default=None, ge=16, description="tokens; None: the base's limit")
    loss_on: LossOn = Field(
        default="decisions",
        description="what the grammar leaves open, or the whole answer, for decoding without the grammar",
    )
    workers: int | None = Field(
        default=None, ge=0, description="processes that decode and augment; None: half the cores, four at most"
    )
    balance: bool = Field(default=False, description="oversample rare options (square-root sampling)")
    evaluations: int = Field(default=8, ge=1, description="on `tune`, per run")
    patience: int | None = Field(
        default=None, ge=1, description="evaluations without a lower `tune` loss before stopping"
    )
    precision: Precision = "auto"
    checkpointing: bool | None = Field(
        default=None, description="recompute activations in the backward pass; None: only on a GPU"
    )
    seed: int = 0
    report_to: tuple[str, ...] = ("tensorboard",)


class VisionBank(_Section):
    """Keep the frozen tower's features of the photos on disk during training, in at most this many `gigabytes`.

    "auto": if a measurement before the first step shows that it saves time. With augmentation, `views` versions of each
    training photo are kept, and each epoch shows one of them.
    """

    use: Literal["auto", "always", "never"] = "auto"
    views: int = Field(default=4, ge=1)
    gigabytes: float = Field(default=20, gt=0)


class Recipe(Strict):
    """The settings of one run, which trains one base for one task and makes one adapter.

    >>> from vlm_ft import Recipe
    >>> Recipe(name="mine", task="car_damage", data=[{"path": "photos"}]).base
    'compact'
    """

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
    labels: dict[str, tuple[Option, ...]] = Field(default_factory=dict)
    rate_card: str | None = Field(default=None, description="a CSV file, or the name of a shipped one")
    thresholds: dict[str, float] = Field(
        default_factory=dict, description="the probability at which a flag counts as true, or a list continues"
    )
    splits: Splits = Splits()
    pixels: Pixels | None = None
    tiling: Tiling | None = None
    image_tokens: int | None = Field(default=None, ge=1, description="maximum per row; photos are scaled down to fit")
    augment: str = "none"
    method: Methods = "sft"
    from_adapter: Path | None = Field(default=None, description="the adapter or run folder that training begins with")
    adapter: AdapterSettings = AdapterSettings()
    training: Training = Training()
    bank: VisionBank = VisionBank()
    preference: Preference = Preference()
    policy: Policy = Policy()

    @property
    def limits(self) -> Limits:
        return Limits((self.pixels.minimum, self.pixels.maximum) if self.pixels else None, self.image_tokens)

    @field_validator("fields")
    @classmethod
    def _each_once(cls, fields: tuple[str, ...] | None) -> tuple[str, ...] | None:
        twice = next((name for name in fields or () if (fields or ()).count(name) > 1), None)
        if twice is not None:
            raise ValueError(f"{twice!r} is listed twice; keep one")
        return fields


def find_recipe(name: str) -> Path:
    """A recipe file by path, or a shipped one by name. Raises `RecipeError`."""
    if os.path.isdir(name) and name not in shipped():
        raise RecipeError(
            f"recipe {name}", "is a folder", f"write a recipe for its data: vlm-ft init {shlex.quote(name)}"
        )
    return _find("recipe", name, RECIPES, ".yaml")


def find_rate_card(name: str) -> Path:
    """A rate card by path, or a shipped one by name. Raises `RecipeError`."""
    return _find("rate_card", name, RECIPES / "rate_cards", ".csv")


def _find(key: str, name: str, folder: Path, suffix: str) -> Path:
    for path in (Path(name), folder / f"{name}{suffix}"):
        if os.path.isfile(path):  # unlike Path.is_file, False for a name that the system refuses
            return path
    shipped_names = [path.stem for path in folder.glob(f"*{suffix}")]
    raise RecipeError(f"{key} {name[:80]}", "neither a file nor a shipped name", nearest(name, shipped_names, 3))


def shipped() -> list[str]:
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


def require_data(recipe: Recipe, file: Path) -> None:
    """Raise `RecipeError` for data that do not exist, with their origin and the settings that locate them."""
    variables = variables_in(file)
    for number, entry in enumerate(recipe.data):
        if entry.format == "huggingface" or os.path.exists(entry.path):
            continue
        remedy = f"set {' or '.join([*variables, f'data.{number}.path'])}"
        if origin := entry.origin:
            remedy = f"obtain {origin.name} (licence: {origin.licence}) from {origin.source}, then {remedy}"
        raise RecipeError(os.path.abspath(entry.path), "no such file or folder", remedy)


def with_absolute_paths(content: dict[str, Any]) -> dict[str, Any]:
    """The content of a recipe file with absolute paths; names of shipped files stay as they are."""

    def absolute(section: dict[str, Any], *keys: str) -> dict[str, Any]:
        paths = {key: section[key] for key in keys if isinstance(section.get(key), str)}
        return section | {key: os.path.abspath(path) for key, path in paths.items() if os.path.exists(path)}

    sections = {name: content.get(name) or {} for name in ("policy", "splits")}
    return {
        **absolute(content, "task_file", "rate_card", "from_adapter", "base"),
        **{name: absolute(section, "reward_model", "like") for name, section in sections.items() if section},
        "data": [absolute(entry, "path", "image_folder") for entry in content["data"]],
    }


def with_rates(form: Form, recipe: Recipe) -> Form:
    """The form, with repair estimates if the recipe names a rate card."""
    if recipe.rate_card is None:
        return form
    return form.with_derivation(read_rate_card(find_rate_card(recipe.rate_card)))


def load_recipe(path: Path, settings: Sequence[str] = ()) -> Recipe:
    """The recipe in a YAML file, overridden by ``key=value`` settings (``training.epochs=3``).

    ``${NAME}`` and ``${NAME:-default}`` are replaced from the environment. Raises `RecipeError`.

    >>> from vlm_ft import load_recipe
    >>> load_recipe(Path("my_recipe.yaml"), ["training.epochs=3"]).training.epochs
    3.0
    """
    content = read_settings(path, settings)
    try:
        return Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(path, first_fault(error, Recipe)) from error
