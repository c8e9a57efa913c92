"""`FormDecoder`: decodes answers to forms, as typed fields with a distribution for each closed one."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import takewhile

import numpy as np
import torch

from vlm_ft.answers.box_format import Size
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import BoxKind, Items, Kind, spanned_box
from vlm_ft.answers.prediction import Distribution, FieldValue, Item, Prediction, option_name
from vlm_ft.answers.task import Values
from vlm_ft.bases.load import Base
from vlm_ft.bases.positions import first_positions
from vlm_ft.decoding.decisions import SIDES, Path
from vlm_ft.decoding.prompts import Prompts
from vlm_ft.decoding.rows import WORTH_SHARING, BatchedRows, Branch, BranchResult, Forward, Prefix, RecurrentRow
from vlm_ft.decoding.tokens import AnswerTokens
from vlm_ft.decoding.writing import AnswerTooLongError, OnToken, Outcome, Sampling, write

PREFIXES = 64  # cached prefixes, one or two per adapter; the least recently used is dropped first
OnText = Callable[[Values], None]
"""Called with the values of an answer so far; the last one is the text being written."""

IDLE = [Branch((0,))]  # runs one token whose result is ignored


class FormDecoder:
    """Decodes for one base, with a cache for the constant prefixes of its adapters' prompts."""

    def __init__(self, base: Base) -> None:
        self._model, self._family = base.model, base.family
        self._limit = base.reader.max_length
        vocabulary = int(base.model.get_output_embeddings().weight.shape[0])
        tokenizer = copy.deepcopy(base.reader.tokenizer)  # another thread may tokenize prompts at the same time
        self._tokens = AnswerTokens(tokenizer, vocabulary)
        kinds = set(getattr(base.model.config.get_text_config(), "layer_types", None) or ())
        self.one_by_one = base.family.recurrent or bool(kinds - {"full_attention", "sliding_attention"})
        self._shares = base.reader.reuses_prefix
        self._prefixes: OrderedDict[tuple[str, bool, tuple[int, ...]], Prefix] = OrderedDict()

    def decode(
        self,
        forward: Forward,
        names: Sequence[str],
        prompts: Prompts,
        sampling: Sampling | None = None,
        on_text: Sequence[OnText | None] = (),
    ) -> list[Prediction]:
        """One prediction per prompt; an answer that is too long gives a failed one.

        `names`: the adapter of each prompt. `on_text`: for each prompt, what to call while a text of its answer is
        written.
        """
        listeners = [on_text[row] if on_text else None for row in range(len(prompts.forms))]
        writers = [
            write(form, self._tokens, self._limit - length, sampling, _on_token(form, size, listener))
            for form, length, size, listener in zip(
                prompts.forms, prompts.lengths, prompts.sizes, listeners, strict=True
            )
        ]
        rows = self._rows(forward, names, prompts)
        results: dict[int, Mapping[Path, Outcome] | None] = {}
        seen: Mapping[int, list[BranchResult]] = {}
        while len(results) < len(writers):
            asked: dict[int, list[Branch]] = {}
            for row, writer in enumerate(writers):
                if row in results:
                    continue
                try:
                    asked[row] = writer.send(seen[row]) if seen else next(writer)
                except StopIteration as end:
                    results[row] = end.value
                except AnswerTooLongError:
                    results[row] = None
            if asked and not seen:  # all prompts are read at once, even if a row has nothing to decide
                asked = {row: asked.get(row, IDLE) for row in range(len(writers))}
            if asked:
                seen = rows.run(asked)
        return [
            self._prediction(form, results[row], size)
            for row, (form, size) in enumerate(zip(prompts.forms, prompts.sizes, strict=True))
        ]

    def _rows(self, forward: Forward, names: Sequence[str], prompts: Prompts) -> RecurrentRow | BatchedRows:
        if self.one_by_one:
            return RecurrentRow(forward, self._model, self._family, prompts.batch)
        prefixes = [self._prefix(forward, row, name, prompts) for row, name in enumerate(names)]
        return BatchedRows(forward, self._model, self._family, prompts.batch, prefixes)

    def _prefix(self, forward: Forward, row: int, name: str, prompts: Prompts) -> Prefix | None:
        """The prefix that all prompts of the row's form share, computed on first use; None if it is not shared."""
        batch, constant = prompts.batch, prompts.constants[row]
        ids = batch["input_ids"][row][batch["attention_mask"][row].bool()].tolist()
        length = next((at for at, pair in enumerate(zip(ids, constant, strict=False)) if pair[0] != pair[1]), 0)
        if not self._shares or length < WORTH_SHARING:
            return None
        device = batch["input_ids"].device
        key = name, torch.is_autocast_enabled(device.type), tuple(ids[:length])
        if key not in self._prefixes:
            positions = first_positions(self._family, length, device)
            self._prefixes[key] = Prefix(key[2], forward, row, positions)
        self._prefixes.move_to_end(key)
        while len(self._prefixes) > PREFIXES:
            self._prefixes.popitem(last=False)
        return self._prefixes[key]

    def forget(self, names: Iterable[str]) -> None:
        """Drop the prefixes of these adapters."""
        gone = set(names)
        for key in [key for key in self._prefixes if key[0] in gone]:
            del self._prefixes[key]

    def _prediction(self, form: Form, outcomes: Mapping[Path, Outcome] | None, size: Size | None) -> Prediction:
        if outcomes is None:
            return Prediction.failed(f"the answer does not fit the base's {self._limit} tokens")
        fields = _Fields(form, outcomes, size)
        return Prediction(fields={spec.name: fields.read(spec.kind, (spec.name,)) for spec in form.fields})


