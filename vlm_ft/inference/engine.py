"""`Engine`: one base and any number of adapters, resident together; requests in, predictions out."""

from __future__ import annotations

import copy
import threading
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers import GenerationConfig, LogitsProcessorList

from vlm_ft.adapters import Card, read_card
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.bases.families import limit_pixels
from vlm_ft.bases.load import Base, load_base
from vlm_ft.conversation import Batch, Conversation, Row, moved, opened
from vlm_ft.decoding.grammar import FollowGrammar, Grammars, longest_answer
from vlm_ft.errors import AdapterError, DataError, FormError, nearest
from vlm_ft.inference.request import BASE, Request
from vlm_ft.inference.tiling import predict_tiled
from vlm_ft.recipe import Tiling

Seen = tuple[tuple[int, int] | None, int | None]
"""Least and most pixels of an image, most image tokens of a row; None: as the base has it."""

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
        self._conversations: dict[Seen, Conversation] = {}
        self._stops = stop_tokens(base)
        self._grammars = Grammars(base.tokenizer, self._vocabulary, self._stops)
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
        loaded = _base_of(base, first)
        names: dict[str, Path] = {}
        for folder, card in cards.items():
            name = card.name if card.name not in names else f"{card.name} ({folder})"
            names[name] = folder
        return cls(loaded, names, batch_size=batch_size)

    @property
    def _vocabulary(self) -> int:
        return int(self.base.model.get_output_embeddings().weight.shape[0])

    def add(self, name: str, folder: Path) -> None:
        """Make an adapter resident. Raises `AdapterError` where it is another base's, or its tensors miss."""
        card = read_card(folder)
        if name == BASE or name in self.cards:
            raise AdapterError(f"adapter {folder}", f"the name {name!r} is taken", "give another one")
        if card.base.fingerprint != self.base.ref.fingerprint:
            raise AdapterError(
                f"adapter {folder}",
                f"its base is {card.base.name}, not {self.base.ref.name} (fingerprint {card.base.fingerprint})",
                "load that base, or train again",
            )
        slot = f"a{len(self._slots)}"
        try:
            self._load(slot, folder)
        except (AdapterError, SafetensorError, OSError, RuntimeError, ValueError, TypeError, KeyError) as error:
            self._drop(slot)
            if isinstance(error, AdapterError):
                raise
            told = " ".join(str(error).split())[:160]
            raise AdapterError(
                f"adapter {folder}", f"cannot be loaded ({told})", "restore its files, or train it again"
            ) from error
        self._slots[name] = slot
        self.cards[name] = card

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
            if isinstance(module, BaseTunerLayer):
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
        return [
            replace(answer, derived=form.derive(answer.values)) for form, answer in zip(forms, answers, strict=True)
        ]

    def _tiling(self, request: Request) -> Tiling | None:
        card = self.cards.get(request.adapter)
        if request.tiling == "card":
            return card.tiling if card is not None else None
        return None if request.tiling == "none" else request.tiling

    def _each(self, requests: Sequence[Request]) -> list[Prediction]:
        """As `predict`, every photo whole."""
        forms = [self._form(request) for request in requests]
        results: dict[int, Prediction] = {}
        groups: dict[tuple[Any, ...], list[tuple[int, Row, str]]] = defaultdict(list)
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
            for start in range(0, len(members), self.batch_size):
                chunk = members[start : start + self.batch_size]
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
        if request.images and not self.base.vision:
            raise DataError(f"base {self.base.ref.name}", "takes no images", "send text, or choose a vision adapter")

    def _group(self, request: Request) -> tuple[Any, ...]:
        """What may share a batch: one pixel limit, images or none, and one adapter where mixing is not exact."""
        card = self.cards.get(request.adapter)
        mixable = self._mixable and len(request.images) <= 1  # PEFT takes one entry of the tower's batch for a row
        seen = (card.pixels, card.image_tokens) if card else (None, None)
        return (seen, len(request.images), None if mixable else request.adapter)

    def _conversation(self, seen: Seen) -> Conversation:
        """The prompts of adapters with these limits of pixels and image tokens; each has a processor of its own."""
        if seen not in self._conversations:
            pixels, image_tokens = seen
            processor = copy.deepcopy(self.base.processor)
            if pixels is not None:
                limit_pixels(processor, self.base.family, *pixels, config=self.base.model.config)
            limited = replace(self.base, processor=processor, image_tokens=image_tokens)
            self._conversations[seen] = Conversation(limited)
        return self._conversations[seen]

    @property
    def _mixable(self) -> bool:
        """Whether one batch may hold several adapters: PEFT mixes plain LoRA; some towers fold the batch away."""
        plain = all(not self._model.peft_config[slot].use_dora for slot in self._slots.values())
        seeing = any({"vision", "projector"} & set(card.scope) for card in self.cards.values())
        return plain and (self.base.family.mixed_adapters_with_vision or not seeing)

    def _answer(self, rows: list[Row], names: list[str], seen: Seen) -> list[Prediction]:
        limit = self.base.max_length
        with self._lock, torch.inference_mode():
            batch = self._conversation(seen).encode(rows)
            lengths = batch["attention_mask"].sum(1).tolist()
            if max(lengths) < limit:
                return self._written(rows, names, batch)
        answers = [
            Prediction.failed(f"prompt of {length} tokens does not fit the base's {limit}; shorten the text")
            for length in lengths
        ]
        fitting = [place for place, length in enumerate(lengths) if length < limit]
        if fitting:  # one that is too long is no reason to refuse its neighbours
            shorter = self._answer([rows[place] for place in fitting], [names[place] for place in fitting], seen)
            for place, answer in zip(fitting, shorter, strict=True):
                answers[place] = answer
        return answers

    def _written(self, rows: list[Row], names: list[str], encoded: Batch) -> list[Prediction]:
        batch = moved(encoded, self.base.device)
        length = batch["input_ids"].shape[1]
        matchers = [self._grammars.matcher(row.form) for row in rows]
        written = self._generate(
            batch,
            names,
            logits_processor=LogitsProcessorList([FollowGrammar(matchers, length, self._vocabulary, self._stops[0])]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=min(self.base.max_length - length, max(longest_answer(row.form) for row in rows)),
                eos_token_id=list(self._stops),
                pad_token_id=self.base.tokenizer.pad_token_id,
            ),
        )
        texts = self.base.tokenizer.batch_decode(
            written[:, length:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [read_answer(row.form, text) for row, text in zip(rows, texts, strict=True)]

    def _generate(self, batch: dict[str, Any], names: list[str], **options: Any) -> torch.Tensor:
        if not self._slots:
            return self.base.model.generate(**batch, **options)  # type: ignore[no-any-return]
        wanted = set(names)
        if len(wanted) > 1:
            slots = [self._slots.get(name, BARE) for name in names]
            return self._model.generate(**batch, adapter_names=slots, **options)  # type: ignore[no-any-return]
        if wanted == {BASE}:
            with self._model.disable_adapter():
                return self._model.generate(**batch, **options)  # type: ignore[no-any-return]
        self._model.set_adapter(self._slots[wanted.pop()], inference_mode=True)
        return self._model.generate(**batch, **options)  # type: ignore[no-any-return]


def _base_of(name: str | None, card: Card | None) -> Base:
    """The base that is named, as the card's adapter was trained on it; by default the card's own."""
    if card is None:
        assert name is not None
        return load_base(name)
    own = name is None or name == card.base.name
    return load_base(
        name or card.base.name,
        revision=card.base.revision if own else None,
        dtype=card.dtype,
        quantize=card.quantize,
    )


def read_answer(form: Form, text: str) -> Prediction:
    """A written answer as a prediction; one that does not fit is an error value."""
    try:
        values = form.read(text)
    except FormError as error:
        return Prediction.failed(str(error), raw=text)
    return Prediction(fields={name: FieldValue(value) for name, value in values.items()}, raw=text)


def stop_tokens(base: Base) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's, the generation config's."""
    configured = base.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    found = {token for token in (*listed, base.tokenizer.eos_token_id) if token is not None}
    return tuple(sorted(found))


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
