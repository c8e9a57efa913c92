"""An adapter folder: plain PEFT files, and a `card.json` from which it is served without the task's code.

If every weight of the base was trainable, the folder holds the whole model instead of PEFT files.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError

from datasets_vision.example import digest_of
from datasets_vision.placing import whole_file
from vlm_ft.answers.confidence import Agreement, Confidence, Familiar
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Strict
from vlm_ft.bases.base_ref import BaseRef
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.parts import Part, Tuning
from vlm_ft.errors import AdapterError
from vlm_ft.recipe import Tiling
from vlm_ft.settings import fault_of

CARD = "card.json"
CARD_VERSION = 1
ADAPTER = "adapter"  # the adapter's folder inside a run
TENSORS = "adapter_model.safetensors"
FAMILIARITY = "familiarity.safetensors"  # a description of the training examples, if it was calibrated
README = "README.md"
CONFIG = "adapter_config.json"
PEFT_FILES = (CONFIG, TENSORS)
MODEL_FILES = ("config.json",)  # the weights may be in several files, and the engine checks their fingerprint
CALIBRATED = frozenset({"confidence", "familiar", "bf16"})
"""The parts of a card that `vlm-ft calibrate` writes."""


class Provenance(Strict):
    """What the adapter was trained on."""

    data: tuple[str, ...] = Field(description="the sources, as the recipe names them")
    data_fingerprint: str = Field(description="sha256 over the ids, answers, texts and photos of the training examples")
    counts: dict[str, int] = Field(description="examples per role")
    synthetic: bool = Field(description="whether it learned from synthetic drawings or texts")
    began_with: str | None = Field(default=None, description="the adapter that training began with")


class Card(Strict):
    """Everything that serving an adapter needs besides its tensors."""

    version: int = CARD_VERSION
    name: str
    form: Form
    base: BaseRef
    pixels: tuple[int, int] | None = Field(default=None, description="minimum and maximum pixels of one image")
    image_tokens: int | None = Field(default=None, description="maximum image tokens of one row")
    tiling: Tiling | None = Field(
        default=None, description="how large photos are cut into tiles, in training and serving"
    )
    dtype: str | None = Field(default=None, description="of the base's weights, if the recipe names one")
    quantize: Literal["nf4", "int8"] | None = None
    weights: str | None = Field(default=None, description="fingerprint of the weights here, if they are a whole model")
    template: str | None = Field(
        default=None, description="a hash of what the base's tokenizer and chat template make of fixed messages"
    )
    tuned: dict[Part, Tuning] = Field(default_factory=dict, description="how each part of the base was trained")
    inputs: tuple[Literal["photo", "text"], ...] = Field(
        default=("photo", "text"), description="what its training rows contain"
    )
    most_photos: int | None = Field(
        default=None,
        exclude_if=lambda count: count is None,  # so that the fingerprints of earlier cards stay
        description="in one of its training cases; cards of earlier versions do not say",
    )
    method: str = "sft"
    loss_on: Literal["decisions", "answer"] = Field(
        default="answer", description="which tokens of an answer were supervised"
    )
    confidence: Confidence | None = Field(default=None, description="what vlm-ft calibrate fitted")
    familiar: Familiar | None = Field(
        default=None, description="the threshold for unfamiliar examples; see familiarity.py"
    )
    bf16: Agreement | None = Field(default=None, description="whether answers in bf16 agree, if it was measured")
    provenance: Provenance
    training: dict[str, Any] = Field(default_factory=dict, description="steps, seconds, losses, machine, versions")
    metrics: dict[str, Any] = Field(default_factory=dict, description="figures on `test`, by field")
    number: int | None = Field(
        default=None, exclude=True, description="of its version, if it is served from a registry; not in the file"
    )

    @property
    def expects(self) -> str:
        """The fingerprint of the weights that it needs: the base's or, for a whole model, its own."""
        return self.weights or self.base.fingerprint

    @property
    def fingerprint(self) -> str:
        """A SHA-256 of everything on the card except its name, its template, its figures and its calibration."""
        return digest_of(self.model_dump_json(exclude={"name", "template", "metrics", *CALIBRATED}))

    @property
    def identity(self) -> dict[str, Any]:
        """What answers are cited by: the number of the version, if any, and hashes of card, calibration and form."""
        return {
            "version": self.number,
            "card": self.fingerprint,
            "calibration": digest_of(self.model_dump_json(include=set(CALIBRATED))),
            "form": self.form.fingerprint,
        }

    @property
    def tuning(self) -> str:
        """How each part of the base was trained, in words."""
        return ", ".join(f"{part}: {word}" for part, word in self.tuned.items())

    @property
    def limits(self) -> Limits:
        return Limits(self.pixels, self.image_tokens)

    @property
    def notice(self) -> str:
        """The notice shown with every answer: from the task and its derivations, and about synthetic data."""
        drawn = "Trained on generated drawings or texts, not on real data." if self.provenance.synthetic else ""
        tables = (entry.notice for entry in self.form.derivations)
        return " ".join(part for part in (self.form.notice, *tables, drawn) if part)

    def write(self, folder: Path) -> None:
        with whole_file(folder / CARD) as part:
            part.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")


def version_in_words(number: int | None, fingerprint: str) -> str:
    """The number of an adapter's version, if it is in a registry, and the start of its card's fingerprint."""
    short = fingerprint[:8]
    return short if number is None else f"{number} ({short})"


class _Version(BaseModel):
    """The version of a card, readable even if a newer vlm-ft wrote the rest."""

    version: int = CARD_VERSION


def read_card(folder: Path) -> Card:
    """The card of an adapter folder.

    Raises `AdapterError` if the folder, its card, or its PEFT or model files are missing or cannot be read.
    """
    if not folder.is_dir():
        raise AdapterError(f"adapter {folder}", "no such folder", "train one with vlm-ft train, or check the path")
    _require(folder, CARD)
    text = (folder / CARD).read_bytes()
    try:
        version = _Version.model_validate_json(text).version
        if version > CARD_VERSION:
            raise AdapterError(folder / CARD, f"version {version} was written by a newer vlm-ft", "update the package")
        card = Card.model_validate_json(text)
    except ValidationError as error:
        raise AdapterError(folder / CARD, fault_of(error), "train the adapter again, or restore the file") from error
    _require(folder, *(MODEL_FILES if card.weights else PEFT_FILES))
    return card


def _require(folder: Path, *names: str) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise AdapterError(f"adapter {folder}", f"has no {name}", "train it again, or restore the file")


def adapter_folder(place: Path) -> Path:
    """The adapter folder at `place`, which is that folder or its run folder. Raises `AdapterError`."""
    if not (place / CARD).is_file() and (place / ADAPTER / CARD).is_file():
        return place / ADAPTER
    read_card(place)
    return place
