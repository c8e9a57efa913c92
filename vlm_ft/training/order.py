"""The order in which a run visits its cases: batches of similar lengths, in random order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

WINDOW = 50  # batches; the cases of a window are drawn at random, then sorted


class ByLength(Sampler[int]):
    """Batches cases of similar lengths, since every row of a batch is padded to the longest one.

    The order depends only on the seed and the epoch, so that a resumed run continues it.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        """`lengths`: the tokens of each case."""
        self.lengths, self._size, self._seed, self._epoch = lengths, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return (case for batch in self.batches() for case in batch)

    def batches(self) -> list[list[int]]:
        """The batches of this epoch; only the last one can be smaller than the others."""
        random = torch.Generator().manual_seed(self._seed + self._epoch)
        drawn = torch.randperm(len(self.lengths), generator=random).tolist()
        window = WINDOW * self._size
        batches = []
        for start in range(0, len(drawn), window):
            alike = sorted(drawn[start : start + window], key=self.lengths.__getitem__, reverse=True)
            batches += [alike[at : at + self._size] for at in range(0, len(alike), self._size)]
        smaller = [batches.pop()] if len(batches[-1]) < self._size else []
        order = torch.randperm(len(batches), generator=random).tolist()
        return [batches[place] for place in order] + smaller

    def tokens(self, batch: Sequence[int]) -> int:
        """The tokens of a batch, including its padding."""
        return len(batch) * max(self.lengths[case] for case in batch)
