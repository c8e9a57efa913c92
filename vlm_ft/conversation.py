"""The one builder of prompts: training, evaluation, the app, the service and scoring all go through it.

The constant part (instruction, fields) comes before the image wherever the family's template has a system
role. Prompt and completion are tokenised apart and joined, so that serving sees the very tokens of training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from datasets_vision.example import Example, Picture, Turn, View
from datasets_vision.images import image_size, open_image
from vlm_ft.answers.box_format import Size
from vlm_ft.answers.form import Form
from vlm_ft.bases.families import TOKEN_TYPES
from vlm_ft.bases.reader import Reader
from vlm_ft.decoding.tokens import AnswerTokens, Taught
from vlm_ft.errors import DataError, FormError
from vlm_ft.recipe import LossOn

CHOICES = "choices"  # of a supervised batch: the tokens that each supervised position chooses among, packed
SECOND, SHARES = "second", "shares"  # the token that is right as well, and its part of the target
SUPERVISION = ("labels", CHOICES, SECOND, SHARES)  # what a model is not given
IGNORED = -100  # the label of a position that is not supervised
ANSWER = "\u2402ANSWER\u2403"  # stands for the answer while a template is read; no template contains it


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt, and the answer that training supervises (None when it is asked for)."""

    form: Form
    turns: tuple[Turn, ...]
    images: tuple[Picture | Image, ...]
    target: str | None = None

    @classmethod
    def of(cls, example: Example, form: Form, target: str | None = None) -> Row:
        """The row of an example."""
        return cls(form, example.turns, example.images, target)


Batch = dict[str, Any]
"""What the model's forward takes: token tensors (batch, length) and the family's own image tensors."""


