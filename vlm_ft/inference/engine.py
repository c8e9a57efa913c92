"""`Engine`: one base and any number of adapters, resident together; requests in, predictions out."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image

from datasets_vision.example import Picture
from datasets_vision.images import opened
from vlm_ft.adapters import Card, read_card
from vlm_ft.answers.confidence import before_tempering, with_confidence
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.bf16_weights import Bf16Weights, linear_layers
from vlm_ft.bases.limits import Limits
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.precision import Precision, autocast, uses_bf16
from vlm_ft.bases.shared_images import Seen, SharedImages, Views, tower_once_per_image
from vlm_ft.card_base import base_of, require_base
from vlm_ft.conversation import Conversation, Row, photos_shown
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.errors import AdapterError, DataError, FormError, nearest
from vlm_ft.inference.admission import Admission
from vlm_ft.inference.familiarity import Description, Extractor, Rows, in_words, strangeness
from vlm_ft.inference.request import BASE, Attributed, Request
from vlm_ft.inference.residents import Residents
from vlm_ft.inference.tiling import predict_tiled, tiling_of

_REPLACEMENT = "\0replacement"  # the name under which a replacement is loaded; no adapter can have it


class Engine:
    """Answers requests for the bare base and for every adapter that was added. Thread-safe.

    `memory`: the budget for adapters in bytes (see `Residents`). `waiting`: the maximum number of requests that all
    threads together may have in progress (see `Admission`). `precision`: of the forward passes; "auto" is bf16 if that
    is faster here and the adapter's card says that its answers agree (see `Agreement`).

    >>> from vlm_ft import Engine, Request
    >>> engine = Engine.open([Path("runs/mine/adapter")])
    >>> (adapter,) = engine.cards
    >>> (prediction,) = engine.predict([Request(images=(Path("photos/0.png"),), adapter=adapter)])
    >>> list(prediction.values)
    ['passed', 'kind']
    """

    def __init__(
        self,
        base: Base,
        folders: Mapping[str, Path] | None = None,
        *,
        batch_size: int = 16,
        memory: int | None = None,
        waiting: int | None = None,
        precision: Precision = "fp32",
    ) -> None:
        self.base = base
        self.precision: Precision = precision
        self.batch_size = batch_size
        self.cards: dict[str, Card] = {}
        self._weights = Bf16Weights(linear_layers(base.model, base.family))
        self._decoder = FormDecoder(base)
        self._residents = Residents(base, memory, self._decoder.forget)
        self._lock = threading.Lock()  # the Qwen families keep rope_deltas as module state
        self._reading = threading.Lock()  # tokenizers keep their padding as state
        self._admission = Admission(waiting)
        self._conversation = cache(lambda limits: Conversation(base.reader.limited(limits)))
        self._extractor = cache(lambda limits: Extractor(base, limits))
        self._known: dict[str, Description] = {}  # what the adapters were trained on
        for name, folder in (folders or {}).items():
            self.add(name, folder)

    @classmethod
    def open(cls, folders: Sequence[Path], *, base: str | None = None, **options: Any) -> Engine:
        """An engine with these adapters, on `base` or, by default, on the base that the first one's card names.

        `options`: see `Engine`.

        Raises `AdapterError` if a folder cannot be used, or its adapter belongs to another base.
        """
        if not folders and base is None:
            raise AdapterError("", "no adapter given", "name an adapter folder, or a base")
        cards = {folder: read_card(folder) for folder in folders}
        first = next(iter(cards.items()), None)
        loaded = base_of(first[1], first[0], base) if first is not None else load_base(str(base))
        names: dict[str, Path] = {}
        for folder, card in cards.items():
            numbered = (f"{card.name}-{number}" for number in count(2))
            names[next(name for name in chain([card.name], numbered) if name not in names)] = folder
        return cls(loaded, names, **options)

    def add(self, name: str, folder: Path, number: int | None = None) -> None:
        """Make an adapter resident. `number`: of its version in a registry.

        Raises `AdapterError` if its name is taken, it belongs to another base, is a reward model, or lacks tensors.
        """
        if name == BASE or name in self.cards:
            raise AdapterError(f"adapter {folder}", f"the name {name!r} is taken", "give another one")
        card, known = self._usable(name, folder, number)
        with self._admission.alone(), self._lock:
            if not card.weights:  # otherwise, the folder is the resident base itself
                self._residents.add(name, folder, card)
            self._serve(name, card, known)

    def replace(self, name: str, folder: Path, number: int | None = None) -> None:
        """Serve another adapter under a name that is being served; requests in progress get the old one's answers.

        Raises `AdapterError` as `add` does, and for a whole model; the old adapter then stays.
        """
        card, known = self._usable(name, folder, number)
        if card.weights or self.cards[name].weights:
            raise AdapterError(f"adapter {folder}", "a whole model cannot be replaced while it is served", "restart")
        with self._admission.alone(), self._lock:
            self._residents.add(_REPLACEMENT, folder, card)
            self._residents.replace(name, _REPLACEMENT)
            self._serve(name, card, known)

    def _usable(self, name: str, folder: Path, number: int | None) -> tuple[Card, Description | None]:
        """The card of an adapter that can be served under this name, beside this base, and what it was trained on."""
        card = read_card(folder).model_copy(update={"name": name, "number": number})
        with self._reading:
            require_base(card, folder, self.base)
        if card.method == "reward":
            raise AdapterError(
                f"adapter {folder}",
                "is a reward model, which only scores answers",
                "pass it to --reward of vlm-ft score",
            )
        return card, Description.read(folder) if card.familiar is not None else None

    def _serve(self, name: str, card: Card, known: Description | None) -> None:
        self._known.pop(name, None)
        if known is not None:
            self._known[name] = known
        self.cards = {**self.cards, name: card}  # a new mapping, for threads that are reading the old one

    def predict(self, requests: Sequence[Request]) -> list[Attributed]:
        """One prediction per request, in order, with the card of the adapter that gave it.

        An image that cannot be opened gives an error prediction.

        Raises `AdapterError` for an adapter that was not added or whose files have changed, `FormError` for a base
        request without a form, and `BusyError` if too many requests are in progress.
        """
        with self._admission.admit(len(requests)):
            forms = [self._form(request) for request in requests]
            tilings = [tiling_of(request, self._settings(request)) for request in requests]
            answers = predict_tiled(self._predict_untiled, requests, tilings, forms)
            return [self._finished(*each) for each in zip(requests, forms, answers, strict=True)]

    def features(self, name: str, pictures: Iterable[Picture | Image]) -> tuple[Rows, Rows]:
        """(photos, channels) the mean features of photos, and (exemplars, channels) those of training examples.

        They are those of the frozen base. An adapter without a description of its training photos has no exemplars.
        Raises `DataError` for a photo that cannot be opened.
        """
        with self._lock, self._forward_passes(self._precision_for(name)):
            found, _ = self._extractor(self.cards[name].limits).of_photos(pictures)
        known = self._known.get(name)
        none = np.zeros((0, *found.shape[1:]), dtype=np.float32)
        return found, known.exemplars if known is not None and known.of_photos else none

    def _finished(self, request: Request, form: Form, answer: Prediction) -> Attributed:
        """The answer with its derived results and, if the adapter answered its own form, with its confidence."""
        card = self.cards.get(request.adapter)
        if card is not None and form.fingerprint == card.form.fingerprint:
            answer = with_confidence(form, answer, card.confidence)
        precision: Precision = "bf16" if uses_bf16(self._precision_for(request.adapter)) else "fp32"
        return Attributed.to(card, replace(answer, derived=form.derive(answer.values)), precision)

    def _settings(self, request: Request) -> Card | None:
        """The card whose limits and tiling a request follows; None: it follows the base's own."""
        return self.cards.get(request.like or request.adapter)

    def _predict_untiled(self, requests: Sequence[Request]) -> list[Prediction]:
        """Like `predict`, but without tiling."""
        forms = [self._form(request) for request in requests]
        results: dict[int, Prediction] = {}
        photos: dict[Any, Image] = {}  # a photo that several requests share is opened once
        groups: dict[tuple[Limits, Precision, int, str | None], list[tuple[int, Row, Request]]] = defaultdict(list)
        for index, (request, form) in enumerate(zip(requests, forms, strict=True)):
            try:
                self._require_usable_input(request)
                for image in request.images:
                    if _key(image) not in photos:
                        photos[_key(image)] = opened(image)
                images = tuple(photos[_key(image)] for image in request.images)
            except DataError as error:
                results[index] = Prediction.failed(str(error))
                continue
            row = Row(form, request.turns, images)
            groups[self._group(request)].append((index, row, request))
        size = 1 if self._decoder.one_by_one else self.batch_size
        batches = [
            (key, members[start : start + size])
            for key, members in groups.items()
            for start in range(0, len(members), size)
        ]
        views = Views([photos_shown([row for _, row, _ in batch]) or () for _, batch in batches])
        for (limits, precision, *_), batch in batches:
            places, rows, asked = zip(*batch, strict=True)
            results |= dict(zip(places, self._answer(rows, asked, limits, precision, views), strict=True))
            views.done(photos_shown(rows) or ())
        return [results[index] for index in range(len(requests))]

    def _form(self, request: Request) -> Form:
        if request.adapter != BASE and request.adapter not in self.cards:
            raise AdapterError("", f"adapter {request.adapter!r} is not loaded", nearest(request.adapter, self.cards))
        if request.form is not None:
            return request.form
        if request.adapter == BASE:
            raise FormError("", "the bare base has no form of its own", "give one with the request")
        card = self.cards[request.adapter]
        if card.confidence is not None and card.form.thresholds:
            return before_tempering(card.form, card.confidence.temperatures)
        return card.form

    def _require_usable_input(self, request: Request) -> None:
        if not request.images and not request.turns:
            raise DataError("request", "neither image nor text", "give at least one")
        if request.images and not self.base.reader.sees:
            raise DataError(f"base {self.base.ref.name}", "takes no images", "send text, or choose a vision adapter")
        card = self.cards.get(request.adapter)
        if card and card.inputs == ("photo",) and not request.images:
            raise DataError("request", "has no photo, and this adapter was trained on photos only", "add a photo")
        if card and card.inputs == ("text",) and request.images:
            problem = "has a photo, and this adapter was trained on texts only"
            raise DataError("request", problem, "leave the photo out")

    def _precision_for(self, name: str) -> Precision:
        """The precision of an adapter's forward passes."""
        card = self.cards.get(name)
        agrees = card is not None and card.bf16 is not None and card.bf16.holds
        return "fp32" if self.precision == "auto" and not agrees else self.precision

    def _group(self, request: Request) -> tuple[Limits, Precision, int, str | None]:
        """What a batch shares: the limits, precision, number of images, and the adapter if mixing is not exact."""
        card = self._settings(request)
        limits = card.limits if card else Limits()
        # PEFT counts each image as a row
        mixes = len(request.images) <= 1 and not self._residents.stands_alone(request.adapter)
        precision = self._precision_for(request.adapter)
        return limits, precision, len(request.images), None if mixes else request.adapter

    def _answer(
        self, rows: Sequence[Row], requests: Sequence[Request], limits: Limits, precision: Precision, views: Views
    ) -> list[Prediction]:
        names, limit = [request.adapter for request in requests], self.base.reader.max_length
        with self._reading:  # one batch is read while another is answered
            prompts = self._conversation(limits).prompts(rows, self.base.device)
        lengths = prompts.lengths
        if max(lengths) < limit:
            look = self._tower_once(rows, names, prompts.batch, views.under((limits, precision)))
            forward, on_text = partial(self._residents.forward, names), [request.on_text for request in requests]
            with self._lock:
                self._residents.ensure_loaded(names)
                with self._forward_passes(precision), look as seen:
                    answers = self._decoder.decode(forward, names, prompts, on_text=on_text)
                    with self._reading:
                        return self._flag_unfamiliar(rows, names, answers, limits, seen)
        answers = [
            Prediction.failed(f"prompt of {length} tokens does not fit the base's {limit}; shorten the text")
            for length in lengths
        ]
        fitting = [place for place, length in enumerate(lengths) if length < limit]
        if fitting:  # a row that is too long does not fail the others
            own = [rows[place] for place in fitting], [requests[place] for place in fitting]
            shorter = self._answer(*own, limits, precision, views)
            for place, answer in zip(fitting, shorter, strict=True):
                answers[place] = answer
        return answers

    @contextmanager
    def _forward_passes(self, precision: Precision) -> Iterator[None]:
        weights = self._weights.in_place() if uses_bf16(precision) else nullcontext()
        with torch.inference_mode(), autocast(self.base.device, precision), weights:
            yield

    def _tower_once(
        self, rows: Sequence[Row], names: Sequence[str], batch: Mapping[str, Any], seen: Seen
    ) -> AbstractContextManager[SharedImages | None]:
        """A context in which the tower runs once on each photo of the batch, unless an adapter changes it.

        `seen`: the outputs for photos that other batches show too.
        """
        cards = [self.cards[name] for name in names if name in self.cards]
        tuned = {part for card in cards for part, word in card.tuned.items() if word != "frozen"}
        shown, family = photos_shown(rows), self.base.family
        if shown is None or "vision" in tuned:
            return nullcontext()
        own = "projector" in tuned and not family.separate_tower
        return tower_once_per_image(self.base.model, family, batch, shown, None if own else seen)

    def _flag_unfamiliar(
        self,
        rows: Sequence[Row],
        names: Sequence[str],
        answers: list[Prediction],
        limits: Limits,
        seen: SharedImages | None,
    ) -> list[Prediction]:
        """The answers, with the decision "ask a person" for rows that are unlike their adapter's training data.

        All rows have the same number of images. `seen`: the tower's output for them, if it can be reused.
        """
        extractor, photos = self._extractor(limits), bool(rows[0].images)
        for name in self._known.keys() & set(names):
            known, familiar = self._known[name], self.cards[name].familiar
            assert familiar is not None
            places = [place for place, own in enumerate(names) if own == name]
            if photos != known.of_photos:
                reason = f"the adapter was trained on examples {'without' if photos else 'with'} photos"
                for place in places:
                    answers[place] = answers[place].doubted(reason)
                continue
            features = seen.means(places) if seen is not None else None
            scores = known.scores(*extractor.of([rows[place] for place in places], features))
            for place, score, strange in zip(places, scores, strangeness(scores), strict=True):
                share = float(strange / familiar.threshold)
                answer = replace(answers[place], strange=share)
                answers[place] = answer.doubted(in_words(score, photos)) if share > 1 else answer
        return answers


def _key(image: Picture | Image) -> Any:
    return id(image) if isinstance(image, Image) else image
