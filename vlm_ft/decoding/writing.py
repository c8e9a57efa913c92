"""One answer as it is written: each decision weighed along the tree of its options' tokens.

An answer is a coroutine: it yields the branches that it wants to be run, and is sent what they lead to. So rows of one
batch, each with its own form, go on side by side.
"""

from __future__ import annotations

import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.random import Generator as Random
from numpy.typing import NDArray

from vlm_ft.answers.form import Form
from vlm_ft.decoding.decisions import Decision, Options, Path, Writing, walk
from vlm_ft.decoding.rows import Branch, Seen
from vlm_ft.decoding.tokens import AnswerTokens, Node, Tree

RESOLUTION = 1e-3
"""Options that begin alike and are less probable than this together are not told apart: each gets an equal share."""


class AnswerTooLongError(Exception):
    """The base has no room for the rest of an answer."""


@dataclass(frozen=True)
class Outcome:
    """What was decided at one place.

    `mass` is the probability of each option, None for a text; `legal` the probability, before anything was masked, of
    the tokens that the form allows, at its least; `logprob` the natural logarithm of the probability of what was
    decided. `mean`: of a side that may lie between two options, unless it was drawn.
    """

    value: Any
    legal: float = 1.0
    logprob: float = 0.0
    options: Options | None = None
    mass: NDArray[np.float64] | None = None
    mean: float | None = None


@dataclass
class Sampling:
    """Draw answers instead of taking the most probable: at this temperature, from this generator."""

    random: Random
    temperature: float = 1.0


@dataclass
class _Cursor:
    """Where an answer stands: the numbers of its tokens that ran, and those that wait to."""

    room: int
    after: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()

    def ask(self, tokens: tuple[int, ...] = ()) -> Generator[list[Branch], list[Seen], Seen]:
        """Run what waits, and `tokens`."""
        asked = self.waiting + tokens
        if len(self.after) + len(asked) > self.room:
            raise AnswerTooLongError
        (seen,) = yield [Branch(asked, self.after, alone=True)]
        self.after, self.waiting = self.after + seen.places, ()
        return seen


def write(
    form: Form, tokens: AnswerTokens, room: int, sampling: Sampling | None = None
) -> Generator[list[Branch], list[Seen], dict[Path, Outcome]]:
    """Every decision of one answer, by its place.

    Raises `AnswerTooLongError` where the answer takes more than `room` tokens.
    """
    cursor, steps, outcomes = _Cursor(room), walk(form), dict[Path, Outcome]()
    step = next(steps)
    while True:
        if isinstance(step, Writing):
            outcome = yield from _text(step.max_length, tokens, cursor, sampling)
        else:
            outcome = yield from _decided(step, tokens.tree(step.options), cursor, sampling)
            if step.kind == "side" and form.boxes.interpolated and sampling is None:
                outcome = replace(outcome, mean=float(np.dot(outcome.mass, step.options.values)))
        if isinstance(step, Writing) or step.kind != "fixed":
            outcomes[step.path] = outcome
        try:
            step = steps.send(outcome.value)
        except StopIteration:
            return outcomes


def _decided(
    step: Decision, tree: Tree, cursor: _Cursor, sampling: Sampling | None
) -> Generator[list[Branch], list[Seen], Outcome]:
    """The most probable option; for the side of a box the median, which makes the expected error least."""
    if not tree.root.children:
        cursor.waiting += tree.root.tokens
        return Outcome(step.options.values[0], options=step.options, mass=np.ones(1))
    weighed = _Weighed(tree, sampling)
    weighed.share(tree.root, (yield from cursor.ask(tree.root.tokens)), ())
    while wanted := weighed.wanted(step.kind):
        branches = [Branch(node.tokens, cursor.after + weighed.above[node]) for node in wanted]
        if max(len(branch.after) + len(branch.tokens) for branch in branches) > cursor.room:
            raise AnswerTooLongError
        for node, seen in zip(wanted, (yield branches), strict=True):
            weighed.share(node, seen, weighed.above[node] + seen.places)
    option = weighed.chosen(step.kind)
    *compared, leaf = tree.way(option)
    cursor.after += weighed.above[leaf]
    cursor.waiting = leaf.tokens
    mass = weighed.mass[tree.leaves]
    legal = min(weighed.legal[node] for node in compared)
    return Outcome(step.options.values[option], legal, float(np.log(mass[option])), step.options, mass)


