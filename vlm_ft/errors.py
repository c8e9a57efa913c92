"""Everything that a user can cause. Each message is one line: the place, the value, the remedy.

    VlmFtError
      RecipeError     a recipe or a setting that cannot be used
      DataError       files or labels that cannot be read
      FormError       a form that cannot be built, or an answer that does not fit one
      ModelError      a base model that cannot be loaded, or does not fit the recipe
      AdapterError    an adapter folder that cannot be used

Only the command line, the service and the app catch these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VlmFtError(Exception):
    """A mistake that the user can mend; ``str(error)`` says where and how, in one line."""


class RecipeError(VlmFtError):
    """A recipe or a setting that cannot be used."""


class DataError(VlmFtError):
    """Files or labels that cannot be read."""


class FormError(VlmFtError):
    """A form that cannot be built, or an answer that does not fit one."""


class ModelError(VlmFtError):
    """A base model that cannot be loaded, or does not fit the recipe."""


class AdapterError(VlmFtError):
    """An adapter folder that cannot be used."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the closest known one, or all of them."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names)}"
