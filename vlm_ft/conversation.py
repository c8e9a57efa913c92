"""Build every prompt, for training, evaluation, scoring and the app.

If the family's template has a system role, the constant part (instruction, fields) comes before the image. Prompt and
completion are tokenized separately and joined, so serving sees exactly the tokens of training.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any

import torch
from accelerate.utils import send_to_device
from PIL.Image import Image
from torch import Tensor
from torch.nn import functional

from datasets_vision.example import Example, Picture, Turn
from datasets_vision.images import opened, size_of
from vlm_ft.answers.box_format import Size
from vlm_ft.answers.form import Form
from vlm_ft.bases.families import TOKEN_TYPES
from vlm_ft.bases.reader import Reader
from vlm_ft.decoding.decisions import leaves_open
from vlm_ft.decoding.prompts import Prompts
from vlm_ft.decoding.rows import WORTH_SHARING
from vlm_ft.decoding.tokens import AnswerTokens, TargetTokens
from vlm_ft.errors import DataError, FormError
from vlm_ft.recipe import LossOn

CHOICES = "choices"  # key of a supervised batch: the tokens allowed at each supervised position, packed
SECOND, SHARES = "second", "shares"  # keys of the second correct tokens, and their shares of the target
REFERENCE = "reference"  # the log-likelihood of each row's reply under the model that the run began with
SHOWN = "shown"  # which photo each row shows, if several rows show the same one
FEATURES = "features"  # the outputs of the frozen part of the vision side, in place of pixels
MARKS = "marks"  # a number for each row that a method's loss needs
SHARED = "shared"  # the number of leading tokens that can be computed once for all rows, if any
OWN_KEYS = ("labels", CHOICES, SECOND, SHARES, REFERENCE, SHOWN, FEATURES, MARKS, SHARED)  # not inputs of the model
IGNORED = -100  # the label of a position that is not supervised
ANSWER = "\u2402ANSWER\u2403"  # placeholder for the answer in a rendered template; no template contains it

PROBE = 'Größe: 12.5 mm × 3\n{"passed":true,"kind":"crack"}'
"""A text of letters, digits, accents and JSON."""


@dataclass(frozen=True, slots=True)
class Row:
    """One prompt, and the answer that training supervises (None in inference)."""

    form: Form
    turns: tuple[Turn, ...]
    images: tuple[Picture | Image, ...]
    target: str | None = None

    @classmethod
    def of(cls, example: Example, form: Form, target: str | None = None) -> Row:
        return cls(form, example.turns, example.images, target)


Batch = dict[str, Any]
"""The inputs of the model's forward: token tensors (batch, length) and the family's own image tensors."""


class Conversation:
    """Turns rows into tokens for one base, with the base's reader but without its weights.

    With `loss_on` "answer", all tokens of an answer are supervised. With "decisions", only those that the form leaves
    open are, each among the tokens that the form allows there; the decoder fills in the rest.
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

        Users and assistants alternate, the user first, as most templates require: consecutive turns of one role become
        one message.
        """
        system = [self._message("system", row.form.prompt)] if self.reader.family.system_role else []
        constant = "" if system else row.form.prompt
        opening = () if row.turns and row.turns[0].role == "user" else (Turn("user", ""),)
        messages = []
        for place, (role, turns) in enumerate(groupby((*opening, *row.turns), key=lambda turn: turn.role)):
            texts = [*([constant] if place == 0 else []), *(turn.text for turn in turns)]
            images = len(row.images) if place == 0 else 0
            messages.append(self._message(role, "\n\n".join(filter(None, texts)), images))
        return [*system, *messages]

    def _message(self, role: str, text: str, images: int = 0) -> dict[str, Any]:
        text = self._escaped(text)
        if not self.reader.sees:
            return {"role": role, "content": text}
        content: list[dict[str, str]] = [{"type": "image"}] * images
        if text or not images:
            content = [*content, {"type": "text", "text": text}]
        return {"role": role, "content": content}

    def _escaped(self, text: str) -> str:
        """The text with a space inside every special token, so that it cannot add an image or end a turn."""
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def prompt(self, row: Row) -> str:
        """The prompt as text, up to where the answer begins; each image is one placeholder."""
        if not self._template:
            return self._plain(row)
        return str(self._render(self.messages(row), add_generation_prompt=True))

    def _end(self, row: Row) -> str:
        """The text that ends an answer in the family's template."""
        if not self._template:
            return str(self.tokenizer.eos_token)
        answered = [*self.messages(row), self._message("assistant", ANSWER)]
        return str(self._render(answered)).split(ANSWER)[1].rstrip() or str(self.tokenizer.eos_token)

    @property
    def _template(self) -> Any:
        return getattr(self.reader.processor, "chat_template", None) or self.tokenizer.chat_template

    def _render(self, messages: list[dict[str, Any]], **options: Any) -> Any:
        return self.reader.processor.apply_chat_template(messages, tokenize=False, **options)

    def template_hash(self) -> str:
        """A hash of the tokens of fixed messages, which changes with the tokenizer and with its template's output."""
        opening = [self._message("system", PROBE)] if self.reader.family.system_role else []
        asked = [*opening, self._message("user", PROBE, int(self.reader.sees))]
        template = str(self._template or "")
        texts = [template]
        if template and "strftime_now" not in template:  # which would write another prompt every day
            answered = [*asked, self._message("assistant", PROBE)]
            texts = [str(self._render(asked, add_generation_prompt=True)), str(self._render(answered))]
        ids = self.tokenizer([PROBE, *texts])["input_ids"]
        return hashlib.sha256(json.dumps([texts, ids]).encode()).hexdigest()[:16]

    def _plain(self, row: Row) -> str:
        """The prompt of a base without a chat template: images, instruction, turns, a line break."""
        image = getattr(self.reader.processor, "image_token", "")
        texts = [row.form.prompt, *(turn.text for turn in row.turns if turn.text)]
        return image * len(row.images) + self._escaped("\n".join(texts)) + "\n"

    def prompts(self, rows: Sequence[Row], device: torch.device) -> Prompts:
        """The prompts of these rows as the decoder expects them; raises what `encode` raises."""
        return Prompts(
            batch=moved(self.encode(rows), device),
            forms=[row.form for row in rows],
            sizes=[self.seen_size(row) for row in rows],
            constants=[self.constant(row.form) for row in rows],
        )

    def seen_size(self, row: Row) -> Size | None:
        """The size of the row's first image as the base sees it, if boxes are in pixels; otherwise None."""
        if row.form.boxes.scale is not None or not row.images or not self.reader.sees:
            return None
        return self.reader.seen_size(size_of(row.images[0]))

    def constant(self, form: Form) -> tuple[int, ...]:
        """The tokens of a sample prompt of this form, which its other prompts share up to their images and text."""
        if form.fingerprint not in self._constants:
            probe = Row(form, (Turn("user", ANSWER),), ())
            self._constants[form.fingerprint] = tuple(self._tokenized([probe])["input_ids"][0].tolist())
        return self._constants[form.fingerprint]

    def completion(self, row: Row, *, end: bool = True) -> TargetTokens:
        """The tokens of a row's target, and of the end of its turn.

        With `end`, the turn's end is supervised among all tokens, so that the model also stops when it generates
        without the grammar.
        """
        if row.target is None:
            raise FormError("", "row has no target", "give it the answer to supervise")
        answer = self._answers.target_tokens(row.form, row.form.parse(row.target), self.seen_size(row))
        last = self.tokenizer(self._end(row), add_special_tokens=False)["input_ids"]
        return TargetTokens(
            ids=[*answer.ids, *last],
            decided=[*answer.decided, end, *[False] * (len(last) - 1)],
            choices=torch.cat([answer.choices, self._answers.all_allowed(1)]) if end else answer.choices,
            shares=[*answer.shares, (last[0], 0.0)] if end else answer.shares,
        )

    def supervises(self, row: Row) -> bool:
        """Whether any token of an answer to the row is supervised, apart from the end of its turn."""
        return not self._decisions_only or leaves_open(row.form)

    def encode(self, rows: Sequence[Row], *, supervised: bool = False, end: bool = True) -> Batch:
        """Rows as tensors. Supervised: prompts, completions and `labels`, padded right; otherwise prompts, padded left.

        `end`: whether the end of the turn is supervised too.

        Raises `DataError` for an image that cannot be opened, or images given to a text base.
        """
        batch = self._tokenized(rows)
        unpadded = [ids[mask.bool()] for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)]
        prompts = [self._with_numbered_rows(ids, row) for ids, row in zip(unpadded, rows, strict=True)]
        token_types = {
            key: [row[mask.bool()] for row, mask in zip(batch[key], batch["attention_mask"], strict=True)]
            for key in TOKEN_TYPES
            if key in batch
        }
        answers = [self.completion(row, end=end) for row in rows] if supervised else []
        completions = [torch.tensor(answer.ids) for answer in answers] or [torch.empty(0, dtype=torch.long)] * len(rows)
        side = "right" if supervised else "left"
        ids = [torch.cat(pair) for pair in zip(prompts, completions, strict=True)]
        batch["input_ids"] = _padded(ids, int(self.tokenizer.pad_token_id), side)
        batch["attention_mask"] = _padded([torch.ones_like(row) for row in ids], 0, side)
        answer_types = [torch.full_like(tail, self.reader.family.answer_token_type) for tail in completions]
        for key, values in token_types.items():
            batch[key] = _padded([torch.cat(pair) for pair in zip(values, answer_types, strict=True)], 0, side)
        if supervised:
            batch |= self._supervision(prompts, answers)
            batch |= self._sharing(batch)
        return batch

    def _with_numbered_rows(self, ids: Tensor, row: Row) -> Tensor:
        """The tokens of a prompt with a number before each row of its square images, if its form asks for them."""
        if not (row.form.numbers_rows and row.images):
            return ids
        places = (ids == self.reader.image_token_id).nonzero().flatten()
        side = math.isqrt(len(places) // len(row.images))
        starts = places[::side].tolist()
        pieces = torch.tensor_split(ids, starts)
        numbers = [str(row.form.boxes.row_number(number % side, side)) for number in range(len(starts))]
        tokens = map(torch.tensor, self.tokenizer(numbers, add_special_tokens=False)["input_ids"])
        return torch.cat([pieces[0], *chain.from_iterable(zip(tokens, pieces[1:], strict=True))])

    def _supervision(self, prompts: Sequence[Tensor], answers: Sequence[TargetTokens]) -> Batch:
        """The labels of these rows and, if only decisions are supervised, the tokens allowed at each of them."""
        targets = [torch.tensor(answer.ids) for answer in answers]
        batch: Batch = {}
        if self._decisions_only:
            decided = [torch.tensor(answer.decided) for answer in answers]
            targets = [torch.where(*pair, IGNORED) for pair in zip(decided, targets, strict=True)]
            batch[CHOICES] = torch.cat([answer.choices for answer in answers])
            shares = [share for answer in answers for share in answer.shares]
            if any(share for _, share in shares):
                batch[SECOND], batch[SHARES] = (torch.tensor(column) for column in zip(*shares, strict=True))
        labels = [torch.cat([torch.full_like(ids, IGNORED), tail]) for ids, tail in zip(prompts, targets, strict=True)]
        return {**batch, "labels": _padded(labels, IGNORED, "right")}

    def _sharing(self, batch: Batch) -> Batch:
        """How many leading tokens are the same in every row, precede any image, and predict no supervised token."""
        ids = batch["input_ids"]  # (rows, length)
        if len(ids) < 2 or not self.reader.reuses_prefix:
            return {}
        predicts = functional.pad(batch["labels"][:, 1:] != IGNORED, (0, 1)).any(0)  # where the head runs
        alike = (ids == ids[:1]).all(0) & batch["attention_mask"].bool().all(0) & ~predicts
        alike &= ids[0] != self.reader.image_token_id
        length = int(alike.long().cumprod(0).sum())
        return {SHARED: length} if length >= WORTH_SHARING else {}

    def _tokenized(self, rows: Sequence[Row]) -> Batch:
        texts = [self.prompt(row) for row in rows]
        images = [self.reader.scaled_to_limits([opened(image) for image in row.images]) for row in rows]
        has_bos = texts[0].startswith(self.tokenizer.bos_token or ANSWER)  # written by the template
        options: dict[str, Any] = {"padding": True, "return_tensors": "pt", "add_special_tokens": not has_bos}
        if not any(images):
            return dict(self.tokenizer(texts, **options))
        if not self.reader.sees:
            raise DataError(f"base {self.reader.name}", "is a text model and takes no images", "choose a vision base")
        batch = dict(self.reader.processor(text=texts, images=images, **options))
        batch.pop("labels", None)  # PaliGemma's processor always adds them
        return batch

    def lengths(self, row: Row) -> tuple[int, int]:
        """The number of tokens, and how many of them are image tokens."""
        batch = self.encode([row], supervised=row.target is not None)
        return int(batch["input_ids"].shape[1]), int((batch["input_ids"] == self.reader.image_token_id).sum())

    def view(self, row: Row) -> list[tuple[str, bool]]:
        """The row as the model reads it, as (text, whether supervised); runs of image tokens are shown as a count."""
        batch = self.encode([row], supervised=True)
        tokens = zip(batch["input_ids"][0].tolist(), batch["labels"][0].tolist(), strict=True)
        pieces: list[tuple[str, bool]] = []
        for (is_image, supervised), run in groupby(
            tokens, key=lambda token: (token[0] == self.reader.image_token_id, token[1] != IGNORED)
        ):
            ids = [token_id for token_id, _ in run]
            text = f"[{len(ids)} image tokens]" if is_image else str(self.tokenizer.decode(ids))
            pieces.append((text, supervised))
        return pieces


def special_tokens(reader: Reader) -> list[str]:
    """The strings that the tokenizer or the processor reads as special tokens."""
    added = [token.content for token in reader.tokenizer.added_tokens_decoder.values() if token.special]
    image = [token] if isinstance(token := getattr(reader.processor, "image_token", None), str) else []
    return sorted({*added, *reader.tokenizer.all_special_tokens, *image})


def moved(batch: Batch, device: torch.device) -> Batch:
    on_device: Batch = send_to_device(batch, device)
    return on_device


def photos_shown(rows: Sequence[Row]) -> list[int] | None:
    """Which photo each row shows, by its identity in memory; None unless every row shows exactly one."""
    return [id(row.images[0]) for row in rows] if all(len(row.images) == 1 for row in rows) else None


def _padded(rows: list[Tensor], value: int, side: str) -> Tensor:
    """Rows of different lengths, padded to (batch, longest)."""
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=value, padding_side=side)
