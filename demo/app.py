"""The app: choose an adapter, give it a photo or a text, read its typed answer.

blocks = build_app(engine, {"boards": [Path("board.jpg")]})
launch(blocks)                 # of its own, on this machine
mount(api, blocks)             # or inside a FastAPI application
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from PIL.Image import Image

from datasets_vision.example import Turn
from datasets_vision.images import open_image
from demo.answer_view import answer_view, empty_view, message_view, raw_view
from demo.card_view import card_view
from demo.photo_view import drawn, marks
from demo.style import CSS
from vlm_ft.adapters import Card
from vlm_ft.answers.prediction import Prediction
from vlm_ft.errors import DataError, VlmFtError
from vlm_ft.inference.request import Predictor, Request

if TYPE_CHECKING:
    from fastapi import FastAPI

TITLE = "Photo assessor"
LEAD = (
    "Give a photo or a text: the adapter that you choose answers in fixed fields, says how sure it is where it "
    "can, and tells you when to ask a person."
)
NO_ADAPTER = "No adapter is loaded; train one with vlm-ft train, then start the app with it."
LARGEST_UPLOAD = "50mb"
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")

TO_RESULT = """() => {
    const result = document.getElementById("result");
    if (result.getBoundingClientRect().top > 0.6 * innerHeight) result.scrollIntoView({behavior: "smooth"});
}"""
"""On a phone the answer lies below the fold."""

Examples = Mapping[str, Sequence[Path | str]]
"""Adapter -> things to try: a `Path` is an image, a `str` is a text."""

log = logging.getLogger(__name__)


def build_app(predictor: Predictor, examples: Examples | None = None, title: str = TITLE) -> gr.Blocks:
    """The app for the adapters that are resident now; the model is asked one request at a time."""
    with gr.Blocks(title=title, analytics_enabled=False) as blocks:
        gr.HTML(f"<h1>{escape(title)}</h1><p>{LEAD}</p>", elem_classes="lead")
        if not predictor.cards:
            gr.HTML(message_view(NO_ADAPTER))
        else:
            _assess_page(predictor, examples or {})
    blocks.queue(default_concurrency_limit=1)
    return blocks


def launch(blocks: gr.Blocks, host: str = "127.0.0.1", port: int | None = None) -> str:
    """Serve the app and return its address at once; `blocks.block_thread()` waits until it is stopped.

    Without a port, the first free one from 7860 is taken.
    """
    _, url, _ = blocks.launch(
        server_name=host,
        server_port=port,
        prevent_thread_lock=True,
        share=False,
        quiet=True,
        max_file_size=LARGEST_UPLOAD,
        **_LOOK,
    )
    return str(url)


def mount(api: FastAPI, blocks: gr.Blocks, path: str = "/app", auth: Any = None) -> FastAPI:
    """The FastAPI application with the app below `path`; `auth` is a dependency that names the user or None."""
    gr.mount_gradio_app(
        api, blocks, path, auth_dependency=auth, max_file_size=LARGEST_UPLOAD, show_error=False, **_LOOK
    )
    return api


_LOOK: dict[str, Any] = {
    "css": CSS,
    "theme": gr.themes.Default(
        primary_hue="blue", font=FONT, font_mono=("ui-monospace", "Consolas", "monospace")
    ).set(  # dark enough to carry white text
        color_accent="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
    ),
    "footer_links": [],
    "ssr_mode": False,
}


def assess(predictor: Predictor, adapter: str, photo: str | None, text: str | None) -> tuple[Image | None, str, str]:
    """(the photo with its boxes, the answer as HTML, the prediction as JSON); never raises for what users do."""
    card = predictor.cards.get(adapter)
    if card is None:
        return None, message_view(f"adapter {adapter!r} is not loaded any more; reload this page"), ""
    try:
        image = _opened(photo, card)
        prediction = _predicted(predictor, adapter, image, (text or "").strip())
    except VlmFtError as error:
        return None, message_view(_without_folder(str(error), photo), card.notice), ""
    except Exception:  # the page must go on; the log has the rest
        log.exception("assessing with adapter %r failed", adapter)
        message = "Something went wrong inside; the server's log says what. Try again, or tell its owner."
        return None, message_view(message, card.notice), ""
    shown = drawn(image, marks(card.form, prediction)) if image else None
    return shown, answer_view(card, prediction), raw_view(prediction, card.notice)


def reads_photos(card: Card) -> bool:
    """Whether the adapter's base takes images at all."""
    return card.base.kind != "text"


