"""The app: choose an adapter, give it photos or a text, and read its typed answer.

blocks = build_app(engine, {"boards": [Path("board.jpg")]})
mount(api, blocks)
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import gradio as gr
from starlette.middleware import Middleware
from starlette.responses import Response

from vlm_ft.adapters import Card
from vlm_ft.inference.request import Predictor
from vlm_ft.work.workplace import Workplace

from .accessible import FIXES
from .adapters_tab import adapters_tab
from .answer_view import message_view
from .assess_tab import ASSESS, Examples, assess_tab
from .batch_tab import batch_tab
from .chat_tab import chat_tab
from .compare_tab import compare_tab
from .history_tab import History, history_tab
from .photos import reads_photos, reads_text, reads_texts_alone
from .style import CSS, ICON
from .train_tab import train_tab
from .uploads import WithoutMetadata

if TYPE_CHECKING:
    from fastapi import FastAPI

LEAD = "{}. The adapter fills in a fixed form, and says when a person must decide."
NO_ADAPTER = "No adapter is loaded; train one with vlm-ft train, then start the app with it."
LARGEST_UPLOAD = "200mb"  # per file: a scan can have many frames
UPLOADS_KEPT = (600, 3600)  # seconds: how often uploads are deleted, and their minimum age
FONT = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")


def build_app(
    predictor: Predictor,
    examples: Examples | None = None,
    work: Workplace | None = None,
    history: History | None = None,
) -> gr.Blocks:
    """The app for the adapters that are loaded now; the model handles one request at a time.

    With `work`, answers can be reviewed, folders scored, and new versions trained; with `history` as well, old answers
    can be found.
    """
    title, asked = titled(predictor.cards.values())
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=UPLOADS_KEPT) as blocks:
        gr.HTML(f"<h1>{title}</h1><p>{LEAD.format(asked)}</p>", elem_classes="lead")
        if not predictor.cards:
            gr.HTML(message_view(NO_ADAPTER))
        else:
            _tabs(predictor, examples or {}, work, history)
    return blocks


def titled(cards: Collection[Card]) -> tuple[str, str]:
    """The title of an app with these adapters, and what to do first."""
    photos, texts = (any(map(reads, cards)) for reads in (reads_photos, reads_text))
    if photos and texts:
        return "Photo and text assessor", "Upload photos or enter a text"
    return ("Text assessor", "Enter a text") if texts else ("Photo assessor", "Upload photos")


def _tabs(predictor: Predictor, examples: Examples, work: Workplace | None, history: History | None) -> None:
    cards = predictor.cards.values()
    with gr.Tabs() as tabs:
        with gr.Tab("Assess", id=ASSESS):
            adapter, photos = assess_tab(predictor, examples, work)
        if any(map(reads_photos, cards)):
            with gr.Tab("Compare"):
                compare_tab(predictor)
        if any(map(reads_texts_alone, cards)):
            with gr.Tab("Chat"):
                chat_tab(predictor)
        if work is not None:
            with gr.Tab("Batch"):
                batch_tab(predictor, work, (tabs, adapter, photos))
            with gr.Tab("Train"):
                train_tab(work)
            with gr.Tab("Adapters") as tab:
                adapters_tab(predictor, work, tab)
        if work is not None and history is not None:
            with gr.Tab("History") as tab:
                history_tab(history, work, tab)


def mount(api: FastAPI, blocks: gr.Blocks, auth: Any = None) -> FastAPI:
    """Mount the app at /app of a FastAPI application; `auth` is a dependency that returns the user or None."""
    blocks.has_launched = True  # otherwise, Gradio accepts the path of any file on the server as an upload
    theme = gr.themes.Default(
        primary_hue="blue", font=FONT, font_mono=("ui-monospace", "Consolas", "monospace")
    ).set(  # dark enough for white text
        color_accent="*primary_700",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_hover_dark="*primary_800",
        button_cancel_background_fill="#b91c1c",
        button_cancel_background_fill_dark="#b91c1c",
        button_cancel_background_fill_hover="#991b1b",
        button_cancel_background_fill_hover_dark="#991b1b",
    )
    icon = Response(ICON, media_type="image/svg+xml")
    api.get("/favicon.ico", include_in_schema=False)(lambda: icon)
    gr.mount_gradio_app(
        api,
        blocks,
        "/app",
        auth_dependency=auth,
        show_error=False,
        max_file_size=LARGEST_UPLOAD,
        css=CSS,
        theme=theme,
        head=FIXES,
        footer_links=[],
        ssr_mode=False,
        run_history=False,  # by default, the browser stores what was asked and answered
        app_kwargs={"middleware": [Middleware(WithoutMetadata)]},
    )
    return api
