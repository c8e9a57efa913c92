"""Procedural texts for the text tasks: templates with slots, each row with the label of its template.

A row is a JSON object with the fields of its task and the input: `text`, `messages` or `prompt`. The facts are drawn
first and then put into words (words.yaml), so the label comes from the facts, never from the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from numpy.random import Generator

T = TypeVar("T")
Row = dict[str, Any]

WORDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("words.yaml").read_text(encoding="utf-8"))


def aviation_log(rng: Generator, index: int) -> Row:
    """A mechanic's shorthand entry: part, location, kind of problem, and the action taken."""
    kind = _cycled(WORDS["log_problems"], index)
    part, side = _pick(rng, WORDS["log_parts"]), _pick(rng, list(WORDS["log_places"]))
    problem = _pick(rng, WORDS["log_problems"][kind]["reported"])
    text = _pick(rng, ("{side} {part} {problem}.", "FOUND {side} {part} {problem}.", "{problem} AT {side} {part}."))
    action = _pick(rng, WORDS["log_problems"][kind]["actions"]).format(part=part, side=side)
    entry = text.format(side=side, part=part, problem=problem)
    place = WORDS["log_places"][side]
    return {"text": entry, "kind": kind, "problem_part": part.lower(), "location": place, "action": action}


def customer_dialogue(rng: Generator, index: int) -> Row:
    """One to three exchanges; intent and category are those of the customer's last message."""
    intents = WORDS["intents"]
    intent = _cycled(intents, index)
    number = f"{rng.integers(10000, 99999)}"
    messages: list[dict[str, str]] = []
    if rng.random() < 0.5:
        opening = _pick(rng, WORDS["greetings"])
        messages += [_message("user", opening["greeting"]), _message("assistant", opening["answer"])]
    if rng.random() < 0.3:
        earlier = _pick(rng, [words for other, words in intents.items() if other != intent])
        messages.append(_message("user", _pick(rng, earlier["asks"]).format(number=number)))
        messages.append(_message("assistant", _pick(rng, earlier["replies"]).format(number=number)))
    reply = _pick(rng, intents[intent]["replies"]).format(number=number)
    signed, asked = _pick(rng, WORDS["signed"]), _pick(rng, intents[intent]["asks"]).format(number=number)
    asked = signed.format(text=asked, customer=rng.integers(100, 999))
    messages += [_message("user", asked), _message("assistant", reply)]
    return {"messages": messages, "intent": intent, "category": intents[intent]["category"]}


def trade_pair(rng: Generator, index: int) -> Row:
    """A preference pair: the answer in the trade's own terms is chosen, the layman's is rejected."""
    trade = _cycled(WORDS["trades"], index)
    slots = _pick(rng, WORDS["trades"][trade]["jargon"])
    texts = dict(_pick(rng, WORDS["trades"][trade]["requests"]))
    texts["prompt"] = f"Unit {rng.integers(100, 999)}: {texts['prompt']}"
    return {**{key: _sentence(text.format(**slots)) for key, text in texts.items()}, "intent": trade}


def contract_clause(rng: Generator, index: int) -> Row:
    """A clause, sometimes with a sentence that is irrelevant to its type, its type, and the risk of that type."""
    name = str(rng.choice(list(WORDS["clauses"])))
    text = _filled(rng, str(rng.choice(WORDS["clauses"][name]["texts"])))
    if rng.random() < 0.3:
        text = f"{text} {_filled(rng, '{party} shall notify {other} within {days} of any change to {thing} .')}"
    return {"text": text, "clause_type": name, "risk": WORDS["clauses"][name]["risk"]}


def medical_question(rng: Generator, index: int) -> Row:
    """A question on a condition and an invented passage that answers yes, no or maybe."""
    decision = _cycled(("yes", "no", "maybe"), index)
    condition, remedy = _pick(rng, WORDS["conditions"]), _pick(rng, WORDS["remedies"])
    symptom, people = _pick(rng, WORDS["symptoms"]), int(rng.integers(40, 900))
    study = _pick(rng, WORDS["studies"][decision])
    slots = {"condition": condition, "remedy": remedy, "symptom": symptom, "people": people}
    slots["design"] = _pick(rng, WORDS["designs"])
    passage, answer = (_sentence(study[key].format(**slots)) for key in ("passage", "answer"))
    text = f"Does {remedy} relieve {symptom} in {condition}?\n\n{passage}"
    return {"text": text, "decision": decision, "condition": condition, "answer": answer}


def research_claim(rng: Generator, index: int) -> Row:
    """A claim and an invented abstract that supports it, refutes it or leaves it open; the summary is its finding."""
    verdict = _cycled(("supported", "refuted", "unclear"), index)
    method, measure, field = (_pick(rng, WORDS[key]) for key in ("methods", "measures", "fields"))
    direction, opposite = _pick(rng, (("raises", "lowers"), ("lowers", "raises")))
    slots: dict[str, Any] = {"method": method, "measure": measure, "field": field, "count": int(rng.integers(3, 60))}
    slots["share"] = int(rng.integers(5, 60))
    slots["found"] = opposite if verdict == "refuted" else direction
    outcome = _pick(rng, WORDS["outcomes"][verdict])
    opening, finding = (_sentence(outcome[key].format(**slots)) for key in ("opening", "finding"))
    text = f"Claim: {method} {direction} {measure} in {field}.\n\n{opening} {finding}"
    return {"text": text, "verdict": verdict, "summary": finding}


def fault_report(rng: Generator, index: int) -> Row:
    """An operator's report; the fault that was drawn determines system, likely cause, urgency and next step."""
    label = dict(_cycled(WORDS["faults"], index))
    signs = label.pop("signs")
    machine, hours = _pick(rng, WORDS["machines"]), int(rng.integers(100, 9000))
    frames = ("{machine} at {hours} h: {sign}.", "{sign} on the {machine}.", "Operator of {machine}: {sign}.")
    frame = _pick(rng, frames)
    chosen = [_pick(rng, signs)] if rng.random() < 0.5 else [str(sign) for sign in rng.permutation(signs)[:2]]
    text = frame.format(machine=machine, hours=hours, sign=" and ".join(chosen))
    return {"text": _sentence(text), **label}


def _pick(rng: Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _cycled(choices: Iterable[T], index: int) -> T:
    """The choices in turn, by index, so that all occur equally often."""
    listed = list(choices)
    return listed[index % len(listed)]


def _filled(rng: Generator, template: str) -> str:
    """A clause with its slots filled at random."""
    return re.sub(r"\{(\w+)\}", lambda slot: str(rng.choice(WORDS["clause_slots"][slot[1]])), template)


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _sentence(text: str) -> str:
    """Start each sentence with a capital."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)
