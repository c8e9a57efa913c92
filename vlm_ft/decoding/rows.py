"""Rows of different lengths, going on side by side: keys and values, masks and positions, all supplied by us.

A pass may run several branches of one row: options that are weighed against each other. Each token attends to its
row's prompt, to the tokens of the answer that it follows, and to itself; no state of the model is relied upon.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from vlm_ft.bases.families import TOKEN_TYPES, Family
from vlm_ft.bases.positions import positions_of

Forward = Callable[..., Any]
"""``forward(rows, **inputs)``: the model's output for these rows of a batch, under the adapter of each."""


@dataclass(frozen=True)
class Branch:
    """Tokens to run: they follow the prompt, and the tokens of the answer that `after` numbers.

    `alone`: whatever comes later in this row follows these tokens.
    """

    tokens: tuple[int, ...]
    after: tuple[int, ...] = ()
    alone: bool = False


@dataclass(frozen=True)
class Seen:
    """What a branch leads to: the scores (vocabulary,) of the next token, their logsumexp, the tokens' numbers."""

    logits: Tensor
    total: float
    places: tuple[int, ...]


Branches = Mapping[int, Sequence[Branch]]
"""Row of the batch -> its branches."""


class Rows(Protocol):
    """A batch of prompts, and the answers that go on from them."""

    def run(self, branches: Branches) -> dict[int, list[Seen]]:
        """What the branches of these rows lead to. The first run reads the prompts, each with its one branch."""