def _on_token(form: Form, size: Size | None, on_text: OnText | None) -> OnToken | None:
    """A listener for tokens that calls `on_text` with the values of the form's fields up to the one being written."""
    if on_text is None:
        return None

    def on_token(outcomes: Mapping[Path, Outcome], path: Path, text: str) -> None:
        name, *within = path
        if not within:  # not a text in an item of a list
            fields = _Fields(form, outcomes, size)
            before = takewhile(lambda spec: spec.name != name, form.fields)
            on_text({**{spec.name: fields.read(spec.kind, (spec.name,)).value for spec in before}, str(name): text})

    return on_token


class _Fields:
    """Assembles the outcomes of decisions, field by field."""

    def __init__(self, form: Form, outcomes: Mapping[Path, Outcome], size: Size | None) -> None:
        self._boxes, self._outcomes, self._size = form.boxes, outcomes, size

    def read(self, kind: Kind, path: Path) -> FieldValue:
        match kind:
            case BoxKind():
                return self._box(path)
            case Items():
                return self._list(kind, path)
        outcome = self._outcomes[path]
        return FieldValue(outcome.value, None if outcome.mass is None else _distribution(outcome), outcome.legal)

    def _box(self, path: Path) -> FieldValue:
        sides = [self._outcomes[(*path, side)] for side in range(SIDES)]
        spreads = [_deviation(side) for side in sides]
        return FieldValue(
            spanned_box(
                self._boxes.stored([side.value if side.mean is None else side.mean for side in sides], self._size)
            ),
            legal=min(side.legal for side in sides),
            spread=tuple(self._boxes.stored(spreads, self._size)),
        )

    def _list(self, kind: Items, path: Path) -> FieldValue:
        """A list's items, and the distribution of their number, given the items listed."""
        items: list[Item] = []
        counts: dict[str, float] = {}
        more, legal = 1.0, 1.0
        for place in range(kind.max_items):
            outcome = self._outcomes[(*path, place)]
            legal = min(legal, outcome.legal)
            exists = _distribution(outcome)["true"]
            counts[str(place)] = more * (1 - exists)
            more *= exists
            if not outcome.value:
                break
            parts = {part.name: self.read(part.kind, (*path, place, part.name)) for part in kind.fields}
            items.append(Item(exists, parts))
        most = len(items) + (1 if len(counts) > len(items) else 0)
        counts[f"{most} or more" if most < kind.max_items else str(most)] = more
        values = [{name: part.value for name, part in item.parts.items()} for item in items]
        return FieldValue(values, counts, legal, items=tuple(items))


def _distribution(outcome: Outcome) -> Distribution:
    assert outcome.options is not None
    assert outcome.mass is not None
    return {option_name(value): float(mass) for value, mass in zip(outcome.options.values, outcome.mass, strict=True)}


def _deviation(side: Outcome) -> float:
    """The standard deviation of one side of a box, in the units of the base's convention."""
    assert side.mass is not None
    places = np.arange(len(side.mass))
    mean = (places * side.mass).sum()
    return float(np.sqrt((((places - mean) ** 2) * side.mass).sum()))
