"""Filled templates, self-contained HTML pages with escaped text and embedded images, and tables in Markdown."""

from __future__ import annotations

import base64
import io
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def rendered(package: str, template: str, **values: Any) -> str:
    """Render a package's template; text in HTML is escaped, and an undefined name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=select_autoescape(["html.j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_url(image: Image, quality: int) -> str:
    """The data URL of an RGB image as a JPEG (quality 1 to 95)."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def markdown_table(titles: Sequence[str], rows: Iterable[Sequence[str]], numbers: Collection[str] = ()) -> str:
    """A table in Markdown, without a trailing newline; `numbers` are the titles of right-aligned columns."""
    lines = [titles, ["---:" if title in numbers else "---" for title in titles], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
