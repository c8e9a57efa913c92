"""Answers as chat completions, in the shape of OpenAI's API: whole, or as server-sent events."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from starlette.exceptions import HTTPException

from vlm_ft.answers.prediction import FieldValue, option_name
from vlm_ft.answers.task import Values
from vlm_ft.errors import DataError
from vlm_ft.inference.request import Attributed, CaseId
from vlm_ft.service.intake import ChatRequest

IMPOSSIBLE = -9999.0
"""The logarithm of a probability of 0, as OpenAI's API writes it."""


def check_format(body: ChatRequest, task: str) -> None:
    """Raise `DataError` if the request names the form of a task other than its adapter's."""
    asked = body.response_format
    if asked is not None and asked.json_schema.name != task:
        raise DataError(
            "response_format",
            f"the adapter does not answer in the form of {asked.json_schema.name[:80]!r}",
            f"name its task, {task}, or leave it out",
        )


def completion(body: ChatRequest, case: CaseId, answer: Attributed) -> dict[str, Any]:
    """An answer as a chat completion, whose content is the answer as JSON."""
    message = {"role": "assistant", "content": json.dumps(answer.values)}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": _logprobs(body, answer)}
    head, found = _head(body.model, case, "chat.completion"), json.loads(assessment(body.model, case, answer))
    return {**head, "choices": [choice], "assessment": found}


def events(body: ChatRequest, case: CaseId, found: Iterator[Values | Attributed]) -> Iterator[str]:
    """The answer as server-sent events, which OpenAI's clients expect if they ask for a stream.

    Its pieces add up to the content of an answer that is not streamed. Raises `HTTPException` if there is no answer;
    once the response has begun, that is an event.
    """
    head, sent = _head(body.model, case, "chat.completion.chunk"), ""

    def event(delta: dict[str, str], finish: str | None = None, logprobs: Any = None, **more: Any) -> str:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": logprobs}
        return f"data: {json.dumps({**head, 'choices': [choice], **more})}\n\n"

    for one in found:
        if isinstance(one, Attributed) and one.error is not None:
            if not sent:
                raise HTTPException(422, one.error)
            yield f"data: {json.dumps({'error': {'message': one.error, 'type': 'unanswerable'}})}\n\n"
            return
        content = json.dumps(one.values) if isinstance(one, Attributed) else json.dumps(one).removesuffix('"}')
        if piece := content.removeprefix(sent):
            yield event({"content": piece} if sent else {"role": "assistant", "content": piece})
            sent = content
        if isinstance(one, Attributed):
            yield event({}, "stop", _logprobs(body, one), assessment=json.loads(assessment(body.model, case, one)))
            yield "data: [DONE]\n\n"


def assessment(adapter: str, case: CaseId, answer: Attributed) -> str:
    """The answer as JSON, with its probabilities, what to cite it by, and the notice of the version that gave it."""
    notice = answer.card.notice if answer.card is not None else ""
    return answer.to_json(case=case.number, time=case.time, adapter=adapter, **answer.origin, notice=notice)


def _head(adapter: str, case: CaseId, kind: str) -> dict[str, Any]:
    created = int(datetime.fromisoformat(case.time).timestamp())
    return {"id": f"chatcmpl-{case.number}", "object": kind, "created": created, "model": adapter}


def _logprobs(body: ChatRequest, answer: Attributed) -> dict[str, Any] | None:
    """The logarithms of the closed values' probabilities, if they were asked for.

    There is one entry per value, in the order of the answer, instead of one per token: it stands for all tokens of its
    option. Probabilities are over the options of the form, so that they add up to one, and calibrated.
    """
    if not body.logprobs:
        return None
    closed = [field for value in answer.fields.values() for field in _closed(value)]
    return {"content": [_entry(field, body.top_logprobs or 0) for field in closed], "refusal": None}


def _closed(field: FieldValue) -> Iterator[FieldValue]:
    """The closed values of a field: its own, or those in the items of a list."""
    for item in field.items or ():
        for part in item.parts.values():
            yield from _closed(part)
    if field.distribution is not None and not isinstance(field.value, list):
        yield field


def _entry(field: FieldValue, most: int) -> dict[str, Any]:
    options: Mapping[str, float] = field.distribution or {}
    likely = sorted(options, key=options.__getitem__, reverse=True)[:most]
    quoted = isinstance(field.value, str)
    tokens = [_token(name, options[name], quoted) for name in (option_name(field.value), *likely)]
    return {**tokens[0], "top_logprobs": tokens[1:]}


def _token(option: str, probability: float, quoted: bool) -> dict[str, Any]:
    text = json.dumps(option) if quoted else option
    return {
        "token": text,
        "logprob": math.log(probability) if probability > 0 else IMPOSSIBLE,
        "bytes": list(text.encode()),
    }
