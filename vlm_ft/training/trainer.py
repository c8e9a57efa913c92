"""Train with the `Trainer` of transformers, which provides the loop, the checkpoints and the schedule."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from vlm_ft.allocator import return_freed_memory_if_scarce
from vlm_ft.bases.precision import uses_bf16
from vlm_ft.conversation import Batch
from vlm_ft.recipe import Training
from vlm_ft.training.attach import Attached, parameter_groups
from vlm_ft.training.collate import Collator
from vlm_ft.training.methods import Method
from vlm_ft.training.order import ByLength
from vlm_ft.training.plan import Plan
from vlm_ft.training.progress import StopAtFaults


class MethodTrainer(Trainer):  # type: ignore[misc]
    """A `Trainer` with a method's loss, batches of similar lengths, and AdamW on our parameter groups."""

    optimizer: Any

    def __init__(
        self, method: Method, order: ByLength, groups: Callable[[], list[dict[str, Any]]], *args: Any, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self.method, self.order, self.groups = method, order, groups
        self._loaders = list[Any]()
        # If true, the trainer counts the tokens of a step; otherwise it averages the batches of a step.
        self.model_accepts_loss_kwargs = method.per_token

    def create_optimizer(self, model: Any = None) -> Any:
        """The optimizer, created when the trainer asks for it, since FSDP does not accept one created earlier."""
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.groups())
        return self.optimizer

    def _run_epoch(self, *args: Any, **options: Any) -> None:
        """Run no further step if the checkpoint is that of the last one: transformers would take one more."""
        if self.state.global_step < self.state.max_steps:
            super()._run_epoch(*args, **options)

    def _get_dataloader(self, *args: Any, **options: Any) -> Any:
        """A loader that draws nothing from dropout's random generator, so that a resumed run does not differ."""
        if options.get("is_training"):
            options["batch_size"] = 1  # each item of the order is a batch
        loader = super()._get_dataloader(*args, **options)
        loader.base_dataloader.generator = torch.Generator()
        self._loaders.append(loader)
        return loader

    def end_workers(self) -> None:
        """End the processes that decode and augment."""
        for loader in self._loaders:
            loader.base_dataloader._iterator = None

    def _get_train_sampler(self, train_dataset: Any = None) -> ByLength:
        return self.order

    def compute_loss(
        self, model: Any, inputs: Batch, return_outputs: bool = False, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """The method's loss; a loss per token is over all accumulated batches and processes of a step."""
        loss = self.method.loss(model, inputs, num_items_in_batch)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # gradients are averaged over processes
        return loss

    def prediction_step(
        self, model: Any, inputs: Batch, prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Tensor, None, None]:
        """The loss of a batch of `tune`."""
        with torch.inference_mode(), self.compute_loss_context_manager():
            return self.method.loss(model, self._prepare_inputs(inputs), None).detach(), None, None


def trainer(
    method: Method,
    attached: Attached,
    train: Collator,
    tune: Collator | None,
    settings: Training,
    rates: Mapping[str, float],
    plan: Plan,
    *,
    out: Path,
    workers: int = 0,
    callbacks: Sequence[TrainerCallback] = (),
) -> MethodTrainer:
    """The trainer of one run; the collators make the tensors. `rates`: the learning rate of each part."""
    stopping = [EarlyStoppingCallback(settings.patience)] if settings.patience and tune is not None else []
    order = train.order(settings)
    new_trainer = MethodTrainer(
        method,
        order,
        partial(parameter_groups, attached, rates, settings.weight_decay),
        model=attached.model,
        args=_arguments(settings, plan, out, watched=tune is not None, workers=workers),
        data_collator=Collators(train, tune or train),
        train_dataset=Indices(order.cases),
        eval_dataset=Indices(len(tune.cases), training=False) if tune is not None else None,
        callbacks=[*callbacks, *stopping, FollowEpoch(train, order), StopAtFaults(method), ReturnMemory()],
    )
    new_trainer.remove_callback(PrinterCallback)
    return new_trainer


def _arguments(settings: Training, plan: Plan, out: Path, *, watched: bool, workers: int) -> TrainingArguments:
    """`watched`: whether there is a `tune` role, whose loss selects the best checkpoint."""
    arguments = TrainingArguments(
        output_dir=str(out),
        max_steps=plan.steps,
        per_device_train_batch_size=settings.batch_size,
        per_device_eval_batch_size=settings.batch_size,
        gradient_accumulation_steps=settings.accumulate,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=round(settings.warmup * plan.steps),
        bf16=uses_bf16(settings.precision),
        eval_strategy="steps" if watched else "no",
        eval_steps=plan.every,
        save_strategy="steps",
        save_steps=plan.every,
        save_total_limit=2,
        load_best_model_at_end=watched,
        metric_for_best_model="eval_loss" if watched else None,
        greater_is_better=False if watched else None,
        logging_steps=_logging_steps(plan),
        logging_nan_inf_filter=False,  # it would log earlier losses instead
        seed=settings.seed,
        data_seed=settings.seed,
        report_to=list(settings.report_to) or "none",
        remove_unused_columns=False,
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0,  # after each fork, the next steps copy all memory that they write to
        ddp_find_unused_parameters=False,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # `DataParallel` would split batches and separate photos from their rows
    return arguments


def _logging_steps(plan: Plan) -> int:
    """The number of steps between logs of the mean loss: at most 10, so that a run has at least about 20 logs.

    It divides the steps between checkpoints, since a checkpoint does not keep losses that are not yet logged.
    """
    most = max(1, min(10, plan.steps // 20))
    return max(steps for steps in range(1, most + 1) if plan.every % steps == 0)


class Collators:
    """Passes training rows to one collator and tuning rows to the other, since a trainer takes only one."""

    def __init__(self, train: Collator, tune: Collator) -> None:
        self.by_role = {True: train, False: tune}

    def __call__(self, features: Sequence[dict[str, Any]]) -> Batch:
        """Collate a batch, whose rows all have the same role."""
        return self.by_role[features[0]["training"]]([index for feature in features for index in feature["cases"]])


class Indices(Dataset[dict[str, Any]]):
    """A data set of case indices, of one case or of a batch; the collator looks up the cases."""

    def __init__(self, count: int, *, training: bool = True) -> None:
        self.count, self.training = count, training

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int | list[int]) -> dict[str, Any]:
        return {"cases": index if isinstance(index, list) else [index], "training": self.training}


class ReturnMemory(TrainerCallback):  # type: ignore[misc]
    """Returns freed memory to the system where it is scarce."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called after each step."""
        return_freed_memory_if_scarce()


class FollowEpoch(TrainerCallback):  # type: ignore[misc]
    """Sets the epoch of the collator and of the order, on which augmentation and batches depend.

    The trainer sets the order's epoch, too, but not when it resumes within an epoch on several GPUs.
    """

    def __init__(self, collator: Collator, order: ByLength) -> None:
        self.collator, self.order = collator, order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Called before an epoch's first batch; a resumed run may start within an epoch, such as at 2.6."""
        self.collator.epoch = int((state.epoch or 0) + 1e-6)  # rounding can leave a whole epoch slightly short
        self.order.set_epoch(self.collator.epoch)
