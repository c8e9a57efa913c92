"""The results of an answer's derivations as HTML. All text is escaped."""

from __future__ import annotations

from html import escape

from vlm_ft.answers.derivations.result import View
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import Prediction

from .markup import advised, section, table
from .wording import ASK


def derived_view(form: Form, prediction: Prediction) -> str:
    """A section for each result."""
    return "".join(map(_section, views(form, prediction)))


def views(form: Form, prediction: Prediction) -> list[View]:
    """The texts of each result, in the order of the form's derivations."""
    return [
        entry.result.model_validate(prediction.derived[entry.kind]).view()
        for entry in form.derivations
        if entry.kind in prediction.derived
    ]


def _section(view: View) -> str:
    remark = f" <small>{escape(view.remark)}</small>" if view.remark else ""
    body = f'<p class="label">{escape(view.headline)}{remark}</p>'
    if view.warning:
        body += f'<p class="banner ask">{advised(f"{ASK}: {view.warning}")}</p>'
    if view.rows:
        body += table(view.head, [map(escape, row) for row in view.rows])
    if view.entries:
        entries = "".join(f"<li>{escape(entry)}</li>" for entry in view.entries)
        body += f'<p class="rest">{escape(view.rest)}:</p><ul class="expected">{entries}</ul>'
    return section(view.title, view.source, body)