def _opened(photo: str | None, card: Card) -> Image | None:
    return open_image(Path(photo)) if photo and reads_photos(card) else None


def _predicted(predictor: Predictor, adapter: str, image: Image | None, text: str) -> Prediction:
    if image is None and not text:
        wanted = "a photo or a text" if reads_photos(predictor.cards[adapter]) else "a text"
        raise DataError(f"Give {wanted} first, then press Assess.")
    request = Request(images=(image,) if image else (), turns=(Turn("user", text),) if text else (), adapter=adapter)
    return predictor.predict([request])[0]


def _without_folder(message: str, photo: str | None) -> str:
    return message.replace(photo, Path(photo).name) if photo else message


def _assess_page(predictor: Predictor, examples: Examples) -> None:
    names = list(predictor.cards)
    first = predictor.cards[names[0]]
    with gr.Row(equal_height=False):
        with gr.Column(scale=2, min_width=300):
            adapter = gr.Dropdown(names, value=names[0], label="Adapter", filterable=False)
            with gr.Column(visible=reads_photos(first)) as photo_place:
                photo = _photo_input()
            text = gr.Textbox(label=_text_label(first), lines=3, max_lines=12, max_length=20_000)
            button = gr.Button("Assess", variant="primary")
            tries = {
                name: _examples(examples[name], photo, text, name == names[0]) for name in names if examples.get(name)
            }
        with gr.Column(scale=3, min_width=300, elem_id="result"):
            shown = gr.Image(
                label="Photo with what was found",
                show_label=False,
                interactive=False,
                visible=False,
                buttons=["download", "fullscreen"],
            )
            answer = gr.HTML(empty_view(first), elem_id="answer")
            with gr.Accordion("Answer as JSON", open=False, visible=False) as raw_place:
                raw = gr.Code(language="json", interactive=False, show_label=False)
            with gr.Accordion("About this adapter"):
                about = gr.HTML(card_view(first))

    results = [shown, answer, raw, raw_place]
    gr.on(
        [button.click, text.submit],
        partial(_assess_shown, predictor),
        [adapter, photo, text],
        results,
        api_name="assess",
        concurrency_limit=1,
        concurrency_id="model",
    ).then(fn=None, js=TO_RESULT)
    photo.change(partial(_emptied, predictor), adapter, results, api_visibility="private", queue=False)
    adapter.change(
        partial(_adapter_shown, predictor, list(tries)),
        adapter,
        [*results, photo_place, text, about, *tries.values()],
        api_visibility="private",
        queue=False,
    )


def _photo_input() -> gr.Image:
    photo = gr.Image(
        label="Photo", type="filepath", image_mode=None, sources=["upload", "webcam", "clipboard"], height=260
    )
    # Gradio would open the upload itself and fail in its own words; `open_image` judges it
    photo.preprocess = lambda payload: payload.path if payload else None
    return photo


def _examples(tries: Sequence[Path | str], photo: gr.Image, text: gr.Textbox, visible: bool) -> gr.Column:
    photos = [[str(item)] for item in tries if isinstance(item, Path)]
    texts = [[item] for item in tries if isinstance(item, str)]
    with gr.Column(visible=visible) as place:
        if photos:
            gr.Examples(photos, photo, label="Or take an example", cache_examples=False, api_visibility="private")
        if texts:
            gr.Examples(texts, text, label="Or take an example", cache_examples=False, api_visibility="private")
    return place


def _text_label(card: Card) -> str:
    return "Text, if any" if reads_photos(card) else "Text"


def _assess_shown(predictor: Predictor, adapter: str, photo: str | None, text: str | None) -> tuple[Any, ...]:
    image, html, raw = assess(predictor, adapter, photo, text)
    return gr.update(value=image, visible=image is not None), html, raw, gr.update(visible=bool(raw))


def _emptied(predictor: Predictor, adapter: str) -> tuple[Any, ...]:
    card = predictor.cards.get(adapter)
    return gr.update(value=None, visible=False), empty_view(card) if card else "", "", gr.update(visible=False)


def _adapter_shown(predictor: Predictor, tried: Sequence[str], adapter: str) -> tuple[Any, ...]:
    card = predictor.cards[adapter]
    return (
        *_emptied(predictor, adapter),
        gr.update(visible=reads_photos(card)),
        gr.update(label=_text_label(card)),
        card_view(card),
        *(gr.update(visible=name == adapter) for name in tried),
    )
