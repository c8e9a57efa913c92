"""Write one answer: each decision compares its options along the tree of their tokens.

The writer is a generator that yields the branches to run and is sent their results, so that the rows of one batch, each
with its own form, advance side by side.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.random import Generator as Random
from numpy.typing import NDArray
from pydantic_core import from_json

from vlm_ft.answers.form import Form
from vlm_ft.decoding.decisions import Decision, FreeText, Options, Path, Step, step_after, walk
from vlm_ft.decoding.rows import Branch, BranchResult
from vlm_ft.decoding.tokens import AnswerTokens, Node, Tree

RESOLUTION = 1e-3
"""Options with common leading tokens and a lower total probability are not resolved: they get equal shares."""


class AnswerTooLongError(Exception):
    """The answer needs more tokens than the base has room for."""


@dataclass(frozen=True)
class Outcome:
    """The result of one decision.

    `mass` is the probability of each option, (options,), None for a text. `legal` is the probability of what the form
    allows, before masking: the lowest over the decision's tokens. `mean` is the expected value of a box's side if sides
    may lie between two options, unless the answer was sampled.
    """

    value: Any
    legal: float = 1.0
    options: Options | None = None
    mass: NDArray[np.float64] | None = None
    mean: float | None = None


OnToken = Callable[[Mapping[Path, Outcome], Path, str], None]
"""Called with the decisions so far, the place of the text being written, and the text so far."""


@dataclass
class Sampling:
    """Sample answers at this temperature, with this generator, instead of taking the most probable ones."""

    random: Random
    temperature: float = 1.0


@dataclass
class _Cursor:
    """The progress of an answer: the numbers of the tokens that have run, and the tokens waiting to run."""

    room: int
    after: tuple[int, ...] = ()
    waiting: tuple[int, ...] = ()

    def run(self, tokens: tuple[int, ...] = ()) -> Generator[list[Branch], list[BranchResult], BranchResult]:
        """Run the waiting tokens, then `tokens`."""
        pending = self.waiting + tokens
        if len(self.after) + len(pending) > self.room:
            raise AnswerTooLongError
        (seen,) = yield [Branch(pending, self.after, alone=True)]
        self.after, self.waiting = self.after + seen.places, ()
        return seen


def write(
    form: Form, tokens: AnswerTokens, room: int, sampling: Sampling | None = None, on_token: OnToken | None = None
) -> Generator[list[Branch], list[BranchResult], dict[Path, Outcome]]:
    """Write one answer; returns every outcome by its place. `on_token` is called for each token of a text.

    Raises `AnswerTooLongError` if the answer needs more than `room` tokens.
    """
    cursor, steps, outcomes = _Cursor(room), walk(form), dict[Path, Outcome]()
    step: Step | None = next(steps)
    while step is not None:
        if isinstance(step, FreeText):
            listener = partial(on_token, outcomes, step.path) if on_token is not None else None
            outcome = yield from _text(step.max_length, tokens, cursor, sampling, listener)
        else:
            threshold = _threshold(form, step) if sampling is None else None
            outcome = yield from _decided(step, tokens.tree(step.options), cursor, sampling, threshold)
            if step.kind == "side" and form.boxes.interpolated and sampling is None:
                assert outcome.mass is not None
                outcome = replace(outcome, mean=float(outcome.mass @ np.array(step.options.values)))
        if isinstance(step, FreeText) or step.kind != "fixed":
            outcomes[step.path] = outcome
        step = step_after(outcome.value, steps)
    return outcomes


def _threshold(form: Form, step: Decision) -> float | None:
    """The form's threshold for this decision, if its options are true and false."""
    if step.kind == "item" or (len(step.path) == 1 and step.options.values == (True, False)):
        return form.thresholds.get(str(step.path[0]))
    return None