class Prefix:
    """The constant beginning of an adapter's prompts, computed once: its tokens, and each layer's keys and values."""

    def __init__(self, tokens: tuple[int, ...], forward: Forward, row: int, positions: Tensor) -> None:
        self.tokens = tokens
        cache = DynamicCache()
        ids = torch.tensor([tokens], device=positions.device)
        forward([row], input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self.layers = [(layer.keys, layer.values) for layer in cache.layers]  # (1, heads, tokens, size) each


class Together:
    """Rows of a model that keeps nothing but keys and values: all go through a pass together, branches and all.

    Tokens are numbered by the columns that they take in the cache; a column belongs to one token of each row.
    """

    def __init__(
        self,
        forward: Forward,
        model: Any,
        family: Family,
        batch: dict[str, Any],
        prefixes: Sequence[Prefix | None],
    ) -> None:
        """`batch`: prompts, padded left; `prefixes`: of each row, or None."""
        text = model.config.get_text_config()
        sliding = "sliding_attention" in (getattr(text, "layer_types", None) or ())
        self._window = int(text.sliding_window) if sliding else None
        self._additive = model.dtype if model.config._attn_implementation == "eager" else None
        self._forward, self._family, self._batch, self._prefixes = forward, family, batch, prefixes
        self._positions = positions_of(model, family, batch)  # (rows, length), or (3, rows, length)
        self._next = self._positions[..., -1].reshape(-1, len(prefixes)).amax(0) + 1  # (rows,) of the answer's first
        self._cache = DynamicCache()
        self._rows: list[int] = []  # of the batch, as the cache holds them
        self._prompts = torch.empty(0)  # (rows, columns) bool: what every token of the answer attends to
        self._placed = torch.empty(0)  # (rows, columns) positions

    def run(self, branches: Branches) -> dict[int, list[Seen]]:
        """As `Rows.run`."""
        return self._go_on(branches) if self._rows else self._begin(branches)

    def _begin(self, branches: Branches) -> dict[int, list[Seen]]:
        """Read the prompts, without what their prefixes hold, each followed by its row's first tokens."""
        self._rows = list(branches)
        tails = [torch.tensor(only.tokens, device=self._next.device) for (only,) in branches.values()]
        prefixes = [self._prefixes[row] for row in self._rows]
        led = _lead(prefixes, self._cache).to(self._next.device)
        inputs = self._first_inputs(prefixes, tails)
        own = inputs.pop("attention_mask").bool()
        mask = torch.cat([led, own], 1)  # (rows, columns)
        logits = self._forward(
            self._rows,
            **inputs,
            attention_mask=mask.long(),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
        columns = mask.shape[1]
        places = [tuple(range(columns - len(tail), columns)) for tail in tails]
        self._prompts = mask.clone()
        for index, numbers in enumerate(places):
            self._prompts[index, list(numbers)] = False
        self._placed = functional.pad(inputs["position_ids"].reshape(-1, *own.shape)[0], (led.shape[1], 0))
        return {row: [seen] for row, seen in zip(self._rows, _seen(logits, places), strict=True)}

    def _first_inputs(self, prefixes: Sequence[Prefix | None], tails: Sequence[Tensor]) -> dict[str, Any]:
        """The batch from the ends of the prefixes on, with the tails, padded left."""
        cuts = [len(prefix.tokens) if prefix is not None else 0 for prefix in prefixes]
        masks = [self._batch["attention_mask"][row].bool() for row in self._rows]

        def joined(values: Tensor, ends: Sequence[Tensor]) -> Tensor:
            own = [values[row][mask][cut:] for row, mask, cut in zip(self._rows, masks, cuts, strict=True)]
            return _padded([torch.cat(pair) for pair in zip(own, ends, strict=True)])

        inputs = dict(self._batch)
        inputs["input_ids"] = joined(inputs["input_ids"], tails)
        inputs["attention_mask"] = joined(inputs["attention_mask"], [torch.ones_like(tail) for tail in tails])
        for key in TOKEN_TYPES:
            if key in inputs:
                kind = dict([self._family.suffix_token_type or (key, 0)]).get(key, 0)
                inputs[key] = joined(inputs[key], [torch.full_like(tail, kind) for tail in tails])
        steps = [torch.arange(len(tail), device=tail.device) for tail in tails]
        placed = [self._next[row] + step for row, step in zip(self._rows, steps, strict=True)]
        flat = self._positions.ndim == 2
        layers = [joined(layer, placed) for layer in ([self._positions] if flat else self._positions)]
        inputs["position_ids"] = layers[0] if flat else torch.stack(layers)
        return inputs

    def _go_on(self, branches: Branches) -> dict[int, list[Seen]]:
        if 2 * len(branches) <= len(self._rows):
            self._keep(list(branches))
        device, columns = self._prompts.device, self._prompts.shape[1]
        width = max(sum(len(branch.tokens) for branch in row) for row in branches.values())
        ids = torch.zeros((len(self._rows), width), dtype=torch.long)
        placed = torch.zeros_like(ids)
        mask = torch.zeros((len(self._rows), width, columns + width), dtype=torch.bool)
        mask[:, range(width), range(columns, columns + width)] = True  # padding, too, attends to something
        ends: list[tuple[int, int]] = []
        places: list[tuple[int, ...]] = []
        for index, row in enumerate(self._rows):
            start = 0
            for branch in branches.get(row, ()):
                end = start + len(branch.tokens)
                ids[index, start:end] = torch.tensor(branch.tokens)
                placed[index, start:end] = int(self._next[row]) + len(branch.after) + torch.arange(end - start)
                mask[index, start:end, :columns] = self._prompts[index].cpu()
                mask[index, start:end, list(branch.after)] = True
                mask[index, start:end, columns + start : columns + end] = _lower(end - start)
                ends.append((index, end - 1))
                places.append(tuple(range(columns + start, columns + end)))
                start = end
        self._prompts = functional.pad(self._prompts, (0, width))
        self._placed = torch.cat([self._placed, placed.to(device)], 1)
        kept = sorted({end for _, end in ends})
        logits = self._forward(
            self._rows,
            input_ids=ids.to(device),
            attention_mask=self._mask(mask.to(device)),
            position_ids=(placed.expand(3, -1, -1) if self._positions.ndim == 3 else placed).to(device),
            past_key_values=self._cache,
            use_cache=True,
            logits_to_keep=torch.tensor(kept, device=device),
        ).logits
        chosen = torch.stack([logits[index, kept.index(end)] for index, end in ends])
        found = iter(_seen(chosen, places))
        return {row: [next(found) for _ in branches[row]] for row in self._rows if row in branches}

    def _mask(self, mask: Tensor) -> Any:
        """(rows, new, columns) bool as attention takes it: (rows, 1, new, columns), for each kind of layer."""
        if self._window is None:
            return self._shaped(mask)
        new = self._placed[:, -mask.shape[1] :]
        near = new[:, :, None] - self._placed[:, None, :] < self._window
        return {"full_attention": self._shaped(mask), "sliding_attention": self._shaped(mask & near)}

    def _shaped(self, mask: Tensor) -> Tensor:
        if self._additive is None:
            return mask[:, None]
        least = torch.finfo(self._additive).min
        return torch.zeros(mask.shape, dtype=self._additive, device=mask.device).masked_fill(~mask, least)[:, None]

    def _keep(self, rows: list[int]) -> None:
        """Let go of the rows that are done."""
        chosen = torch.tensor([self._rows.index(row) for row in rows], device=self._prompts.device)
        self._cache.batch_select_indices(chosen)
        self._rows, self._prompts, self._placed = rows, self._prompts[chosen], self._placed[chosen]


class OneByOne:
    """The one row of a model with a running state: token after token, and a copy of the state for each branch.

    `after` names a state, so tokens are numbered as they run.
    """

    def __init__(self, forward: Forward, model: Any, family: Family, batch: dict[str, Any]) -> None:
        """`batch`: one prompt."""
        self._forward, self._batch = forward, batch
        self._positions = positions_of(model, family, batch)
        self._states: dict[tuple[int, ...], DynamicCache] = {}
        self._config = model.config.get_text_config()
        self._ran = 0

    def run(self, branches: Branches) -> dict[int, list[Seen]]:
        """As `Rows.run`."""
        ((row, asked),) = branches.items()
        if not self._states:
            self._states[()] = DynamicCache(config=self._config)
            self._pass(row, self._states[()], self._batch, self._positions)
        return {row: [self._branch(row, branch) for branch in asked]}

    def _branch(self, row: int, branch: Branch) -> Seen:
        state = self._states[branch.after]
        if branch.alone:
            self._states.clear()
        else:
            state = copy.deepcopy(state)
        after, logits = branch.after, torch.empty(0)
        start = int(self._positions[..., -1].max()) + 1
        for token in branch.tokens:
            position = self._positions[..., -1:] * 0 + start + len(after)
            length = self._batch["input_ids"].shape[1] + len(after) + 1
            inputs = {
                "input_ids": torch.tensor([[token]], device=position.device),
                "attention_mask": torch.ones((1, length), dtype=torch.long, device=position.device),
            }
            logits = self._pass(row, state, inputs, position)
            after = (*after, self._ran)
            self._ran += 1
        self._states[after] = state
        return _seen(logits, [after[len(branch.after) :]])[0]

    def _pass(self, row: int, state: DynamicCache, inputs: dict[str, Any], positions: Tensor) -> Tensor:
        output = self._forward(
            [row], **inputs, position_ids=positions, past_key_values=state, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1]  # type: ignore[no-any-return]


def _seen(logits: Tensor, places: Sequence[tuple[int, ...]]) -> list[Seen]:
    """(branches, vocabulary) scores and the branches' places, put together."""
    logits = logits.float().cpu()
    totals = logits.logsumexp(-1).tolist()
    return [Seen(row, total, numbers) for row, total, numbers in zip(logits, totals, places, strict=True)]


def _lower(side: int) -> Tensor:
    """(side, side) bool: each token attends to itself and to those before it."""
    return torch.ones(side, side, dtype=torch.bool).tril()


def _padded(rows: Sequence[Tensor]) -> Tensor:
    """Rows of different lengths to (rows, longest), padded left with 0."""
    return pad_sequence(list(rows), batch_first=True, padding_side="left")


def _lead(prefixes: Sequence[Prefix | None], cache: DynamicCache) -> Tensor:
    """Put each row's prefix into the empty cache, padded left; (rows, longest) bool, where there is one."""
    lengths = [len(prefix.tokens) if prefix is not None else 0 for prefix in prefixes]
    longest = max(lengths)
    found = next((prefix for prefix in prefixes if prefix is not None), None)
    for layer, parts in enumerate(found.layers if found else ()):
        if all(prefix is found for prefix in prefixes):
            joined = [part.expand(len(prefixes), -1, -1, -1) for part in parts]
        else:
            none = tuple(part[:, :, :0] for part in parts)
            rows = [prefix.layers[layer] if prefix is not None else none for prefix in prefixes]
            joined = [torch.cat([_filled(part, longest) for part in same]) for same in zip(*rows, strict=True)]
        cache.update(*joined, layer)
    return torch.arange(longest) >= longest - torch.tensor(lengths)[:, None]


def _filled(part: Tensor, length: int) -> Tensor:
    """Keys or values (1, heads, tokens, size), padded left to so many tokens."""
    return functional.pad(part, (0, 0, length - part.shape[2], 0))
