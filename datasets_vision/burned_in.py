"""Find where text is likely burned into a scan: rows of small, even, high-contrast strokes.

This only guides a human check; it proves nothing. Letters are connected components of a top-hat (bright on dark) or
black-hat (dark on bright) transform; letters of similar height on one line form a word. Away from the borders, where
the anatomy is, a word needs more letters to count.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

PixelBox = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels, right and bottom exclusive."""

MAX_SIDE = 768  # pixels on the longer side; larger pictures are scaled down to this
MAX_STROKE = 9  # pixels: wider strokes are not text
CONTRASTS = (64, 36)  # grey levels from stroke to background: the first separates letters, the second finds faint ones
LETTER_HEIGHTS = (5, 40)  # pixels
BORDER = 0.22  # width of the border, as a share of the side
MIN_LETTERS = 3  # in a word near the border
MIN_LETTERS_INSIDE = 6  # in a word elsewhere
MAX_LEVEL_STEP = 24  # grey levels between neighbouring letters of a word
MAX_COMPONENT_WIDTH = 4  # of touching letters, in letter heights


@dataclass(frozen=True, slots=True)
class _Letter:
    left: int
    top: int
    right: int
    bottom: int
    level: float  # median grey level

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def count(self) -> int:
        """The estimated number of letters: touching letters form one component."""
        return max(1, round((self.right - self.left) / self.height))


def text_areas(image: np.ndarray) -> list[PixelBox]:
    """Boxes around likely words, from left to right, for a uint8 picture, (height, width[, 3])."""
    import cv2

    grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    scale = min(1.0, MAX_SIDE / max(height, width))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    boxes: list[PixelBox] = []
    for strokes in _strokes(grey):
        for word in _words(_letters(grey, strokes)):
            if (box := _box(word, grey)) is not None and not any(_overlap(box, other) for other in boxes):
                boxes.append(box)
    return sorted(
        (
            max(0, int(left / scale)),
            max(0, int(top / scale)),
            min(width, round(right / scale) + 1),
            min(height, round(bottom / scale) + 1),
        )
        for left, top, right, bottom in boxes
    )


def _strokes(grey: np.ndarray) -> Iterator[np.ndarray]:
    """Masks of thin strokes that contrast with their background: bright and dark, strong and faint."""
    import cv2

    kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (MAX_STROKE, MAX_STROKE))
    for hat in (cv2.MORPH_TOPHAT, cv2.MORPH_BLACKHAT):
        differences = cv2.morphologyEx(grey, hat, kernel)
        for contrast in CONTRASTS:
            yield differences >= contrast


def _overlap(one: PixelBox, other: PixelBox) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _letters(grey: np.ndarray, strokes: np.ndarray) -> list[_Letter]:
    """The components of a mask that may be letters, judging by their size and how much of their box they fill."""
    import cv2
    import numpy as np

    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    letters = []
    for index in range(1, count):
        left, top, wide, high, area = (int(value) for value in stats[index])
        if not (
            LETTER_HEIGHTS[0] <= high <= LETTER_HEIGHTS[1]
            and wide <= MAX_COMPONENT_WIDTH * high
            and 0.12 <= area / (wide * high) <= 0.95
        ):
            continue
        inside = labels[top : top + high, left : left + wide] == index
        level = float(np.median(grey[top : top + high, left : left + wide][inside]))
        letters.append(_Letter(left, top, left + wide, top + high, level))
    return letters


def _words(letters: list[_Letter]) -> Iterator[list[_Letter]]:
    """Runs of letters of similar height and level on one line, no further apart than a space."""
    waiting = sorted(letters, key=lambda letter: letter.left)
    while waiting:
        word = [waiting.pop(0)]
        for letter in list(waiting):
            last = word[-1]
            if letter.left - last.right > 1.5 * last.height:
                if letter.left - last.right > 4 * LETTER_HEIGHTS[1]:
                    break
                continue
            if _follows(last, letter):
                word.append(letter)
                waiting.remove(letter)
        yield word


def _follows(last: _Letter, letter: _Letter) -> bool:
    low, high = sorted((last.height, letter.height))
    on_line = min(abs(letter.bottom - last.bottom), abs(letter.top - last.top)) <= 0.25 * high
    return (
        on_line
        and high <= 1.8 * low
        and abs(letter.level - last.level) <= MAX_LEVEL_STEP
        and letter.left >= last.left + 2
    )


def _box(word: list[_Letter], grey: np.ndarray) -> PixelBox | None:
    """The word's box; None if it has too few letters for its position."""
    left, right = min(letter.left for letter in word), max(letter.right for letter in word)
    top, bottom = min(letter.top for letter in word), max(letter.bottom for letter in word)
    height, width = grey.shape
    middle_x, middle_y = (left + right) / 2 / width, (top + bottom) / 2 / height
    near = min(middle_x, 1 - middle_x, middle_y, 1 - middle_y) <= BORDER
    enough = sum(letter.count for letter in word) >= (MIN_LETTERS if near else MIN_LETTERS_INSIDE)
    return (left, top, right, bottom) if enough and len(word) > 1 else None
