"""Time the form decoder against `generate` with the same constraint, interleaved in one run.

The rival is the usual loop: the processor, `generate`, and a logits processor that keeps each answer within the form's
JSON schema (llguidance); at batch 1 also with the constant part of the prompt in a cache. All answer the same requests
on the same base without an adapter. The decoder is also timed without distributions (it follows one option, token by
token) and in bf16, whose answers are compared.
"""

from __future__ import annotations

import copy
import gc
import json
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil
import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from vlm_ft.adapters import TENSORS, adapter_folder
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction
from vlm_ft.bases.load import Base, load_base
from vlm_ft.bases.published import benchmark_base
from vlm_ft.conversation import Conversation, Row, moved
from vlm_ft.data.cases import Case, load
from vlm_ft.decoding.form_decoder import FormDecoder
from vlm_ft.decoding.tokens import unpacked
from vlm_ft.decoding.writing import Sampling
from vlm_ft.experiments.sheet import Sheet, interleaved
from vlm_ft.inference.engine import Engine
from vlm_ft.inference.request import Attributed, Request
from vlm_ft.recipe import RECIPES, load_recipe

ROUNDS = 5
ADAPTERS = 8
MAX_TOKENS = 200
WORKLOADS = (
    ("photos, batch 1", "steel_surface_voc", 1, 8.0, 1.1),
    ("photos, batch 8", "steel_surface_voc", 8, 3.0, 1.1),
    ("photos, four fields, batch 1", "synthetic_car_damage", 1, 8.0, 1.1),
    ("photos, four fields, batch 8", "synthetic_car_damage", 8, 3.0, 1.1),
    ("27 intents, batch 16", "customer_intents_csv", 16, 8.0, 1.4),
)
"""Name, recipe, requests at once, and two goals: the speed against `generate`, and the cost of distributions."""

GREEDY = 1e-4
"""A temperature at which the most probable token is practically always drawn."""


def benchmark(base: str, adapter: Path | None, out: Path, command: str, console: Console) -> None:
    """Time both decoders on every workload, and write the ratios of their medians to `out`.

    Given a photo adapter's folder, time a batch over eight copies of it against a batch over one instead.
    """
    sheet = Sheet(command, console)
    if adapter is not None:
        _mixed(adapter, sheet)
    else:
        _decoder(base, sheet)
    sheet.write(out)


def _decoder(base: str, sheet: Sheet) -> None:
    with benchmark_base(base) as place:
        loaded = load_base(place)
    engine = Engine(loaded, batch_size=16)
    fast = Engine(loaded, batch_size=16, precision="bf16")
    for name, recipe, count, speed, cost in WORKLOADS:
        if name.startswith("photos") and not loaded.reader.sees:
            continue
        dataset = load(load_recipe(RECIPES / f"{recipe}.yaml"))
        form, cases = dataset.form.with_boxes(loaded.boxes), dataset.cases["test"]
        parts = [cases[start : start + count] for start in range(0, (ROUNDS + 1) * count, count)]
        systems: list[Callable[[Sequence[Case]], Any]] = [
            partial(_answers, engine, form),
            Plain(loaded, form),
            _Greedy(loaded, form),
            partial(_answers, fast, form),
        ]
        if count == 1 and loaded.reader.reuses_prefix:
            systems.append(Cached(loaded, form))
        ours, theirs, greedy, in_bf16, *cached = interleaved(systems, parts)
        sheet.add(f"{base}: {name}, times as fast as generate", theirs / ours, speed, "higher", "x")
        sheet.add(f"{base}: {name}, time against an answer without distributions", ours / greedy, cost, "lower", "x")
        sheet.add(f"{base}: {name}, bf16, times as fast as fp32", ours / in_bf16, None, "higher", "x")
        for seconds in cached:
            title = f"{base}: {name}, times as fast as generate with a prompt cache"
            sheet.add(title, seconds / ours, None, "higher", "x")
        sheet.add(f"{base}: {name}, seconds a request", ours / count, None, "lower", "s")
        if count == 16:
            started = time.perf_counter()
            answers = _answers(engine, form, cases)
            taken = time.perf_counter() - started
            sheet.add(
                f"{base}: the {len(cases)} test messages", taken, 45.0 if base == "compact" else None, "lower", "s"
            )
            pairs = list(zip(answers, _answers(fast, form, cases), strict=True))
            alike = sum(one.values == other.values for one, other in pairs) / len(pairs)
            sheet.add(f"{base}: of these, answered alike in bf16", alike, None, "higher", "")


def _mixed(folder: Path, sheet: Sheet) -> None:
    """A batch over eight adapters against a batch over one, and the memory of each further adapter."""
    place = adapter_folder(folder)
    engine = Engine.open([place], batch_size=16)
    name, names = next(iter(engine.cards)), [f"copy {number}" for number in range(ADAPTERS)]
    with TemporaryDirectory() as made:
        copies = [_altered(place, Path(made) / other, 1 + number / 1000) for number, other in enumerate(names)]
        engine.add(names[0], copies[0])
        before = _resident()
        for other, copy in zip(names[1:], copies[1:], strict=True):
            engine.add(other, copy)
        added = (_resident() - before) / (ADAPTERS - 1)
    size = (place / TENSORS).stat().st_size
    sheet.add("memory of a further adapter, by its file", added / size, 1.1, "lower", "x")
    dataset = load(load_recipe(RECIPES / f"{WORKLOADS[0][1]}.yaml"))

    def asked(adapters: Sequence[str], part: Sequence[Case]) -> list[Attributed]:
        return engine.predict(
            [Request(case.example.images, adapter=adapters[at % len(adapters)]) for at, case in enumerate(part)]
        )

    cases = dataset.cases["test"]
    parts = [cases[start : start + 16] for start in range(0, (ROUNDS + 1) * 16, 16)]
    alone, mixed = interleaved((partial(asked, [name]), partial(asked, names)), parts)
    sheet.add("a batch of 16 over 8 adapters, against one", mixed / alone, 1.3, "lower", "x")


