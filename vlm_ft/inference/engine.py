"""`Engine`: one base and any number of adapters, resident together; requests in, predictions out."""

from __future__ import annotations

import threading
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import ModulesToSaveWrapper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from datasets_vision.errors import cause
from vlm_ft.adapters import Card, read_card
from vlm_ft.answers.confidence import with_confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.load import Base, load_base
from vlm_ft.conversation import Conversation, Row, moved, opened
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.errors import AdapterError, DataError, FormError, nearest
from vlm_ft.inference.familiarity import FILE, Description, Sense, in_words, strangeness
from vlm_ft.inference.request import BASE, Request
from vlm_ft.inference.tiling import predict_tiled
from vlm_ft.recipe import Tiling

MIXABLE = (nn.Linear, nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d)
"""What PEFT mixes of several adapters that trained it in full."""
BARE = "__base__"  # PEFT's own word for rows without an adapter


class Engine:
    """Answers requests for the bare base and for every resident adapter."""

    def __init__(self, base: Base, folders: Mapping[str, Path] | None = None, *, batch_size: int = 16) -> None:
        self.base = base
        self.batch_size = batch_size
        self.cards: dict[str, Card] = {}
        self._model: Any = base.model
        self._slots: dict[str, str] = {}  # our name -> PEFT's name, which may hold no dot
        self._lock = threading.Lock()  # the Qwen families keep rope_deltas as module state
        self._alone: set[str] = set()  # adapters that PEFT cannot mix with others in one batch
        self._conversations: dict[Limits, Conversation] = {}
        self._decoder = FormDecoder(base)
        self._known: dict[str, Description] = {}  # what the adapters were trained on
        self._senses: dict[Limits, Sense] = {}
        for name, folder in (folders or {}).items():
            self.add(name, folder)

    @classmethod
    def open(cls, folders: Sequence[Path], *, base: str | None = None, batch_size: int = 16) -> Engine:
        """The engine of these adapter folders; the first one's card names the base unless `base` does.

        Raises `AdapterError` where a folder cannot be used, or belongs to another base.
        """
        if not folders and base is None:
            raise AdapterError("", "no adapter given", "name an adapter folder, or a base")
        cards = {folder: read_card(folder) for folder in folders}
        first = next(iter(cards.values()), None)
        loaded = _base_of(base, first, next(iter(cards), None))
        names: dict[str, Path] = {}
        for folder, card in cards.items():
            name = card.name if card.name not in names else f"{card.name} ({folder})"
            names[name] = folder
        return cls(loaded, names, batch_size=batch_size)

    def add(self, name: str, folder: Path) -> None:
        """Make an adapter resident. Raises `AdapterError` where it is another base's, or its tensors miss."""
        card = read_card(folder)
        if name == BASE or name in self.cards:
            raise AdapterError(f"adapter {folder}", f"the name {name!r} is taken", "give another one")
        self._require_base(card, folder)
        if card.familiar is not None and (folder / FILE).is_file():
            self._known[name] = Description.read(folder)
        if card.weights:  # the folder is the resident base itself
            self.cards[name] = card
            return
        slot = f"a{len(self._slots)}"
        try:
            self._load(slot, folder)
        except (AdapterError, SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            self._drop(slot)
            if isinstance(error, AdapterError):
                raise
            raise AdapterError(
                f"adapter {folder}", f"cannot be loaded ({cause(error)})", "restore its files, or train it again"
            ) from error
        self._slots[name] = slot
        self.cards[name] = card
        if not self._mixes(slot, card):
            self._alone.add(name)

    def _require_base(self, card: Card, folder: Path) -> None:
        if card.expects == self.base.ref.fingerprint:
            return
        if card.weights:
            raise AdapterError(
                f"adapter {folder}",
                f"is a whole model with fingerprint {card.weights}, which cannot answer beside {self.base.ref.name}",
                "open it alone, or restore its weights",
            )
        raise AdapterError(
            f"adapter {folder}",
            f"its base is {card.base.name}, not {self.base.ref.name} (fingerprint {card.base.fingerprint})",
            "load that base, or train again",
        )

    def _mixes(self, slot: str, card: Card) -> bool:
        """Whether a batch may hold this adapter beside others: plain LoRA, and single layers trained in full."""
        seeing = any(card.tuned.get(part, "frozen") != "frozen" for part in ("vision", "projector"))
        if "lora" not in card.tuned.values():
            return False  # PEFT mixes adapters by their LoRA layers
        if "dora" in card.tuned.values() or (seeing and not self.base.family.mixed_adapters_with_vision):
            return False
        full = [module for module in self._model.modules() if isinstance(module, ModulesToSaveWrapper)]
        return all(isinstance(m.original_module, MIXABLE) for m in full if slot in m.modules_to_save)

    def _load(self, slot: str, folder: Path) -> None:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Found missing adapter keys")  # check_loaded tells them
            if self._slots:
                self._model.load_adapter(str(folder), adapter_name=slot)
            else:
                self._model = PeftModel.from_pretrained(self.base.model, str(folder), adapter_name=slot)
        self._model.eval()
        check_loaded(self._model, slot, folder)

    def _drop(self, slot: str) -> None:
        """Undo a load that failed half-way: the base and the other adapters answer as before."""
        for module in self.base.model.modules():
            if isinstance(module, BaseTunerLayer) or (
                isinstance(module, ModulesToSaveWrapper) and slot in module.modules_to_save
            ):
                module.delete_adapter(slot)
        if not self._slots:
            self._model = self.base.model
            vars(self._model).pop("peft_config", None)
        else:
            self._model.peft_config.pop(slot, None)

    def predict(self, requests: Sequence[Request]) -> list[Prediction]:
        """One prediction a request, in order. An image that cannot be opened is that request's error value.

        Raises `AdapterError` for an adapter that is not resident, `FormError` for a base request without a form.
        """
        forms = [self._form(request) for request in requests]
        answers = predict_tiled(self._each, requests, [self._tiling(request) for request in requests], forms)
        return [self._finished(*each) for each in zip(requests, forms, answers, strict=True)]

    def _finished(self, request: Request, form: Form, answer: Prediction) -> Prediction:
        """What follows from the answer, and how sure it is where the adapter was asked its own form."""
        card = self.cards.get(request.adapter)
        if card is not None and form.fingerprint == card.form.fingerprint:
            answer = with_confidence(form, answer, card.confidence)
        return replace(answer, derived=form.derive(answer.values))

    def _settings(self, request: Request) -> Card | None:
        """The card whose limits and tiling a request follows; None: the base's own."""
        return self.cards.get(request.like or request.adapter)

    def _tiling(self, request: Request) -> Tiling | None:
        card = self._settings(request)
        if request.tiling == "card":
            return card.tiling if card is not None else None
        return None if request.tiling == "none" else request.tiling

    def _each(self, requests: Sequence[Request]) -> list[Prediction]:
        """As `predict`, every photo whole."""
        forms = [self._form(request) for request in requests]
        results: dict[int, Prediction] = {}
        groups: dict[tuple[Limits, int, str | None], list[tuple[int, Row, str]]] = defaultdict(list)
        for index, (request, form) in enumerate(zip(requests, forms, strict=True)):
            try:
                images = tuple(opened(image) for image in request.images)
                self._fits(request)
            except DataError as error:
                results[index] = Prediction.failed(str(error))
                continue
            row = Row(form, request.turns, images)
            groups[self._group(request)].append((index, row, request.adapter))
        for key, members in groups.items():
            size = 1 if self._decoder.one_by_one else self.batch_size
            for start in range(0, len(members), size):
                chunk = members[start : start + size]
                answers = self._answer([row for _, row, _ in chunk], [name for *_, name in chunk], key[0])
                results |= dict(zip((index for index, *_ in chunk), answers, strict=True))
        return [results[index] for index in range(len(requests))]

    def _form(self, request: Request) -> Form:
        if request.adapter != BASE and request.adapter not in self.cards:
            raise AdapterError("", f"adapter {request.adapter!r} is not loaded", nearest(request.adapter, self.cards))
        if request.form is not None:
            return request.form
        if request.adapter == BASE:
            raise FormError("", "the bare base has no form of its own", "give one with the request")
        return self.cards[request.adapter].form

    def _fits(self, request: Request) -> None:
        if not request.images and not request.turns:
            raise DataError("request", "neither image nor text", "give at least one")
        if request.images and not self.base.reader.sees:
            raise DataError(f"base {self.base.ref.name}", "takes no images", "send text, or choose a vision adapter")
        card = self.cards.get(request.adapter)
        if card and card.inputs == ("photo",) and not request.images:
            raise DataError("request", "has no photo, and this adapter has learned from photos only", "add a photo")

    def _group(self, request: Request) -> tuple[Limits, int, str | None]:
        """What may share a batch: the limits, the number of images, and one adapter where mixing is not exact."""
        card = self._settings(request)
        limits = card.limits if card else Limits()
        mixes = not self._stands_alone(request.adapter) and len(request.images) <= 1  # PEFT takes an image for a row
        return limits, len(request.images), None if mixes else request.adapter

    def _stands_alone(self, name: str) -> bool:
        """Whether PEFT cannot mix the adapter: it lacks a module that another resident adapter trained in full."""
        slot = self._slots.get(name)
        full = [module for module in self._model.modules() if isinstance(module, ModulesToSaveWrapper)]
        return name in self._alone or (slot is not None and not all(slot in m.modules_to_save for m in full))

    def _conversation(self, limits: Limits) -> Conversation:
        """The prompts of adapters with these limits."""
        if limits not in self._conversations:
            self._conversations[limits] = Conversation(self.base.reader.limited(limits))
        return self._conversations[limits]

    def _answer(self, rows: list[Row], names: list[str], limits: Limits) -> list[Prediction]:
        limit = self.base.reader.max_length
        with self._lock, torch.inference_mode():
            conversation = self._conversation(limits)
            batch = conversation.encode(rows)
            lengths = batch["attention_mask"].sum(1).tolist()
            if max(lengths) < limit:
                answers = self._decoder.decode(
                    partial(self._forward, names),
                    names,
                    moved(batch, self.base.device),
                    [row.form for row in rows],
                    [conversation.seen_size(row) for row in rows],
                    [conversation.constant(row.form) for row in rows],
                )
                return self._wary(rows, names, answers, limits)
        answers = [
            Prediction.failed(f"prompt of {length} tokens does not fit the base's {limit}; shorten the text")
            for length in lengths
        ]
        fitting = [place for place, length in enumerate(lengths) if length < limit]
        if fitting:  # one that is too long is no reason to refuse its neighbours
            shorter = self._answer([rows[place] for place in fitting], [names[place] for place in fitting], limits)
            for place, answer in zip(fitting, shorter, strict=True):
                answers[place] = answer
        return answers

    def _wary(
        self, rows: Sequence[Row], names: Sequence[str], answers: list[Prediction], limits: Limits
    ) -> list[Prediction]:
        """The answers; a person is asked about rows that are unlike what their adapter was trained on."""
        sense = self._senses.setdefault(limits, Sense(self.base, limits))
        for name in self._known.keys() & set(names):
            familiar = self.cards[name].familiar
            places = [place for place, own in enumerate(names) if own == name]
            if familiar is None or len({bool(rows[place].images) for place in places}) > 1:
                continue
            scores = self._known[name].scores(*sense.of([rows[place] for place in places]))
            for place, score, strange in zip(places, scores, strangeness(scores), strict=True):
                share = float(strange / familiar.threshold)
                answers[place] = replace(answers[place], strange=share)
                if share > 1 and answers[place].error is None:
                    reason = in_words(score, bool(rows[place].images))
                    answers[place] = replace(answers[place], decision="ask a person", reason=reason)
        return answers

    def _forward(self, names: Sequence[str], rows: Sequence[int], **inputs: Any) -> Any:
        """The model's output for these rows of a batch, each under its adapter."""
        if not self._slots:
            return self.base.model(**inputs)
        slots = [self._slots.get(names[row], BARE) for row in rows]
        if len(set(slots)) > 1:
            return self._model(adapter_names=slots, **inputs)
        if slots[0] == BARE:
            with self._model.disable_adapter():
                return self._model(**inputs)
        self._model.set_adapter(slots[0], inference_mode=True)
        return self._model(**inputs)


def _base_of(name: str | None, card: Card | None, folder: Path | None) -> Base:
    """The base that is named, as the card's adapter was trained on it; by default the card's own.

    A whole model is its own base, in `folder`.
    """
    if card is None:
        assert name is not None
        return load_base(name)
    if card.weights and name is None:
        return load_base(str(folder), dtype=card.dtype)
    own = name is None or name == card.base.name
    return load_base(
        name or card.base.name,
        revision=card.base.revision if own else None,
        dtype=card.dtype,
        quantize=card.quantize,
    )


def check_loaded(model: PeftModel, slot: str, folder: Path) -> None:
    """Every tensor of the file must have arrived, and be numbers: what has not would do nothing or harm, silently.

    Raises `AdapterError`.
    """
    stored = load_file(folder / "adapter_model.safetensors")
    held = get_peft_model_state_dict(model, adapter_name=slot)
    lost = sorted(set(stored) ^ set(held))
    if lost:
        raise AdapterError(
            f"adapter {folder}", f"{len(lost)} tensors do not match the base, first {lost[0]}", "train it again"
        )
    broken = [name for name, tensor in stored.items() if not tensor.isfinite().all()]
    if broken:
        raise AdapterError(
            f"adapter {folder}",
            f"{len(broken)} tensors hold no finite numbers, first {broken[0]}",
            "train it again, with a smaller learning rate",
        )
