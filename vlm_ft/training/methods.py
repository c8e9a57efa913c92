"""A recipe's method as a TRL trainer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset as Table
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig

from vlm_ft.bases.families import linear_modules
from vlm_ft.bases.load import Base
from vlm_ft.errors import RecipeError
from vlm_ft.recipe import AdapterSettings, Recipe, Training
from vlm_ft.training.collate import Collator
from vlm_ft.training.loss import AnswerTrainer
from vlm_ft.training.plan import Plan


def attach(base: Base, settings: AdapterSettings, seed: int) -> PeftModel:
    """The base with fresh low-rank adapters on the layers that the scope chooses; everything else is frozen."""
    set_seed(seed)
    model = base.model
    if getattr(model, "is_quantized", False):
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=False)
        _keep_unpacked(model)
    return get_peft_model(
        model,
        LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            use_dora=settings.kind == "dora",
            target_modules=linear_modules(model, base.family, settings.scope),
        ),
    )


def _keep_unpacked(model: Any) -> None:
    """bitsandbytes repacks 4-bit weights on a CPU at the first evaluation, for a product that has no gradient."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def uses_bf16(precision: str) -> bool:
    """Whether to train under bf16 autocast: asked for, or "auto" where the hardware multiplies in it."""
    if precision != "auto":
        return precision == "bf16"
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    capable = torch.cpu.get_capabilities()
    return bool(capable.get("avx512_bf16") or capable.get("amx_bf16"))


def sft(
    recipe: Recipe,
    model: PeftModel,
    processor: Any,
    train: Collator,
    tune: Collator | None,
    plan: Plan,
    *,
    out: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> AnswerTrainer:
    """Supervised fine-tuning on prompt/completion rows; the collators make the tensors.

    Raises `RecipeError` where one process sees several GPUs.
    """
    settings = recipe.training
    arguments = _arguments(settings, plan, out, watched=tune is not None)
    if arguments.n_gpu > 1:
        raise RecipeError(
            "", f"{arguments.n_gpu} GPUs in one process", "start with accelerate launch, or set CUDA_VISIBLE_DEVICES=0"
        )
    stopping = [EarlyStoppingCallback(settings.patience)] if settings.patience and tune is not None else []
    trainer = AnswerTrainer(
        model=model,
        args=arguments,
        data_collator=Collators(train, tune or train),
        train_dataset=_table(train),
        eval_dataset=_table(tune, training=False) if tune is not None else None,
        processing_class=processor,
        callbacks=[*callbacks, *stopping, FollowEpoch(train)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(settings: Training, plan: Plan, out: Path, *, watched: bool) -> SFTConfig:
    """`watched`: there is a `tune`, by whose loss the best checkpoint is kept."""
    return SFTConfig(
        output_dir=str(out / "checkpoints"),
        max_steps=plan.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * plan.steps),
        weight_decay=settings.weight_decay,
        bf16=uses_bf16(settings.precision),
        gradient_checkpointing=None,  # deprecated, and TRL's default
        activation_checkpointing=torch.cuda.is_available(),
        eval_strategy="steps" if watched else "no",
        eval_steps=plan.every,
        save_strategy="steps",
        save_steps=plan.every,
        save_total_limit=2,
        load_best_model_at_end=watched,
        metric_for_best_model="eval_loss" if watched else None,
        logging_steps=max(1, min(10, plan.steps // 20)),
        seed=settings.seed,
        data_seed=settings.seed,
        report_to=list(settings.report_to) or "none",
        remove_unused_columns=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
    )


class Collators:
    """One collator for a trainer: training rows to one, tuning rows to the other."""

    def __init__(self, train: Collator, tune: Collator) -> None:
        self.by_role = {True: train, False: tune}

    def __call__(self, features: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch holds rows of one role."""
        return self.by_role[features[0]["training"]](features)


class FollowEpoch(TrainerCallback):  # type: ignore[misc]
    """Tells the collator which epoch it draws for."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Before the epoch's first batch is made; a resumed run enters in the midst of one, at 2.6 say."""
        self.collator.epoch = int((state.epoch or 0) + 1e-6)  # a sum of steps that should be whole may fall short


def _table(collator: Collator, *, training: bool = True) -> Table:
    """Prompt/completion columns tell TRL the format; the collator looks the rows up by index."""
    count = len(collator.cases)
    return Table.from_dict(
        {"index": range(count), "training": [training] * count, "prompt": [""] * count, "completion": [""] * count}
    )