def _altered(folder: Path, copy: Path, factor: float) -> Path:
    """A copy of an adapter with other weights, since equal files would be loaded only once."""
    shutil.copytree(folder, copy)
    file = copy / TENSORS
    save_file({name: factor * tensor for name, tensor in load_file(file).items()}, file)
    return copy


def _resident() -> int:
    """The resident memory of this process, in bytes."""
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _answers(engine: Engine, form: Form, cases: Sequence[Case]) -> list[Attributed]:
    """The engine's answers about these cases."""
    return engine.predict([Request(case.example.images, case.example.turns, form=form) for case in cases])


class _Greedy:
    """The same decoder without distributions."""

    def __init__(self, base: Base, form: Form) -> None:
        self._base, self._form = base, form
        self._conversation, self._decoder = Conversation(base.reader), FormDecoder(base)
        self._sampling = Sampling(np.random.default_rng(0), GREEDY)

    def __call__(self, cases: Sequence[Case]) -> list[Prediction]:
        """The predictions."""
        rows = [Row(self._form, case.example.turns, case.example.images) for case in cases]
        with torch.inference_mode():
            return self._decoder.decode(
                lambda _, **inputs: self._base.model(**inputs),
                ["base"] * len(rows),
                self._conversation.prompts(rows, self._base.device),
                self._sampling,
            )


class Plain:
    """The rival: the processor and `generate`, within the form's schema."""

    def __init__(self, base: Any, form: Form) -> None:
        self._model, self._form = base.model, form
        self._conversation = Conversation(base.reader)
        self._vocabulary = int(base.model.get_output_embeddings().weight.shape[0])
        stops = base.model.generation_config.eos_token_id
        self._stops = stops if isinstance(stops, list) else [stops]
        self._tokenizer = base.reader.tokenizer
        self._guide = from_tokenizer(self._tokenizer, n_vocab=self._vocabulary, eos_token=self._stops)
        self._grammar = LLMatcher.grammar_from_json_schema(
            json.dumps(form.schema_of_answer), defaults={"whitespace_flexible": False}
        )

    def __call__(self, cases: Sequence[Case]) -> list[Any]:
        """The parsed answers."""
        rows = [Row(self._form, case.example.turns, case.example.images) for case in cases]
        with torch.inference_mode():
            batch = moved(self._conversation.encode(rows), self._model.device)
            length = batch["input_ids"].shape[1]
            matchers = [LLMatcher(self._guide, self._grammar) for _ in rows]
            written = self._model.generate(
                **batch,
                **self._start(batch),
                logits_processor=LogitsProcessorList([_GrammarMask(matchers, length, self._vocabulary)]),
                generation_config=GenerationConfig(
                    do_sample=False,
                    max_new_tokens=MAX_TOKENS,
                    eos_token_id=self._stops,
                    pad_token_id=self._tokenizer.pad_token_id,
                ),
            )
        texts = self._tokenizer.batch_decode(written[:, length:], skip_special_tokens=True)
        return [json.loads(text) for text in texts]

    def _start(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Extra arguments of `generate`."""
        return {}


class Cached(Plain):
    """The rival with the constant part of the prompt computed once, for one request at a time."""

    def __init__(self, base: Any, form: Form) -> None:
        super().__init__(base, form)
        self._constant = self._conversation.constant(form)
        self._length, self._cache = 0, DynamicCache()

    def _start(self, batch: dict[str, Any]) -> dict[str, Any]:
        if not self._length:
            pairs = zip(batch["input_ids"][0].tolist(), self._constant, strict=False)
            self._length = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            ids = batch["input_ids"][:, : self._length]
            self._model(input_ids=ids, past_key_values=self._cache, use_cache=True, logits_to_keep=1)
        return {"past_key_values": copy.deepcopy(self._cache)}


class _GrammarMask(LogitsProcessor):  # type: ignore[misc]
    """Masks the tokens that each row's grammar does not allow next."""

    def __init__(self, matchers: Sequence[LLMatcher], prompt_length: int, vocabulary: int) -> None:
        self._matchers, self._seen = matchers, prompt_length
        self._bitmask = allocate_token_bitmask(len(matchers), vocabulary)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Mask the scores (batch, vocabulary), given the tokens so far (batch, length)."""
        for row, (tokens, matcher) in enumerate(zip(input_ids[:, self._seen :].tolist(), self._matchers, strict=True)):
            for token in tokens:
                if not matcher.is_stopped():
                    matcher.consume_token(token)
            fill_next_token_bitmask(matcher, self._bitmask, row)
        self._seen = input_ids.shape[1]
        return scores.masked_fill(~unpacked(self._bitmask, scores.shape[1]).to(scores.device), float("-inf"))
