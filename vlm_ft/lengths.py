"""The lengths of rows in tokens, computed without decoding images or loading weights."""

from __future__ import annotations

from collections.abc import Sequence

from datasets_vision.example import Turn
from vlm_ft.answers.form import Form
from vlm_ft.bases.reader import Reader
from vlm_ft.conversation import Conversation, Row

Sizes = tuple[tuple[int, int], ...]
SOME_TEXT = (Turn("user", "Look"),)


class Ruler:
    """Measures rows as a base will read them.

    Only the sizes of images matter: the processor is run once for each combination of sizes, on blank images.
    """

    def __init__(self, reader: Reader, max_length: int | None = None) -> None:
        """`max_length`: a limit in tokens below the base's own."""
        self._conversation = Conversation(reader)
        self._added: dict[tuple[Sizes, bool, bool], tuple[int, int]] = {}
        self.limit = min(max_length or reader.max_length, reader.max_length)
        self.most_pixels = reader.most_pixels

    def prompt(self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """The number of tokens of a prompt, and how many are image tokens (0 for a text base)."""
        text = self._conversation.lengths(Row(form, tuple(turns), ()))[0]
        has_text = any(turn.text for turn in turns)
        added, image_tokens = self._of_images(form, tuple(sizes), has_text)
        return text + added, image_tokens

    def answer(self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], target: str) -> int:
        """The number of tokens of an answer."""
        blanks = tuple(map(self._conversation.reader.blank, sizes)) if form.boxes.scale is None else ()
        return len(self._conversation.completion(Row(form, tuple(turns), blanks, target)).ids)

    def _of_images(self, form: Form, sizes: Sizes, has_text: bool) -> tuple[int, int]:
        """How many tokens images of these sizes add to a row (with separators), and how many are image tokens.

        `has_text`: whether text follows the images, whose first token can merge with the last separator.
        """
        if not sizes or not self._conversation.reader.sees:
            return 0, 0
        key = sizes, has_text, form.numbers_rows
        if key not in self._added:
            turns, blank = SOME_TEXT if has_text else (), tuple(map(self._conversation.reader.blank, sizes))
            without, _ = self._conversation.lengths(Row(form, turns, ()))
            tokens, image_tokens = self._conversation.lengths(Row(form, turns, blank))
            self._added[key] = tokens - without, image_tokens
        return self._added[key]
