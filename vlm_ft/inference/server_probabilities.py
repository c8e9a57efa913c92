"""The probabilities of closed fields in a server's reply, from the alternatives to each of its tokens.

A server that follows a schema may report probabilities from before or after it masks what the schema forbids. Here they
are renormalised over the alternatives that continue an option, along the tokens of the reply, so both give the same. A
field whose options the alternatives do not tell apart gets no probability rather than a wrong one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from json import JSONDecoder
from math import exp
from typing import Any

from vlm_ft.answers.confidence import closed_fields
from vlm_ft.answers.form import Form
from vlm_ft.answers.kinds import Choice, Integer, Kind
from vlm_ft.answers.prediction import Distribution, option_name
from vlm_ft.decoding.decisions import quoted

ASKED = {"logprobs": True, "top_logprobs": 20}  # of a chat completion; vLLM allows no more by default
MAX_UNRESOLVED = 1e-3
"""The largest probability of options that cannot be told apart, or may be missing from the alternatives."""

ROUNDING = 1e-6  # of a sum of probabilities that were computed in single precision


@dataclass(frozen=True, slots=True)
class Token:
    """A token of the reply: where its first byte is, its bytes, and the probability of it and each alternative."""

    start: int
    text: bytes
    shares: Mapping[bytes, float]


def distributions(form: Form, text: str, logprobs: Any) -> dict[str, Distribution]:
    """The distribution of each closed field that can be resolved; `logprobs`: of the choice with this valid answer."""
    written = text.encode()
    tokens = _tokens(logprobs)
    if not b"".join(token.text for token in tokens).startswith(written):
        return {}
    found = {}
    for name, (begin, end) in _places(text).items():
        if name in closed_fields(form):
            after = written[end : end + 1]
            options = {key: written[:begin] + option for key, option in _options(form.field(name).kind, after).items()}
            inside = [token for token in tokens if token.start + len(token.text) > begin]
            distribution = _distribution(options, inside)
            if distribution is not None:
                found[name] = distribution
    return found


def _tokens(logprobs: Any) -> list[Token]:
    """The tokens of a reply; none if the server reports no probabilities, or not in OpenAI's format."""
    tokens: list[Token] = []
    start = 0
    try:
        for entry in logprobs["content"]:
            shares = {_bytes(each): exp(min(float(each["logprob"]), 0.0)) for each in (*entry["top_logprobs"], entry)}
            tokens.append(Token(start, _bytes(entry), shares))
            start += len(tokens[-1].text)
    except (KeyError, TypeError, ValueError):
        return []
    return tokens


def _bytes(entry: Mapping[str, Any]) -> bytes:
    known = entry.get("bytes")
    return bytes(known) if known is not None else str(entry["token"]).encode()


def _places(text: str) -> dict[str, tuple[int, int]]:
    """The first byte and the end of each value of a JSON object with at least one member."""
    decode, found = JSONDecoder().raw_decode, {}
    at = text.index("{")
    while text[at] != "}":
        name, at = decode(text, _past_spaces(text, at + 1))
        begin = _past_spaces(text, text.index(":", at) + 1)
        _, end = decode(text, begin)
        found[name] = len(text[:begin].encode()), len(text[:end].encode())
        at = _past_spaces(text, end)
    return found


def _past_spaces(text: str, at: int) -> int:
    while text[at] in " \t\r\n":
        at += 1
    return at


def _options(kind: Kind, after: bytes) -> dict[str, bytes]:
    """The bytes of each option; those of a number include what follows it, since 1 is the beginning of 12."""
    match kind:
        case Choice(options=names):
            return {name: quoted(name).encode() for name in names}
        case Integer(minimum=low, maximum=high):
            return {str(number): str(number).encode() + after for number in range(low, high + 1)}
    return {option_name(value): option_name(value).encode() for value in (True, False)}


def _distribution(options: Mapping[str, bytes], tokens: Sequence[Token]) -> Distribution | None:
    """The probability of each option, each given as the reply with it up to its end; None if it is not resolved.

    At each token, the mass of the options so far is divided among the alternatives that continue at least one.
    """
    shares, still_open = dict.fromkeys(options, 0.0), list(options)
    whole, unresolved = 1.0, 0.0
    for token in tokens:
        continued = {
            text: [name for name in still_open if _continues(options[name][token.start :], text)]
            for text in token.shares
        }
        total = sum(token.shares[text] for text, names in continued.items() if names)
        if not total or not continued[token.text]:
            return None
        if set().union(*continued.values()) != set(still_open):
            hidden = max(ROUNDING, 1.0 - sum(token.shares.values()))
            unresolved += whole * hidden / (total + hidden)
        for text, names in continued.items():
            mass = whole * token.shares[text] / total
            if len(names) == 1:
                shares[names[0]] += mass
            elif names and text != token.text:
                unresolved += mass
        still_open, whole = continued[token.text], whole * token.shares[token.text] / total
        if len(still_open) == 1:
            known = sum(shares.values())
            return None if unresolved > MAX_UNRESOLVED else {name: share / known for name, share in shares.items()}
    return None


def _continues(rest: bytes, text: bytes) -> bool:
    """Whether a token continues an option, or goes beyond it."""
    return bool(text) and (rest.startswith(text) or text.startswith(rest))