class _Weighed:
    """The probabilities of options as far as they are known: equal within a node whose children are not compared yet.

    `above`: for each child that was compared, the numbers of the tokens between the decision's first and the child's.
    """

    def __init__(self, tree: Tree, sampling: Sampling | None) -> None:
        self.mass = np.full(len(tree.leaves), 1.0)  # by leaf
        self.above: dict[Node, tuple[int, ...]] = {}
        self.legal: dict[Node, float] = {}
        self._tree, self._sampling = tree, sampling
        self._open: list[Node] = []
        self._drawn = tree.root

    def share(self, node: Node, seen: Seen, places: tuple[int, ...]) -> None:
        """Divide the node's mass among its children, by the scores that follow its tokens `places`."""
        scores = seen.logits[node.nexts].double()
        self.legal[node] = float((scores.logsumexp(0) - seen.total).exp())
        temperature = self._sampling.temperature if self._sampling else 1.0
        shares = (scores / temperature).softmax(0).numpy()
        if self._sampling and node is self._drawn:
            self._drawn = node.children[self._sampling.random.choice(len(shares), p=shares / shares.sum())]
        whole = 1.0 if node is self._tree.root else self._of(node)
        for child, share in zip(node.children, shares, strict=True):
            self.mass[child.low : child.high] = whole * share / (child.high - child.low)
            self.above[child] = places
        self._open = [other for other in self._open if other is not node]
        self._open += [child for child in node.children if child.children]

    def _of(self, node: Node) -> float:
        return float(self.mass[node.low : node.high].sum())

    def wanted(self, kind: str) -> list[Node]:
        """The nodes whose children must be compared before the decision is made."""
        if self._sampling:
            return [self._drawn] if self._drawn.children else []
        if kind == "side":
            median = self._tree.leaf(self._median())
            return [node for node in self._open if node.low <= median < node.high]
        known = np.ones(len(self.mass), dtype=bool)
        for node in self._open:
            known[node.low : node.high] = False
        best = float(self.mass[known].max(initial=0.0))
        limit = min(RESOLUTION, best) if best else RESOLUTION
        found = [node for node in self._open if self._of(node) > limit]
        return found or ([] if best else [max(self._open, key=self._of)])

    def chosen(self, kind: str) -> int:
        """The option that is decided for."""
        if self._sampling:
            return int(self._tree.order[self._drawn.low])
        return self._median() if kind == "side" else int(self._tree.order[self.mass.argmax()])

    def _median(self) -> int:
        """The first option, as they are listed, up to which half of the mass lies."""
        return int((self.mass[self._tree.leaves].cumsum() >= 0.5 * self.mass.sum()).argmax())


def _text(
    max_length: int, tokens: AnswerTokens, cursor: _Cursor, sampling: Sampling | None
) -> Generator[list[Branch], list[Seen], Outcome]:
    """Token after token, each the most probable of those that keep the text a JSON string within its length."""
    guide, ids, legal, logprob = tokens.writing(max_length), list[int](), 1.0, 0.0
    while not guide.is_accepting():
        seen = yield from cursor.ask()
        scores = seen.logits.masked_fill(~tokens.legal(guide), float("-inf"))
        legal = min(legal, float((scores.logsumexp(0) - seen.total).exp()))
        shares = (scores / sampling.temperature if sampling else scores).log_softmax(0)
        if sampling:
            weights = shares.double().exp().numpy()
            token = int(sampling.random.choice(len(weights), p=weights / weights.sum()))
        else:
            token = int(shares.argmax())
        logprob += float(shares[token])
        guide.consume_token(token)
        cursor.waiting = (token,)
        ids.append(token)
    return Outcome(json.loads('"' + tokens.text(ids)), legal, logprob)
