"""Continue rows of different lengths side by side, with our own KV cache, masks and positions.

One pass may run several branches of a row: options to compare with each other. Each token attends to its row's prompt,
to the tokens of the answer that it follows, and to itself. Nothing depends on state inside the model.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache

from vlm_ft.bases.attention import behind
from vlm_ft.bases.families import TOKEN_TYPES, Family
from vlm_ft.bases.positions import positions_of

Forward = Callable[..., Any]
"""``forward(rows, **inputs)``: the model's output for these rows of a batch, each with its own adapter."""


@dataclass(frozen=True)
class Branch:
    """Tokens to run after the prompt and the answer's tokens with the numbers `after`.

    `alone`: whether all later tokens of this row follow these.
    """

    tokens: tuple[int, ...]
    after: tuple[int, ...] = ()
    alone: bool = False


@dataclass(frozen=True)
class BranchResult:
    """The next token's logits (vocabulary,), their logsumexp, and the numbers of the branch's tokens."""

    logits: Tensor
    total: float
    places: tuple[int, ...]


Branches = Mapping[int, Sequence[Branch]]
"""Row of the batch -> its branches."""


WORTH_SHARING = 16
"""The fewest tokens of a shared prefix: for fewer, its extra pass costs more than it saves."""


class Prefix:
    """The constant prefix of an adapter's prompts, computed once: its tokens, and each layer's keys and values."""

    def __init__(self, tokens: tuple[int, ...], forward: Forward, row: int, positions: Tensor) -> None:
        self.tokens = tokens
        cache = DynamicCache()
        ids = torch.tensor([tokens], device=positions.device)
        forward([row], input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        self.layers = [(layer.keys, layer.values) for layer in cache.layers]  # (1, heads, tokens, size) each


class BatchedRows:
    """Rows of a model whose only state is its keys and values: one pass runs the branches of all rows.

    Tokens are numbered by their columns in the cache; a column holds one token of each row.
    """

    def __init__(
        self,
        forward: Forward,
        model: Any,
        family: Family,
        batch: dict[str, Any],
        prefixes: Sequence[Prefix | None],
    ) -> None:
        """`batch`: prompts, padded left; `prefixes`: one for each row, or None."""
        text = model.config.get_text_config()
        sliding = "sliding_attention" in (getattr(text, "layer_types", None) or ())
        self._window = int(text.sliding_window) if sliding else None
        self._additive = model.dtype if model.config._attn_implementation == "eager" else None
        self._forward, self._family, self._batch, self._prefixes = forward, family, batch, prefixes
        self._positions = positions_of(model, family, batch)  # (rows, length), or (3, rows, length)
        self._next = self._positions[..., -1].reshape(-1, len(prefixes)).amax(0) + 1  # (rows,) where the answer begins
        self._cache = DynamicCache()
        self._rows: list[int] = []  # rows of the batch, in the order of the cache
        self._prompts = torch.empty(0)  # (rows, columns) bool: what every token of the answer attends to
        self._placed = torch.empty(0)  # (rows, columns) positions

    def run(self, branches: Branches) -> dict[int, list[BranchResult]]:
        """The results of these rows' branches. The first run also reads the prompts, and takes one branch per row."""
        return self._continue(branches) if self._rows else self._begin(branches)

    def _begin(self, branches: Branches) -> dict[int, list[BranchResult]]:
        """Read the prompts after their prefixes, each followed by the row's first tokens."""
        self._rows = list(branches)
        tails = [torch.tensor(only.tokens, device=self._next.device) for (only,) in branches.values()]
        inputs = self._first_inputs([self._prefixes[row] for row in self._rows], tails)
        mask = inputs["attention_mask"].bool()  # (rows, columns)
        with self._behind_prefixes():
            logits = self._forward(
                self._rows, **inputs, past_key_values=self._cache, use_cache=True, logits_to_keep=1
            ).logits[:, -1]
        columns = mask.shape[1]
        places = [tuple(range(columns - len(tail), columns)) for tail in tails]
        self._prompts = mask.clone()
        for index, numbers in enumerate(places):
            self._prompts[index, list(numbers)] = False
        self._placed = inputs["position_ids"].reshape(-1, *mask.shape)[0]
        return {row: [seen] for row, seen in zip(self._rows, _results(logits, places), strict=True)}

    def _first_inputs(self, prefixes: Sequence[Prefix | None], tails: Sequence[Tensor]) -> dict[str, Any]:
        """The batch without the prefixes, each row followed by its tail, padded left."""
        cuts = [len(prefix.tokens) if prefix is not None else 0 for prefix in prefixes]
        masks = [self._batch["attention_mask"][row].bool() for row in self._rows]

        def joined(values: Tensor, ends: Sequence[Tensor]) -> Tensor:
            own = [values[row][mask][cut:] for row, mask, cut in zip(self._rows, masks, cuts, strict=True)]
            rows = [torch.cat(pair) for pair in zip(own, ends, strict=True)]
            return pad_sequence(rows, batch_first=True, padding_side="left")

        inputs = dict(self._batch)
        inputs["input_ids"] = joined(inputs["input_ids"], tails)
        inputs["attention_mask"] = joined(inputs["attention_mask"], [torch.ones_like(tail) for tail in tails])
        for key in TOKEN_TYPES:
            if key in inputs:
                answer = [torch.full_like(tail, self._family.answer_token_type) for tail in tails]
                inputs[key] = joined(inputs[key], answer)
        steps = [torch.arange(len(tail), device=tail.device) for tail in tails]
        placed = [self._next[row] + step for row, step in zip(self._rows, steps, strict=True)]
        flat = self._positions.ndim == 2
        layers = [joined(layer, placed) for layer in ([self._positions] if flat else self._positions)]
        inputs["position_ids"] = layers[0] if flat else torch.stack(layers)
        return inputs

    def _continue(self, branches: Branches) -> dict[int, list[BranchResult]]:
        if 2 * len(branches) <= len(self._rows):
            self._keep(list(branches))
        device, columns = self._prompts.device, self._prompts.shape[1]
        width = max(sum(len(branch.tokens) for branch in row) for row in branches.values())
        ids = torch.zeros((len(self._rows), width), dtype=torch.long)
        placed = torch.zeros_like(ids)
        mask = torch.zeros((len(self._rows), width, columns + width), dtype=torch.bool)
        mask[:, range(width), range(columns, columns + width)] = True  # even padding attends to itself
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
                causal = torch.ones(end - start, end - start, dtype=torch.bool).tril()
                mask[index, start:end, columns + start : columns + end] = causal
                ends.append((index, end - 1))
                places.append(tuple(range(columns + start, columns + end)))
                start = end
        self._prompts = functional.pad(self._prompts, (0, width))
        self._placed = torch.cat([self._placed, placed.to(device)], 1)
        kept = sorted({end for _, end in ends})
        with self._behind_prefixes():
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
        found = iter(_results(chosen, places))
        return {row: [next(found) for _ in branches[row]] for row in self._rows if row in branches}

    def _mask(self, mask: Tensor) -> Any:
        """The mask (rows, new, columns) as (rows, 1, new, columns), one for each kind of layer if they differ."""
        if self._window is None:
            return self._shaped(mask)
        new = self._placed[:, -mask.shape[1] :]
        near = new[:, :, None] - self._placed[:, None, :] < self._window
        return {"full_attention": self._shaped(mask), "sliding_attention": self._shaped(mask & near)}

    def _shaped(self, mask: Tensor) -> Tensor:
        if self._additive is None:
            return mask[:, None]
        minimum = torch.finfo(self._additive).min
        return torch.zeros(mask.shape, dtype=self._additive, device=mask.device).masked_fill(~mask, minimum)[:, None]

    def _keep(self, rows: list[int]) -> None:
        """Keep only these rows; the others are done."""
        chosen = torch.tensor([self._rows.index(row) for row in rows], device=self._prompts.device)
        self._cache.batch_select_indices(chosen)
        self._rows, self._prompts, self._placed = rows, self._prompts[chosen], self._placed[chosen]

    def _behind_prefixes(self) -> AbstractContextManager[None]:
        prefixes = [self._prefixes[row] for row in self._rows]
        return behind([prefix.layers if prefix is not None else None for prefix in prefixes])


class RecurrentRow:
    """A single row of a model with a recurrent state: one token at a time, with a copy of the state for each branch.

    `after` identifies a state, so tokens are numbered in the order in which they run.
    """

    def __init__(self, forward: Forward, model: Any, family: Family, batch: dict[str, Any]) -> None:
        """`batch`: one prompt."""
        self._forward, self._batch = forward, batch
        self._positions = positions_of(model, family, batch)
        self._states: dict[tuple[int, ...], DynamicCache] = {}
        self._config = model.config.get_text_config()
        self._ran = 0

    def run(self, branches: Branches) -> dict[int, list[BranchResult]]:
        """Like `BatchedRows.run`, for the single row."""
        ((row, asked),) = branches.items()
        if not self._states:
            self._states[()] = DynamicCache(config=self._config)
            self._pass(row, self._states[()], self._batch, self._positions)
        return {row: [self._branch(row, branch) for branch in asked]}

    def _branch(self, row: int, branch: Branch) -> BranchResult:
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
        return _results(logits, [after[len(branch.after) :]])[0]

    def _pass(self, row: int, state: DynamicCache, inputs: dict[str, Any], positions: Tensor) -> Tensor:
        output = self._forward(
            [row], **inputs, position_ids=positions, past_key_values=state, use_cache=True, logits_to_keep=1
        )
        return output.logits[:, -1]  # type: ignore[no-any-return]


def _results(logits: Tensor, places: Sequence[tuple[int, ...]]) -> list[BranchResult]:
    """The results of branches, from logits (branches, vocabulary) and the numbers of their tokens."""
    logits = logits.float().cpu()
    totals = logits.logsumexp(-1).tolist()
    return [BranchResult(row, total, numbers) for row, total, numbers in zip(logits, totals, places, strict=True)]
