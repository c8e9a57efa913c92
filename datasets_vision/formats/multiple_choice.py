"""Multiple choice: a question, its options, and which of them are correct."""

from __future__ import annotations

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from datasets_vision.errors import DataError
from datasets_vision.formats.contract import Source, plain
from datasets_vision.formats.drafts import TEXT, Draft
from datasets_vision.formats.json_files import Entry

_OPTIONS = ("options", "choices")
_CORRECT = ("correct", "answer")
_USED = (*_OPTIONS, *_CORRECT, "option_ids")


def is_question(record: Mapping[str, Any]) -> bool:
    """Whether a record has a question, a list of options and the correct one."""
    return (
        isinstance(record.get("question"), str)
        and any(isinstance(record.get(key), list) for key in _OPTIONS)
        and any(key in record for key in _CORRECT)
    )


def draft(_: Source, entry: Entry, record: dict[str, Any]) -> Draft:
    """The text is the question with its lettered options; `option` is the correct letter, `answer` its text.

    The correct option is stated by `correct`, a boolean for each option, or by `answer`: a letter, an option's text,
    or its position from 0. Letters of several correct options are joined by "+", their texts by "; ".
    """
    question = record.get("question")
    if not isinstance(question, str) or not question.strip():
        raise DataError("", f"has no question, only {', '.join(record)[:80] or 'nothing'}", "write one")
    options = _options(record)
    letters = _letters(record, len(options))
    correct = _correct(record, options, letters)
    listed = "\n".join(f"{letter}) {option}" for letter, option in zip(letters, options, strict=True))
    cells = {
        TEXT: f"{question.strip()}\n{listed}",
        "option": "+".join(letters[place] for place in correct),
        "answer": "; ".join(options[place] for place in correct),
    }
    return Draft.of(entry, cells, _USED)


def _options(record: Mapping[str, Any]) -> list[str]:
    given: list[Any] = next((record[key] for key in _OPTIONS if isinstance(record.get(key), list)), [])
    options = [plain(option).strip() for option in given if isinstance(option, str | int | float)]
    if len(given) < 2 or len(options) < len(given) or not all(options):
        raise DataError("", f"options {str(given)[:60]!r} are not a list of two or more strings", "write one")
    if len(set(options)) < len(options):
        twice = next(option for option in options if options.count(option) > 1)
        raise DataError("", f"option {twice[:60]!r} appears twice", "drop one")
    return options


def _letters(record: Mapping[str, Any], count: int) -> list[str]:
    given = record.get("option_ids")
    if given is None:
        if count > len(ascii_uppercase):
            raise DataError("", f"{count} options, more than there are letters", "give option_ids")
        return list(ascii_uppercase[:count])
    letters = [plain(letter).strip() for letter in given] if isinstance(given, list) else []
    if len(letters) != count or len(set(letters)) != count:
        raise DataError("", f"option_ids {str(given)[:60]!r} do not name the {count} options", "give each its own name")
    return letters


def _correct(record: Mapping[str, Any], options: list[str], letters: list[str]) -> list[int]:
    """Positions of the correct options."""
    flags = record.get("correct")
    if isinstance(flags, list):
        if len(flags) != len(options) or not all(isinstance(flag, bool) for flag in flags):
            raise DataError(
                "",
                f"correct must have one boolean for each of the {len(options)} options, not {str(flags)[:60]!r}",
                "write true or false for each",
            )
        if not any(flags):
            raise DataError("", "no option is correct", "mark the correct one")
        return [place for place, flag in enumerate(flags) if flag]
    answer = record.get("answer", flags)
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(options):
            raise DataError("", f"answer {answer} is not a position among {len(options)} options", "they start at 0")
        return [answer]
    for known in (letters, options):
        if isinstance(answer, str) and answer.strip() in known:
            return [known.index(answer.strip())]
    raise DataError(
        "", f"answer {str(answer)[:60]!r} is not one of the options", "write its letter, its text or its position"
    )
