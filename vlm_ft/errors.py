"""Errors that a user can cause: place, problem, remedy (`UserError` and `DataError` are in `datasets_vision.errors`).

Only the command line, the app and the service catch `UserError`.
"""

from __future__ import annotations

from datasets_vision.errors import DataError, UserError, cause, nearest, one_line, problem_of, without_folders

__all__ = [
    "AdapterError",
    "BusyError",
    "DataError",
    "FormError",
    "HubError",
    "ModelError",
    "RecipeError",
    "UserError",
    "cause",
    "nearest",
    "one_line",
    "problem_of",
    "without_folders",
]


class RecipeError(UserError):
    """A recipe or a setting that cannot be used."""


class FormError(UserError):
    """A form that cannot be built, or an answer that does not fit one."""


class ModelError(UserError):
    """A base model that cannot be loaded, or does not fit the recipe."""


class AdapterError(UserError):
    """An adapter folder that cannot be used."""


class HubError(UserError):
    """A model hub that cannot be reached, or refuses a request."""


class BusyError(UserError):
    """More requests at once than an engine accepts; a retry may succeed."""
