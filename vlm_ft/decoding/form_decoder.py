"""`FormDecoder`: answers written inside their forms' grammars, returned as typed fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from transformers import GenerationConfig, LogitsProcessorList

from vlm_ft.answers.box_format import Size
from vlm_ft.answers.form import Form
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.bases.load import Base
from vlm_ft.decoding.grammar import FollowGrammar, Grammars, longest_answer
from vlm_ft.errors import FormError

Generate = Callable[..., Tensor]
"""``generate(**batch, logits_processor=..., generation_config=...)``, prompt and answer (batch, length)."""


class FormDecoder:
    """Decodes for one base; greedy, as the most probable token that the grammar allows at each step."""

    def __init__(self, base: Base) -> None:
        self._tokenizer = base.reader.tokenizer
        self._vocabulary = int(base.model.get_output_embeddings().weight.shape[0])
        self._stops = stop_tokens(base)
        self._limit = base.reader.max_length
        self._grammars = Grammars(self._tokenizer, self._vocabulary, self._stops)

    def decode(
        self, generate: Generate, batch: dict[str, Any], forms: Sequence[Form], sizes: Sequence[Size | None]
    ) -> list[Prediction]:
        """One prediction a row of `batch`, prompts padded left; an answer that does not fit is an error value.

        `sizes`: of each row's image as the base sees it, for boxes in pixels.
        """
        length = batch["input_ids"].shape[1]
        matchers = [self._grammars.matcher(form) for form in forms]
        written = generate(
            **batch,
            logits_processor=LogitsProcessorList([FollowGrammar(matchers, length, self._vocabulary, self._stops[0])]),
            generation_config=GenerationConfig(
                do_sample=False,
                max_new_tokens=min(self._limit - length, max(longest_answer(form) for form in forms)),
                eos_token_id=list(self._stops),
                pad_token_id=self._tokenizer.pad_token_id,
            ),
        )
        texts = self._tokenizer.batch_decode(
            written[:, length:], skip_special_tokens=True, clean_up_tokenization_spaces=False
        )
        return [read_answer(form, text, size) for form, text, size in zip(forms, texts, sizes, strict=True)]


def read_answer(form: Form, text: str, size: Size | None = None) -> Prediction:
    """A written answer as a prediction; one that does not fit is an error value."""
    try:
        values = form.read(text, size)
    except FormError as error:
        return Prediction.failed(str(error), raw=text)
    return Prediction(fields={name: FieldValue(value) for name, value in values.items()}, raw=text)


def stop_tokens(base: Base) -> tuple[int, ...]:
    """The tokens that end an answer: the tokenizer's, the generation config's."""
    configured = base.model.generation_config.eos_token_id
    listed = configured if isinstance(configured, list) else [configured]
    found = {token for token in (*listed, base.reader.tokenizer.eos_token_id) if token is not None}
    return tuple(sorted(found))