def _decided(
    step: Decision, tree: Tree, cursor: _Cursor, sampling: Sampling | None, threshold: float | None
) -> Generator[list[Branch], list[BranchResult], Outcome]:
    """Decide on the most probable option or, for the side of a box, the median (least expected absolute error).

    With a threshold, decide on the first option if its probability reaches it, and on the second otherwise.
    """
    if not tree.root.children:
        cursor.waiting += tree.root.tokens
        return Outcome(step.options.values[0], options=step.options, mass=np.ones(1))
    probabilities = _Probabilities(tree, sampling)
    probabilities.share(tree.root, (yield from cursor.run(tree.root.tokens)), ())
    while nodes := probabilities.to_compare(step.kind):
        branches = [Branch(node.tokens, cursor.after + probabilities.above[node]) for node in nodes]
        if max(len(branch.after) + len(branch.tokens) for branch in branches) > cursor.room:
            raise AnswerTooLongError
        for node, seen in zip(nodes, (yield branches), strict=True):
            probabilities.share(node, seen, probabilities.above[node] + seen.places)
    option = probabilities.chosen(step.kind)
    if threshold is not None:
        option = 0 if probabilities.mass[tree.leaf(0)] >= threshold else 1
    *compared, leaf = tree.path_to(option)
    cursor.after += probabilities.above[leaf]
    cursor.waiting = leaf.tokens
    legal = min(probabilities.legal[node] for node in compared)
    return Outcome(step.options.values[option], legal, step.options, probabilities.mass[tree.leaves])


class _Probabilities:
    """The probabilities of options as far as known: equal within a node whose children are not yet compared.

    `above`: for each child that was compared, the numbers of the tokens between the root's and the child's own.
    """

    def __init__(self, tree: Tree, sampling: Sampling | None) -> None:
        self.mass = np.full(len(tree.leaves), 1.0)  # by leaf
        self.above: dict[Node, tuple[int, ...]] = {}
        self.legal: dict[Node, float] = {}
        self._tree, self._sampling = tree, sampling
        self._open: list[Node] = []
        self._drawn = tree.root

    def share(self, node: Node, seen: BranchResult, places: tuple[int, ...]) -> None:
        """Divide the node's mass among its children, by the logits after its tokens, whose numbers are `places`."""
        scores = seen.logits[node.nexts].double()
        self.legal[node] = float((scores.logsumexp(0) - seen.total).exp())
        temperature = self._sampling.temperature if self._sampling else 1.0
        shares = (scores / temperature).softmax(0).numpy()
        if self._sampling and node is self._drawn:
            self._drawn = node.children[self._sampling.random.choice(len(shares), p=shares / shares.sum())]
        whole = 1.0 if node is self._tree.root else self._node_mass(node)
        for child, share in zip(node.children, shares, strict=True):
            self.mass[child.low : child.high] = whole * share / (child.high - child.low)
            self.above[child] = places
        self._open = [other for other in self._open if other is not node]
        self._open += [child for child in node.children if child.children]

    def _node_mass(self, node: Node) -> float:
        return float(self.mass[node.low : node.high].sum())

    def to_compare(self, kind: str) -> list[Node]:
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
        found = [node for node in self._open if self._node_mass(node) > limit]
        return found or ([] if best else [max(self._open, key=self._node_mass)])

    def chosen(self, kind: str) -> int:
        if self._sampling:
            return int(self._tree.order[self._drawn.low])
        return self._median() if kind == "side" else int(self._tree.order[self.mass.argmax()])

    def _median(self) -> int:
        """The first option, in order of value, at which the cumulative mass reaches one half."""
        return int((self.mass[self._tree.leaves].cumsum() >= 0.5 * self.mass.sum()).argmax())


def _text(
    max_length: int,
    tokens: AnswerTokens,
    cursor: _Cursor,
    sampling: Sampling | None,
    on_token: Callable[[str], None] | None = None,
) -> Generator[list[Branch], list[BranchResult], Outcome]:
    """Write a text token by token, each the most probable that keeps it a JSON string of at most `max_length`."""
    matcher, ids, legal = tokens.text_matcher(max_length), list[int](), 1.0
    while not matcher.is_accepting():
        seen = yield from cursor.run()
        scores = seen.logits.masked_fill(~tokens.legal(matcher), float("-inf"))
        legal = min(legal, float((scores.logsumexp(0) - seen.total).exp()))
        if sampling:
            shares = (scores / sampling.temperature).double().softmax(0).numpy()
            token = int(sampling.random.choice(len(shares), p=shares / shares.sum()))
        else:
            token = int(scores.argmax())
        matcher.consume_token(token)
        cursor.waiting = (token,)
        ids.append(token)
        if on_token is not None:
            on_token(_whole_characters(tokens.text(ids)))
    return Outcome(json.loads('"' + tokens.text(ids)), legal)


def _whole_characters(text: str) -> str:
    """The text of a JSON string that may lack its end, without an incomplete last character or escape."""
    return str(from_json('"' + text.rstrip("\ufffd"), allow_partial="trailing-strings"))
