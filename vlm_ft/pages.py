"""Pages of their own: a template filled, its text escaped, its images inside it."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image


def filled(package: str, template: str, **values: Any) -> str:
    """The template of a package, filled; all text is escaped, and a name that it does not get is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**values)


def data_address(image: Image, quality: int) -> str:
    """An RGB image as a JPEG (quality 1 to 95) that stands in its own address."""
    written = io.BytesIO()
    image.save(written, "JPEG", quality=quality)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"
