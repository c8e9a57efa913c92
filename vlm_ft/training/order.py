"""The order in which a run visits its cases: batches of prompts of similar lengths, in random order."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from math import ceil, sqrt

import torch
from torch.utils.data import Sampler

WINDOW = 50  # batches; the cases of a window are drawn at random, then sorted


class ByLength(Sampler[list[int]]):
    """Batches cases with prompts of similar lengths, since every row of a batch is padded to the longest one.

    Batches have `batch_size` cases each or, `by_tokens`, about equally many tokens, and `batch_size` cases on average.
    Either way all epochs have the same number of batches, from which a resumed run knows its place.

    The lengths of answers do not count: they differ from class to class, so that each batch would show one class, and
    the model would learn to repeat the class of the last batches.

    The order depends only on the seed and the epoch, so that a resumed run continues it.
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]],
        batch_size: int,
        seed: int,
        visits: Sequence[float] = (),
        *,
        by_tokens: bool = False,
        shared: int = 0,
    ) -> None:
        """`lengths`: the tokens of each case's prompt and answer; a batch computes the first `shared` only once.

        `visits`: how often an epoch has each case, on average; 1 by default.
        """
        self.lengths, self._size, self._seed, self._epoch = lengths, batch_size, seed, 0
        self._shared = shared
        self._cut = self._by_tokens if by_tokens else self._by_rows
        self._visits = torch.tensor(visits, dtype=torch.float64)

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    @property
    def cases(self) -> int:
        """The number of cases that an epoch visits."""
        return ceil(float(self._visits.sum())) if len(self._visits) else len(self.lengths)

    def __len__(self) -> int:
        return ceil(self.cases / self._size)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches())

    def batches(self) -> list[list[int]]:
        """The batches of this epoch; if they have equally many cases, only the last one can be smaller."""
        random = torch.Generator().manual_seed(self._seed + self._epoch)
        drawn = self._drawn(random)
        window = WINDOW * self._size
        batches = []
        for start in range(0, len(drawn), window):
            alike = sorted(drawn[start : start + window], key=lambda case: self.lengths[case][0], reverse=True)
            batches += self._cut(alike)
        smaller = [batches.pop()] if len(batches[-1]) < self._size else []
        order = torch.randperm(len(batches), generator=random).tolist()
        return [batches[place] for place in order] + smaller

    def _by_rows(self, cases: list[int]) -> list[list[int]]:
        return [cases[at : at + self._size] for at in range(0, len(cases), self._size)]

    def _by_tokens(self, cases: list[int]) -> list[list[int]]:
        """As many batches as `_by_rows` makes; the largest has as few tokens as possible."""
        count, longest = ceil(len(cases) / self._size), max(self.tokens([case]) for case in cases)
        budgets = range(longest, longest * len(cases) + 1)
        enough = bisect_left(budgets, True, key=lambda budget: len(self._within(cases, budget)) <= count)
        batches = self._within(cases, budgets[enough])
        while len(batches) < count:
            place = max(range(len(batches)), key=lambda place: len(batches[place]))
            most = batches[place]
            batches[place : place + 1] = [most[: len(most) // 2], most[len(most) // 2 :]]
        return batches

    def _within(self, cases: list[int], budget: int) -> list[list[int]]:
        """As few batches as possible, in the order of the cases, with at most `budget` tokens each."""
        batches, longest = list[list[int]](), 0
        for case in cases:
            own = sum(self.lengths[case])
            longest = max(longest, own)
            if not batches or computed(len(batches[-1]) + 1, longest, self._shared) > budget:
                batches.append([])
                longest = own
            batches[-1].append(case)
        return batches

    def _drawn(self, random: torch.Generator) -> list[int]:
        """The cases of an epoch, shuffled; a case with 2.4 visits comes two or three times (systematic sampling)."""
        shuffled = torch.randperm(self.cases, generator=random)
        if not len(self._visits):
            return shuffled.tolist()
        ends = self._visits.cumsum(0)
        marks = (torch.arange(self.cases) + torch.rand(1, generator=random).double()) * ends[-1] / self.cases
        return torch.searchsorted(ends, marks, right=True).clamp(max=len(ends) - 1)[shuffled].tolist()

    def tokens(self, batch: Sequence[int]) -> int:
        """The tokens that a batch computes, including its padding."""
        return computed(len(batch), max(sum(self.lengths[case]) for case in batch), self._shared)


def computed(rows: int, longest: int, shared: int) -> int:
    """The tokens that a batch of padded rows computes; the `shared` ones at the start of every row count once."""
    return shared + rows * (longest - shared)


def square_root_visits(classes: Sequence[Iterable[tuple[str, str]]]) -> list[float]:
    """How often to visit each case, given its classes as (field, name): at least once, more often if one is rare.

    A class that is four times rarer than its field's most common one is visited twice as often as it occurs
    (square-root sampling, Mahajan et al. 2018). A case counts as its rarest class (Gupta et al. 2019).
    """
    distinct = [set(own) for own in classes]
    counts = Counter(chain.from_iterable(distinct))
    most = Counter[str]()
    for (field, _), count in counts.items():
        most[field] = max(most[field], count)
    return [max((sqrt(most[each[0]] / counts[each]) for each in own), default=1.0) for own in distinct]