class Conversation:
    """Turns rows into tokens for one base; it needs the base's reader, never its weights.

    What is supervised of an answer: all of it, or with `loss_on` "decisions" the tokens that the form leaves open, each
    among those that it allows there. Decoding writes the rest by itself.
    """

    def __init__(self, reader: Reader, loss_on: LossOn = "answer") -> None:
        self.reader = reader
        self.tokenizer = reader.tokenizer
        self._answers = AnswerTokens(reader.tokenizer)
        self._decisions_only = loss_on == "decisions"
        self._constants: dict[str, tuple[int, ...]] = {}
        self._special = special_tokens(reader)

    def messages(self, row: Row) -> list[dict[str, Any]]:
        """The chat messages of the prompt; images belong to the first user turn.

        Users and assistants take turns, the user first, as most templates demand: neighbouring turns of one speaker
        are one message.
        """
        system = [self._message("system", row.form.prompt)] if self.reader.family.system_role else []
        constant = "" if system else row.form.prompt
        opening = () if row.turns and row.turns[0].role == "user" else (Turn("user", ""),)
        messages = []
        for place, (role, said) in enumerate(groupby((*opening, *row.turns), key=lambda turn: turn.role)):
            texts = [*([constant] if place == 0 else []), *(turn.text for turn in said)]
            images = len(row.images) if place == 0 else 0
            messages.append(self._message(role, "\n\n".join(filter(None, texts)), images))
        return [*system, *messages]

    def _message(self, role: str, text: str, images: int = 0) -> dict[str, Any]:
        text = self._as_text(text)
        if not self.reader.sees:
            return {"role": role, "content": text}
        content: list[dict[str, str]] = [{"type": "image"}] * images
        if text or not images:
            content = [*content, {"type": "text", "text": text}]
        return {"role": role, "content": content}

    def _as_text(self, text: str) -> str:
        """What people write stays text: a space parts what would read as an image, or as the end of a turn."""
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def prompt(self, row: Row) -> str:
        """The prompt as text, ending where the answer begins; an image is still one placeholder."""
        if not self._template:
            return self._plain(row)
        return str(self._render(self.messages(row), add_generation_prompt=True))

    def _end(self, row: Row) -> str:
        """How the family's template closes an answer."""
        if not self._template:
            return str(self.tokenizer.eos_token)
        answered = [*self.messages(row), self._message("assistant", ANSWER)]
        return str(self._render(answered)).split(ANSWER)[1].rstrip() or str(self.tokenizer.eos_token)

    @property
    def _template(self) -> Any:
        return getattr(self.reader.processor, "chat_template", None) or self.tokenizer.chat_template

    def _render(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        return self.reader.processor.apply_chat_template(messages, tokenize=False, **options)

    def _plain(self, row: Row) -> str:
        """A base without a chat template: images, instruction, turns, a line break."""
        image = getattr(self.reader.processor, "image_token", "")
        texts = [row.form.prompt, *(turn.text for turn in row.turns if turn.text)]
        return image * len(row.images) + self._as_text("\n".join(texts)) + "\n"

    def seen_size(self, row: Row) -> Size | None:
        """Of the row's first image as the base sees it, where its boxes are in pixels; else None."""
        if row.form.boxes.scale is not None or not row.images or not self.reader.sees:
            return None
        first = row.images[0]
        return self.reader.seen_size(first.size if isinstance(first, Image) else image_size(first))

    def constant(self, form: Form) -> tuple[int, ...]:
        """Tokens that begin the prompts of this form, up to where images and text differ from row to row."""
        if form.fingerprint not in self._constants:
            probe = Row(form, (Turn("user", ANSWER),), ())
            self._constants[form.fingerprint] = tuple(self._prompts([probe])["input_ids"][0].tolist())
        return self._constants[form.fingerprint]

    def completion(self, row: Row) -> Taught:
        """The answer of a row that has a target, and the end of its turn, which is decided among all tokens.

        So a model that writes freely stops, too.
        """
        if row.target is None:
            raise FormError("", "row has no target", "nothing to supervise")
        answer = self._answers.taught(row.form, row.form.parse(row.target), self.seen_size(row))
        end = self.tokenizer(self._end(row), add_special_tokens=False)["input_ids"]
        return Taught(
            ids=[*answer.ids, *end],
            decided=[*answer.decided, True, *[False] * (len(end) - 1)],
            choices=torch.cat([answer.choices, self._answers.among_all(1)]),
            shares=[*answer.shares, (end[0], 0.0)],
        )

    def encode(self, rows: Sequence[Row], *, supervised: bool = False) -> Batch:
        """Rows to tensors. Supervised: completions and `labels`, padded right; else prompts, padded left.

        Raises `DataError` for an image that cannot be opened, or images given to a text base.
        """
        batch = self._prompts(rows)
        prompts = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        kinds = {
            key: [row[mask.bool()] for row, mask in zip(batch[key], batch["attention_mask"], strict=True)]
            for key in TOKEN_TYPES
            if key in batch
        }
        taught = [self.completion(row) for row in rows] if supervised else []
        completions = [torch.tensor(answer.ids) for answer in taught] or [torch.empty(0, dtype=torch.long)] * len(rows)
        side = "right" if supervised else "left"
        ids = [torch.cat(pair) for pair in zip(prompts, completions, strict=True)]
        batch["input_ids"] = _padded(ids, int(self.tokenizer.pad_token_id), side)
        batch["attention_mask"] = _padded([torch.ones_like(row) for row in ids], 0, side)
        for key, values in kinds.items():
            suffix = dict([self.reader.family.suffix_token_type or (key, 0)]).get(key, 0)
            joined = [
                torch.cat([value, torch.full_like(tail, suffix)])
                for value, tail in zip(values, completions, strict=True)
            ]
            batch[key] = _padded(joined, 0, side)
        if supervised:
            learned = completions
            if self._decisions_only:
                decided = [torch.tensor(answer.decided) for answer in taught]
                learned = [torch.where(*pair, IGNORED) for pair in zip(decided, completions, strict=True)]
                batch[CHOICES] = torch.cat([answer.choices for answer in taught])
                shares = [share for answer in taught for share in answer.shares]
                if any(share for _, share in shares):
                    batch[SECOND], batch[SHARES] = (torch.tensor(column) for column in zip(*shares, strict=True))
            labels = [
                torch.cat([torch.full_like(ids, IGNORED), tail]) for ids, tail in zip(prompts, learned, strict=True)
            ]
            batch["labels"] = _padded(labels, IGNORED, side)
        return batch

    def _prompts(self, rows: Sequence[Row]) -> Batch:
        texts = [self.prompt(row) for row in rows]
        images = [self._photos(row) for row in rows]
        begun = texts[0].startswith(self.tokenizer.bos_token or ANSWER)  # the template wrote the first token itself
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt", "add_special_tokens": not begun}
        if not any(images):
            return dict(self.tokenizer(texts, **options))
        if not self.reader.sees:
            raise DataError(f"base {self.reader.name}", "is a text model and takes no images", "choose a vision base")
        batch = dict(self.reader.processor(text=texts, images=images, **options))
        batch.pop("labels", None)  # PaliGemma's processor always adds them
        return batch

    def _photos(self, row: Row) -> list[Image]:
        """The row's photos, lowered where they are held to a budget of tokens."""
        return self.reader.fitted([opened(image) for image in row.images])

    def lengths(self, row: Row) -> tuple[int, int]:
        """Tokens in all, and image tokens among them."""
        batch = self.encode([row], supervised=row.target is not None)
        return int(batch["input_ids"].shape[1]), int((batch["input_ids"] == self.reader.image_token_id).sum())

    def view(self, row: Row) -> list[tuple[str, bool]]:
        """The row as the model reads it: (text, supervised?) pieces; runs of image tokens are folded."""
        batch = self.encode([row], supervised=True)
        pieces: list[tuple[str, bool]] = []
        ids, labels = batch["input_ids"][0].tolist(), batch["labels"][0].tolist()
        start = 0
        for end in range(1, len(ids) + 1):
            if end < len(ids) and _sort(ids, labels, end, self.reader.image_token_id) == _sort(
                ids, labels, start, self.reader.image_token_id
            ):
                continue
            is_image = ids[start] == self.reader.image_token_id
            text = f"[{end - start} image tokens]" if is_image else str(self.tokenizer.decode(ids[start:end]))
            pieces.append((text, labels[start] != IGNORED))
            start = end
        return pieces


def special_tokens(reader: Reader) -> list[str]:
    """The texts that the tokenizer or the processor takes for more than text."""
    added = [token.content for token in reader.tokenizer.added_tokens_decoder.values() if token.special]
    image = [token] if isinstance(token := getattr(reader.processor, "image_token", None), str) else []
    return sorted({*added, *reader.tokenizer.all_special_tokens, *image})


def _sort(ids: list[int], labels: list[int], position: int, image_token: int) -> tuple[bool, bool]:
    return ids[position] == image_token, labels[position] != IGNORED


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on the device."""
    return {key: value.to(device) if isinstance(value, Tensor) else value for key, value in batch.items()}


def opened(image: Picture | Image) -> Image:
    """The picture itself."""
    return open_image(image) if isinstance(image, Path | View) else image.convert("RGB")


def _padded(rows: list[Tensor], value: int, side: str) -> Tensor:
    """Rows of different lengths to (batch, longest)."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)
