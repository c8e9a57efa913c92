"""The rivals of the training benchmark: TRL's trainers on the same rows.

They get the tokens of our rows or, for photos, their texts, which they tokenize as we do. Seed, schedule and
hyper-parameters are ours. TRL's GRPO samples freely, up to the length of the longest label: without vLLM, it cannot
keep answers within a form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from trl import DPOConfig, DPOTrainer, GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from datasets_vision.images import opened
from vlm_ft.answers.metrics import case_score
from vlm_ft.answers.prediction import FieldValue, Prediction
from vlm_ft.conversation import IGNORED, Row
from vlm_ft.errors import FormError
from vlm_ft.experiments.training_contestants import Course, Times, rows_of, timed, tokenized, trainer_settings
from vlm_ft.recipe import Recipe
from vlm_ft.training.prepare import Prepared, prepare


def theirs(recipe: Recipe, work: Path, course: Course, *, best: bool = False) -> Times:
    """TRL's trainer; see `their_trainer`."""
    return timed(their_trainer(prepare(recipe), recipe, work, course, best=best), course)


def their_trainer(prepared: Prepared, recipe: Recipe, work: Path, course: Course, *, best: bool) -> Any:
    """TRL's trainer; at its `best`, it does not recompute activations, and SFT batches texts by length."""
    rows = rows_of(prepared, recipe, course)
    shared = {"output_dir": str(work), **trainer_settings(recipe, course)}
    if best:
        shared["activation_checkpointing"] = False
        if recipe.method == "sft" and not rows[0].images:
            shared["train_sampling_strategy"] = "group_by_length"
    return RIVALS[recipe.method](prepared, recipe, rows, shared)


def _sft(prepared: Prepared, recipe: Recipe, rows: Sequence[Row], shared: dict[str, Any]) -> SFTTrainer:
    photos = bool(rows[0].images)
    if photos:
        columns = {**_prompts(prepared, rows), "completion": [_answer(prepared, row) for row in rows]}
    else:
        encoded = tokenized(prepared, rows)
        columns = {
            "input_ids": [row["input_ids"] for row in encoded],
            "completion_mask": [[int(label != IGNORED) for label in row["labels"]] for row in encoded],
        }
    config = SFTConfig(max_length=None, completion_only_loss=True, **shared)
    return SFTTrainer(prepared.attached.model, config, **_data(prepared, columns, photos))


def _dpo(prepared: Prepared, recipe: Recipe, rows: Sequence[Row], shared: dict[str, Any]) -> DPOTrainer:
    """The references are not computed beforehand, which TRL refuses for photos."""
    chosen, rejected = rows[::2], rows[1::2]
    columns = {
        **_prompts(prepared, chosen),
        "chosen": [_answer(prepared, row) for row in chosen],
        "rejected": [_answer(prepared, row) for row in rejected],
    }
    config = DPOConfig(max_length=None, beta=recipe.preference.beta, **shared)
    return DPOTrainer(prepared.attached.model, None, config, **_data(prepared, columns, photos=True))


def _grpo(prepared: Prepared, recipe: Recipe, rows: Sequence[Row], shared: dict[str, Any]) -> GRPOTrainer:
    photos, policy = bool(rows[0].images), recipe.policy
    columns: dict[str, Any] = {
        "prompt": [prepared.conversation.messages(row) for row in rows],
        "place": list(range(len(rows))),
    }
    if photos:
        columns["images"] = [[opened(image) for image in row.images] for row in rows]
    shared["per_device_train_batch_size"] *= policy.answers
    config = GRPOConfig(
        num_generations=policy.answers,
        max_completion_length=max(len(prepared.conversation.completion(row).ids) for row in rows),
        temperature=policy.temperature,
        beta=policy.beta,
        **shared,
    )

    def reward(completions: Sequence[Any], place: Sequence[int], **others: Any) -> list[float]:
        return [_reward(rows[at], completion[-1]["content"]) for at, completion in zip(place, completions, strict=True)]

    return GRPOTrainer(prepared.attached.model, [reward], config, **_data(prepared, columns, photos))


RIVALS: Mapping[str, Callable[..., Any]] = {"sft": _sft, "dpo": _dpo, "grpo": _grpo}


def _prompts(prepared: Prepared, rows: Sequence[Row]) -> dict[str, Any]:
    """The columns with prompts and photos."""
    return {
        "prompt": [prepared.conversation.prompt(row) for row in rows],
        "images": [[opened(image) for image in row.images] for row in rows],
    }


def _answer(prepared: Prepared, row: Row) -> str:
    """A row's answer with the end of its turn, but not the line break that some templates put after it."""
    return str(prepared.base.reader.tokenizer.decode(prepared.conversation.completion(row).ids))


def _data(prepared: Prepared, columns: dict[str, Any], photos: bool) -> dict[str, Any]:
    reader = prepared.base.reader
    return {
        "train_dataset": Dataset.from_dict(columns),
        "processing_class": reader.processor if photos else reader.tokenizer,
    }


def _reward(row: Row, text: str) -> float:
    """The same reward as ours."""
    try:
        values = row.form.read(text)
    except FormError:
        return 0.0
    answer = Prediction({name: FieldValue(value) for name, value in values.items()})
    return case_score(row.form, row.form.parse(row.target or ""), answer)
