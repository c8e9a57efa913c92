"""Talk to an adapter that reads texts: its replies appear as they are written, and its other fields below them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import gradio as gr

from datasets_vision.example import Turn
from vlm_ft.adapters import Card
from vlm_ft.answers.kinds import Items, Text
from vlm_ft.errors import UserError
from vlm_ft.inference.request import Attributed, Predictor, Request, new_case
from vlm_ft.inference.streaming import streamed

from .answer_view import notice_view
from .asking import BROKEN, MAX_TEXT
from .handlers import MODEL_QUEUE, PRIVATE, QUIET, adapter_choice, user_of
from .photos import reads_texts_alone
from .wording import in_words, probability_in_words, referral, title

MAX_TURNS = 40
NOTHING = "Enter a text first."
GONE = "This adapter is no longer loaded; reload this page."
TOO_LONG = f"The text is longer than {MAX_TEXT} characters; shorten it."
TOO_MANY = "This conversation is too long; start again."

Messages = list[dict[str, str]]

log = logging.getLogger(__name__)


def chat_tab(predictor: Predictor) -> None:
    """The tab's content."""
    adapter = adapter_choice(predictor, reads_texts_alone, "Talk to")
    notice = gr.HTML(notice_view(predictor.cards[adapter.value].notice))
    shown = gr.Chatbot(
        label="Conversation",
        height=420,
        render_markdown=False,
        allow_tags=False,
        latex_delimiters=[],
        feedback_options=None,
        buttons=["copy"],
        placeholder="The conversation appears here.",
    )
    turns = gr.State(list[Turn]())
    text = gr.Textbox(label="Message", lines=1, max_lines=8, max_length=MAX_TEXT)
    with gr.Row():
        send = gr.Button("Send", variant="primary", min_width=90)
        again = gr.Button("Start again", min_width=90)

    def talked(
        name: str, said: str, earlier: list[Turn], messages: Messages, request: gr.Request
    ) -> Iterator[tuple[Any, ...]]:
        yield from talk(predictor, name, said, earlier, messages, user_of(request))

    parts = [text, turns, shown]
    talking = gr.on([send.click, text.submit], talked, [adapter, *parts], parts, **PRIVATE, **MODEL_QUEUE)
    gr.on([again.click, shown.clear, adapter.change], lambda: ("", [], []), None, parts, cancels=talking, **PRIVATE)
    adapter.change(lambda name: notice_view(predictor.cards[name].notice), adapter, notice, **QUIET)


def talk(
    predictor: Predictor, adapter: str, said: str, earlier: Sequence[Turn], messages: Messages, by: str | None = None
) -> Iterator[tuple[Any, list[Turn], Messages]]:
    """(text box, turns, messages), updated as the reply is written; errors become messages."""
    said, card = said.strip(), predictor.cards.get(adapter)
    problem = TOO_MANY if len(earlier) >= MAX_TURNS else TOO_LONG if len(said) > MAX_TEXT else ""
    if not said or card is None or problem:
        gr.Warning(GONE if card is None else problem or NOTHING)
        yield gr.skip(), list(earlier), messages
        return
    asked, shown = [*earlier, Turn("user", said)], [*messages, _message("user", said)]
    yield "", list(earlier), [*shown, _message("assistant", "…")]
    number, _ = new_case()
    try:
        for found in streamed(predictor, Request((), tuple(asked), adapter, by=by, case=number)):
            if not isinstance(found, Attributed):
                yield "", list(earlier), [*shown, _message("assistant", spoken(card, found) or "…")]
                continue
            if found.error is not None:
                raise UserError("", found.error, "")
            card = found.card or card
            replied = Turn("assistant", spoken(card, found.values))
            yield "", [*asked, replied], [*shown, _message("assistant", _in_words(card, found))]
    except UserError as error:
        yield said, list(earlier), [*shown, _message("assistant", f"No answer: {error.public()}")]
    except Exception:  # the page stays usable; the log has the details
        log.exception("talking to adapter %r failed", adapter)
        yield said, list(earlier), [*shown, _message("assistant", f"No answer: {BROKEN}")]


def spoken(card: Card, values: Mapping[str, Any]) -> str:
    """What the adapter says: the last of its texts, or all values if its form has none."""
    name = _spoken_field(card)
    return str(values.get(name, "")) if name else json.dumps(dict(values), ensure_ascii=False)


def _spoken_field(card: Card) -> str | None:
    return next((field.name for field in card.form.fields[::-1] if isinstance(field.kind, Text)), None)


def _in_words(card: Card, answer: Attributed) -> str:
    """The reply, then the other fields with their probabilities, then whether a person must decide."""
    name = _spoken_field(card)
    others = [_line(card, field.name, answer) for field in card.form.fields if field.name != name]
    reply, decision = spoken(card, answer.values) if name else "", referral(answer)
    return "\n\n".join(filter(None, [reply, "\n".join(others), decision and f"{decision}."]))


def _line(card: Card, name: str, answer: Attributed) -> str:
    entry, kind = answer.fields[name], card.form.field(name).kind
    value = f"{len(entry.value)} listed" if isinstance(kind, Items) else in_words(kind, entry.value)
    share = probability_in_words(entry)
    return f"{title(name)}: {value} ({share})" if share else f"{title(name)}: {value}"


def _message(role: str, content: str) -> dict[str, str]:
    """A message that is shown verbatim: even without Markdown, Gradio would take its tags for HTML."""
    return {"role": role, "content": escape(content, quote=False)}
