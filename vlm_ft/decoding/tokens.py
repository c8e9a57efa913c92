"""The tokens of answers: trees of the tokens of options, and the tokens that can continue a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch
from llguidance import LLMatcher
from llguidance.hf import from_tokenizer
from llguidance.torch import allocate_token_bitmask, fill_next_token_bitmask
from torch import Tensor
from torch.nn import functional

from vlm_ft.answers.box_format import Size
from vlm_ft.answers.form import Form
from vlm_ft.answers.task import Values
from vlm_ft.decoding.decisions import Decision, FreeText, Options, quoted, target_steps

ANCHOR = "\n"  # prefixed to a piece if the tokenizer would otherwise add a leading space


class Node:
    """Options that share leading tokens: numbers `low` to `high` (exclusive) in the tree's order.

    `tokens` lead here from the parent node; `children` differ in their first token. A leaf is one option.
    """

    def __init__(self, options: Sequence[tuple[int, ...]], low: int, high: int, start: int) -> None:
        first, last = options[low], options[high - 1]  # sorted: a prefix of both is a prefix of all between them
        end = next((at for at, pair in enumerate(zip(first, last, strict=False)) if pair[0] != pair[1]), len(first))
        self.low, self.high, self.tokens = low, high, first[start:end]
        self._options, self._end = options, end

    @cached_property
    def children(self) -> tuple[Node, ...]:
        """A child for each possible next token; () for a leaf."""
        if self.high - self.low == 1:
            return ()
        nexts = [self._options[place][self._end] for place in range(self.low, self.high)]
        cuts = [self.low + at for at in range(1, len(nexts)) if nexts[at] != nexts[at - 1]]
        spans = zip([self.low, *cuts], [*cuts, self.high], strict=True)
        return tuple(Node(self._options, low, high, self._end) for low, high in spans)

    @cached_property
    def nexts(self) -> Tensor:
        """(children,) the first token of each child."""
        return torch.tensor([child.tokens[0] for child in self.children])


class Tree:
    """The tokens of all options of one decision.

    `order` gives the option of each leaf, `leaves` the leaf of each option.
    """

    def __init__(self, options: Sequence[tuple[int, ...]]) -> None:
        self.order = np.array(sorted(range(len(options)), key=options.__getitem__))
        self.root = Node([options[place] for place in self.order], 0, len(options), 0)
        self.leaves = np.argsort(self.order)

    def leaf(self, option: int) -> int:
        return int(self.leaves[option])

    def path_to(self, option: int) -> list[Node]:
        """The nodes from the root to that option's leaf."""
        node, leaf = self.root, self.leaf(option)
        path = [node]
        while node.children:
            node = next(child for child in node.children if child.low <= leaf < child.high)
            path.append(node)
        return path


@dataclass(frozen=True)
class TargetTokens:
    """A correct answer's tokens, and which of them are decided.

    `choices`: the tokens allowed for each decision, packed, (decisions, words). `shares`: for each decision, the second
    correct token and its share of the target, usually 0.
    """

    ids: list[int]
    decided: list[bool]
    choices: Tensor
    shares: list[tuple[int, float]]


