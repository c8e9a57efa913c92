"""How long rows are, and how large their images are seen, without decoding an image or reading a weight."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from datasets_vision.example import Turn
from vlm_ft.answers.form import Form
from vlm_ft.bases.reader import Reader
from vlm_ft.conversation import Conversation, Row

Sizes = tuple[tuple[int, int], ...]
SOME_TEXT = (Turn("user", "Look"),)


class Ruler:
    """Measures rows as a base will read them.

    Images count by their size in pixels, and each size is put through the processor once.
    """

    def __init__(self, reader: Reader, max_length: int | None = None) -> None:
        """`max_length`: a limit in tokens below the base's own."""
        self._conversation = Conversation(reader)
        self._added: dict[tuple[Sizes, bool], tuple[int, int]] = {}
        self.limit = min(max_length or reader.max_length, reader.max_length)
        self.most_pixels = reader.most_pixels

    def lengths(
        self, form: Form, turns: Sequence[Turn], sizes: Sequence[tuple[int, int]], target: str
    ) -> tuple[int, int]:
        """Tokens of the row, prompt and answer, and image tokens among them; images count 0 for a text base."""
        text, _ = self._conversation.lengths(Row(form, tuple(turns), (), target))
        worded = any(turn.text for turn in turns)
        added, image_tokens = self._of_images(form, tuple(sizes), worded)
        return text + added, image_tokens

    def _of_images(self, form: Form, sizes: Sizes, worded: bool) -> tuple[int, int]:
        """Tokens that images of these sizes add to a row (with their separators), and image tokens among them.

        `worded`: a text follows; what ends an image can merge with what begins that.
        """
        if not sizes or not self._conversation.reader.sees:
            return 0, 0
        key = sizes, worded
        if key not in self._added:
            turns, blank = SOME_TEXT if worded else (), tuple(Image.new("RGB", size) for size in sizes)
            without, _ = self._conversation.lengths(Row(form, turns, ()))
            tokens, image_tokens = self._conversation.lengths(Row(form, turns, blank))
            self._added[key] = tokens - without, image_tokens
        return self._added[key]
