"""Procedural texts for the text tasks: templates with slots, each row with the label of its template.

A row is a JSON object with the fields of its task and the input: `text`, `messages` or `prompt`. The facts are drawn
first and then put into words, so the label comes from the facts, never from the text.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeVar

from numpy.random import Generator

from datasets_vision.synthetic.prose_tables import (
    ACTIONS,
    DISEASES,
    FAULTS,
    GREETINGS,
    INTENTS,
    JARGON,
    LOG_PARTS,
    LOG_SIDES,
    OUTCOMES,
    REMEDIES,
    RISKS,
    STUDIES,
    SYMPTOMS,
)
from datasets_vision.synthetic.texts import clause

T = TypeVar("T")
Row = dict[str, Any]


def aviation_log(rng: Generator, index: int) -> Row:
    """A mechanic's shorthand entry: part, location, kind of problem, and the action taken."""
    kind = _cycled(list(ACTIONS), index)
    part, side = _pick(rng, LOG_PARTS), _pick(rng, list(LOG_SIDES))
    problem = _pick(rng, ACTIONS[kind][0])
    text = _pick(rng, ("{side} {part} {problem}.", "FOUND {side} {part} {problem}.", "{problem} AT {side} {part}."))
    action = _pick(rng, ACTIONS[kind][1]).format(part=part, side=side)
    entry = text.format(side=side, part=part, problem=problem)
    return {"text": entry, "kind": kind, "problem_part": part.lower(), "location": LOG_SIDES[side], "action": action}


def customer_dialogue(rng: Generator, index: int) -> Row:
    """One to three exchanges; intent and category are those of the customer's last message."""
    intent = _cycled(list(INTENTS), index)
    category, asks, replies = INTENTS[intent]
    number = f"{rng.integers(10000, 99999)}"
    messages: list[dict[str, str]] = []
    if rng.random() < 0.5:
        greeting, answer = _pick(rng, GREETINGS)
        messages += [_message("user", greeting), _message("assistant", answer)]
    if rng.random() < 0.3:
        earlier = _pick(rng, [other for other in INTENTS if other != intent])
        messages.append(_message("user", _pick(rng, INTENTS[earlier][1]).format(number=number)))
        messages.append(_message("assistant", _pick(rng, INTENTS[earlier][2]).format(number=number)))
    reply = _pick(rng, replies).format(number=number)
    asked = _pick(rng, SIGNED).format(text=_pick(rng, asks).format(number=number), customer=rng.integers(100, 999))
    messages += [_message("user", asked), _message("assistant", reply)]
    return {"messages": messages, "intent": intent, "category": category}


def trade_pair(rng: Generator, index: int) -> Row:
    """A preference pair: the answer in the trade's own terms is chosen, the layman's is rejected."""
    trade = _cycled(list(JARGON), index)
    plain, term, place = _pick(rng, JARGON[trade])
    prompt, chosen, rejected = _pick(rng, REMEDIES[trade])
    slots = {"plain": plain, "term": term, "place": place}
    unit = f"Unit {rng.integers(100, 999)}: "
    texts = {"prompt": unit + prompt, "chosen": chosen, "rejected": rejected}
    return {**{key: _sentence(text.format(**slots)) for key, text in texts.items()}, "intent": trade}


def contract_clause(rng: Generator, index: int) -> Row:
    """A clause, its type, and the risk of that type to the signing party."""
    text, name = clause(rng)
    return {"text": text, "clause_type": name, "risk": RISKS[name]}


def medical_question(rng: Generator, index: int) -> Row:
    """A question on a condition and an invented passage that answers yes, no or maybe."""
    decision = _cycled(("yes", "no", "maybe"), index)
    condition, remedy = _pick(rng, list(DISEASES)), _pick(rng, REMEDY_NAMES)
    symptom, people = _pick(rng, SYMPTOMS), int(rng.integers(40, 900))
    passage, answer = _pick(rng, STUDIES[decision])
    slots = {"condition": condition, "remedy": remedy, "symptom": symptom, "people": people}
    slots["design"] = _pick(rng, DESIGNS)
    text = f"Does {remedy} relieve {symptom} in {condition}?\n\n{_sentence(passage.format(**slots))}"
    return {"text": text, "decision": decision, "condition": condition, "answer": _sentence(answer.format(**slots))}


def research_claim(rng: Generator, index: int) -> Row:
    """A claim and an invented abstract that supports it, refutes it or leaves it open; the summary is its finding."""
    verdict = _cycled(("supported", "refuted", "unclear"), index)
    method, measure, field = _pick(rng, METHODS), _pick(rng, QUANTITIES), _pick(rng, FIELDS)
    direction, opposite = _pick(rng, (("raises", "lowers"), ("lowers", "raises")))
    slots: dict[str, Any] = {"method": method, "measure": measure, "field": field, "count": int(rng.integers(3, 60))}
    slots |= {"share": int(rng.integers(5, 60)), "direction": direction, "opposite": opposite}
    slots["found"] = {"supported": direction, "refuted": opposite, "unclear": direction}[verdict]
    opening, finding = _pick(rng, OUTCOMES[verdict])
    claim = f"Claim: {method} {direction} {measure} in {field}."
    abstract = f"{_sentence(opening.format(**slots))} {_sentence(finding.format(**slots))}"
    return {"text": f"{claim}\n\n{abstract}", "verdict": verdict, "summary": _sentence(finding.format(**slots))}


def fault_report(rng: Generator, index: int) -> Row:
    """An operator's report; the fault that was drawn determines system, likely cause, urgency and next step."""
    system, fault, cause, urgency, signs, step = FAULTS[index % len(FAULTS)]
    machine, hours = _pick(rng, MACHINES), int(rng.integers(100, 9000))
    frame = _pick(
        rng, ("{machine} at {hours} h: {sign}.", "{sign} on the {machine}.", "Operator of {machine}: {sign}.")
    )
    chosen = [_pick(rng, signs)] if rng.random() < 0.5 else [str(sign) for sign in rng.permutation(signs)[:2]]
    text = frame.format(machine=machine, hours=hours, sign=" and ".join(chosen))
    return {
        "text": _sentence(text),
        "system": system,
        "fault": fault,
        "cause": cause,
        "urgency": urgency,
        "next_step": step,
    }


SIGNED = ("{text}", "{text} (customer {customer})", "Customer {customer} here. {text}")
MACHINES = ("excavator", "wheel loader", "forklift", "compressor", "delivery van", "tractor", "conveyor drive", "press")
DESIGNS = ("randomised trial", "cohort study", "crossover trial", "registry study")
REMEDY_NAMES = (
    "drug A",
    "drug B",
    "breathing exercise",
    "a low-salt diet",
    "physiotherapy",
    "vaccine C",
    "light therapy",
)
METHODS = ("pre-training", "slow cooling", "a wider beam", "random sampling", "surface coating", "active learning")
QUANTITIES = ("accuracy", "noise", "yield", "fatigue life", "the error rate", "energy use")
FIELDS = ("image analysis", "steel casting", "optics", "soil science", "battery research", "speech recognition")


def _pick(rng: Generator, choices: Sequence[T]) -> T:
    return choices[int(rng.integers(len(choices)))]


def _cycled(names: Sequence[str], index: int) -> str:
    """The names in turn, by index, so that all occur equally often."""
    return names[index % len(names)]


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _sentence(text: str) -> str:
    """Start each sentence with a capital."""
    return re.sub(r"(^|[.?!] )([a-z])", lambda found: found[1] + found[2].upper(), text)