class AnswerTokens:
    """Turns answers into the tokens of one tokenizer, and back.

    `vocabulary` is the number of logits that the model returns; by default, the tokenizer's number of tokens.
    """

    def __init__(self, tokenizer: Any, vocabulary: int | None = None) -> None:
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary or len(tokenizer)
        self._trees: WeakKeyDictionary[Options, Tree] = WeakKeyDictionary()
        self._grammars: dict[int, str] = {}
        plain, before, joined = self._plain(['"', ANCHOR, ANCHOR + '"'])
        self._before = len(before) if joined[: len(before)] == before and joined[len(before) :] != plain else 0

    @cached_property
    def _guide(self) -> Any:
        return from_tokenizer(self.tokenizer, n_vocab=self.vocabulary)

    def _plain(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        found = self.tokenizer(list(texts), add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return [tuple(ids) for ids in found]

    def ids(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """The tokens of each piece of an answer; pieces are tokenized separately."""
        if not self._before:
            return self._plain(texts)
        return [ids[self._before :] for ids in self._plain([ANCHOR + text for text in texts])]

    def text(self, ids: Sequence[int]) -> str:
        """The text of a piece's tokens."""
        before = self._plain([ANCHOR])[0] if self._before else ()
        text = self.tokenizer.decode([*before, *ids], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return str(text)[len(ANCHOR) if self._before else 0 :]

    def tree(self, options: Options) -> Tree:
        """The tree of the options' tokens, built once."""
        if options not in self._trees:
            self._trees[options] = Tree(self.ids(options.texts))
        return self._trees[options]

    def text_matcher(self, max_length: int) -> LLMatcher:
        """A new matcher for a JSON string of at most `max_length` characters, after its opening quotation mark.

        Numeric escapes are not allowed: they could write an unpaired surrogate.
        """
        if max_length not in self._grammars:
            character = r'([^"\\\x00-\x1f\x7f]|\\["\\/bfnrt])'
            self._grammars[max_length] = LLMatcher.grammar_from_regex(f'{character}{{0,{max_length}}}"')
        matcher = LLMatcher(self._guide, self._grammars[max_length])
        if matcher.is_error():
            raise RuntimeError(f"a text of {max_length} characters: {matcher.get_error()}")
        return matcher

    def legal(self, matcher: LLMatcher) -> Tensor:
        """The tokens that can continue the text, as bools (vocabulary,)."""
        bitmask = allocate_token_bitmask(1, self._guide.vocab_size)
        fill_next_token_bitmask(matcher, bitmask)
        return unpacked(bitmask, self.vocabulary)[0]

    def target_tokens(self, form: Form, values: Values, size: Size | None) -> TargetTokens:
        """The tokens of a correct answer. `size` is the image's as the base sees it, for boxes in pixels.

        The end of the turn is not included: it depends on the chat template.
        """
        ids: list[int] = []
        decided: list[bool] = []
        choices = [self.all_allowed(0)]
        shares: list[tuple[int, float]] = []
        for step, value in target_steps(form, values, size):
            if isinstance(step, FreeText):
                (tokens,) = self.ids([quoted(value)[1:]])
                ids += tokens
                decided += [True] * len(tokens)
                choices.append(self._text_choices(step.max_length, tokens))
                shares += [(token, 0.0) for token in tokens]
                continue
            tree = self.tree(step.options)
            option, other, share = _nearest_options(step, value)
            above, *below = tree.path_to(option)
            beside = tree.leaf(other)
            ids += above.tokens
            decided += [False] * len(above.tokens)
            for node in below:
                ids += node.tokens
                decided += [True, *[False] * (len(node.tokens) - 1)]
                choices.append(self._packed(above.nexts))
                second = next((child for child in above.children if child.low <= beside < child.high), node)
                shares.append((second.tokens[0], share))
                above = node
        return TargetTokens(ids, decided, torch.cat(choices), shares)

    def all_allowed(self, count: int) -> Tensor:
        """Packed choices that allow every token, (count, words)."""
        choices: Tensor = allocate_token_bitmask(count, self.vocabulary)
        return choices

    def _packed(self, tokens: Tensor) -> Tensor:
        """Packed choices that allow only these tokens, (1, words) of 32 bits."""
        allowed = np.zeros(self.all_allowed(1).shape[1] * 32, dtype=np.uint8)
        allowed[tokens.numpy()] = 1
        return torch.from_numpy(np.packbits(allowed, bitorder="little").view(np.int32)[None])

    def _text_choices(self, max_length: int, tokens: Sequence[int]) -> Tensor:
        """The tokens allowed at each place of a text, (tokens, words); all once the matcher rejects the text."""
        matcher, choices = self.text_matcher(max_length), self.all_allowed(len(tokens))
        for place, token in enumerate(tokens):
            fill_next_token_bitmask(matcher, choices, place)
            if not matcher.consume_token(token):
                choices[place:] = -1
                break
        return choices


def _nearest_options(step: Decision, value: Any) -> tuple[int, int, float]:
    """The two options around a value, the nearer one first, and the other's share of the target."""
    if step.kind != "side":
        option = step.options.values.index(value)
        return option, option, 0.0
    nearest = min(round(value), len(step.options.values) - 1)
    return nearest, nearest + (value > nearest) - (value < nearest), abs(value - nearest)


def unpacked(bitmask: Tensor, vocabulary: int) -> Tensor:
    """Unpack (rows, words) of 32 bits to (rows, vocabulary) bool; tokens beyond the words are False."""
    places = torch.arange(32, dtype=torch.int32, device=bitmask.device)
    bits = bitmask.unsqueeze(-1).bitwise_right_shift(places).bitwise_and(1).flatten(1).bool()
    return functional.pad(bits, (0, max(0, vocabulary - bits.shape[1])))[:, :vocabulary]
