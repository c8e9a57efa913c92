"""One run: a recipe in, an adapter folder out."""

from __future__ import annotations

import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from rich.console import Console

from vlm_ft.adapters import README, Card, Provenance, read_card
from vlm_ft.allocator import return_freed_memory
from vlm_ft.bases.load import fingerprint
from vlm_ft.bases.reader import mismatch_in_one_line
from vlm_ft.recipe import Recipe
from vlm_ft.runs import Run, store, stored, versions
from vlm_ft.training.fill import Filler
from vlm_ft.training.master_weights import master_weights
from vlm_ft.training.model_card import model_card
from vlm_ft.training.plan import Plan
from vlm_ft.training.prepare import Prepared, prepare, workers
from vlm_ft.training.progress import KeepLosses, KeepTime, ShowProgress, draw_losses
from vlm_ft.training.projector import initialise_projector
from vlm_ft.training.references import set_references
from vlm_ft.training.rehearse import measure, peak_memory
from vlm_ft.training.show import announce
from vlm_ft.training.trainer import trainer
from vlm_ft.training.verify import Witness, checksum, trained_values, verify, witness


def train(
    recipe: Recipe, out: Path, *, resume: bool = False, check: bool = True, console: Console | None = None
) -> Path:
    """Train and write ``out/adapter`` (PEFT files and card), checkpoints, the loss curve and the recipe as used.

    Returns the adapter folder. Under `accelerate launch`, only the first process writes, except into a vision bank.
    Raises `RecipeError` if `out` holds another run or has nothing to resume, and, with `check`, `DataError` if the data
    have errors.

    >>> from vlm_ft import load_recipe, train
    >>> print(train(load_recipe(Path("my_recipe.yaml")), Path("runs/new")))
    runs/new/adapter
    """
    process, run = PartialState(cpu=not torch.cuda.is_available()), Run(out)  # as in the trainer
    console = console or Console(stderr=True)
    if not process.is_main_process:
        console.quiet = True
    claim = run.claimed(recipe, resume=resume) if process.is_main_process else nullcontext()
    with claim, mismatch_in_one_line(recipe.base):
        with process.main_process_first():
            prepared = prepare(recipe, run.splits, check=check and not resume)
        if process.is_main_process:
            run.check_data(prepared.dataset.contents)
            if difference := run.record_versions():
                console.print(f"  note: {difference}", style="yellow", markup=False)
        announce(recipe, prepared, console)
        schedule, spent = _begin(recipe, prepared, run, resume, console)
    try:
        folder, seen, history = _run_trainer(recipe, prepared, schedule, run, resume, console)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"interrupted; the same command with --resume continues {out}") from None
    history["seconds"] = round(history["seconds"] + spent, 1)
    process.wait_for_everyone()
    if not process.is_main_process:
        return folder
    probe, conversation = prepared.train.rows(0)[0], prepared.conversation
    fresh, card = prepared.fresh, _card(recipe, prepared, folder, history)
    del prepared  # a second copy of the base is loaded next
    proof = verify(seen, folder, conversation, probe, fresh())
    card.model_copy(update={"training": {**card.training, **asdict(proof)}}).write(folder)
    (folder / README).write_text(model_card(card), encoding="utf-8")
    shutil.rmtree(run.bank, ignore_errors=True)
    trained = f"{schedule.steps} steps in {history['seconds']:.0f} s, {proof.tensors_moved} tensors trained"
    console.print(f"{'model' if card.weights else 'adapter'} {folder}: {trained}", markup=False)
    return folder


def _begin(recipe: Recipe, prepared: Prepared, run: Run, resume: bool, console: Console) -> tuple[Plan, float]:
    """Compute what a run needs before step 0. Returns the plan, and the seconds that all but the rehearsal took."""
    began, method = time.monotonic(), prepared.method
    if method.compares_weights or not (resume and run.checkpoint):
        initialise_projector(prepared.attached, prepared.base, prepared.dataset.form, prepared.dataset.cases["train"])
    method.begin(prepared.base, prepared.conversation)
    if method.compares:
        collators = [prepared.train, *([prepared.tune] if prepared.tune else [])]
        settings = recipe.training
        set_references(prepared.attached.model, collators, settings.batch_size, settings.precision, run.references)
    spent, filler = time.monotonic() - began, Filler(prepared, recipe, run.bank)
    schedule = _plan(recipe, prepared, filler, run, resume, spent, console)
    began = time.monotonic()
    if schedule.views:
        filler.fill(schedule.views, console)
    return schedule, spent + time.monotonic() - began


def _run_trainer(
    recipe: Recipe, prepared: Prepared, schedule: Plan, run: Run, resume: bool, console: Console
) -> tuple[Path, Witness, dict[str, Any]]:
    """Run the trainer and save the result; nothing returned refers to the model, which can then be freed."""
    attached = prepared.attached
    before, frozen = trained_values(attached.model), checksum(attached.model)
    progress, clock = ShowProgress(console), KeepTime()
    running = trainer(
        prepared.method,
        attached,
        prepared.train,
        prepared.tune,
        recipe.training,
        prepared.rates,
        schedule,
        out=run.checkpoints,
        workers=workers(recipe.training, prepared.dataset),
        callbacks=[progress, clock, KeepLosses(run.losses)],
    )
    checkpoint = run.checkpoint if resume else None
    for fault in run.passed_over if resume else ():
        instead = f"resuming from {checkpoint.name}" if checkpoint else "starting over at step 0"
        console.print(f"  note: {fault}; {instead}", style="yellow", markup=False)
    alone = run.alone() if running.is_world_process_zero() else nullcontext()
    return_freed_memory()  # or the processes that decode would keep a copy of it
    in_fp32 = master_weights(attached.model, recipe.training.precision)
    with alone, in_fp32, progress.bar:  # the bar restores the terminal's cursor, even after an error
        running.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    running.end_workers()
    seconds = clock.seconds
    running.accelerator.unwrap_model(attached.model, keep_fp32_wrapper=False)  # removes the autocast wrapper
    folder = run.adapter
    state = running.accelerator.get_state_dict(running.model) if running.is_fsdp_enabled else None  # from all processes
    if running.is_world_process_zero():
        draw_losses(running.state.log_history, run.curves)
        attached.model.save_pretrained(str(folder), state_dict=state)
        if attached.whole:
            prepared.base.reader.processor.save_pretrained(str(folder))
    seen = witness(attached.model, folder, prepared.conversation, prepared.train.rows(0)[0], before, frozen)
    return folder, seen, _history(running.state, seconds)


def _plan(
    recipe: Recipe, prepared: Prepared, filler: Filler, run: Run, resume: bool, spent: float, console: Console
) -> Plan:
    """The plan, which the first process makes and stores; a resumed run keeps the stored one.

    `spent`: seconds that the run has taken already.
    """
    process = PartialState()
    if process.is_main_process and not (resume and run.plan.exists()):
        cost = measure(prepared.attached.model, prepared.train, prepared.tune, recipe.training)
        schedule = filler.plan(replace(cost, spent=spent), console)
        console.print(str(schedule))
        store(run.plan, schedule.model_dump())
    process.wait_for_everyone()
    return stored(run.plan, Plan)


def _history(state: Any, seconds: float) -> dict[str, Any]:
    """The training record for the card."""
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    tune = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    return {
        "steps": state.global_step,
        "seconds": round(seconds, 1),
        "loss": losses[-1] if losses else None,
        "best_tune_loss": min(tune) if tune else None,
        "peak_bytes": peak_memory(),
        "versions": versions(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads",
    }


def _card(recipe: Recipe, prepared: Prepared, folder: Path, history: dict[str, Any]) -> Card:
    dataset, limits = prepared.dataset, prepared.base.reader.limits
    return Card(
        name=recipe.name,
        form=dataset.form,
        base=prepared.base.ref,
        pixels=limits.pixels,
        image_tokens=limits.image_tokens,
        tiling=recipe.tiling,
        dtype=recipe.dtype,
        quantize=recipe.quantize,
        weights=fingerprint(str(folder)) if prepared.attached.whole else None,
        template=prepared.conversation.template_hash(),
        tuned=dict(prepared.attached.tunings),
        inputs=_inputs(prepared),
        most_photos=max(len(case.example.images) for case in prepared.train.cases),
        loss_on=recipe.training.loss_on,
        method=prepared.method.name,
        provenance=Provenance(
            data=tuple(source.path.name for source in recipe.data),
            data_fingerprint=dataset.fingerprint,
            counts=dataset.counts,
            synthetic=dataset.synthetic,
            began_with=read_card(start).name if (start := prepared.attached.start) else None,
        ),
        training=history,
    )


def _inputs(prepared: Prepared) -> tuple[Any, ...]:
    """The inputs that the training rows contain: photos, texts, or both."""
    examples = [case.example for case in prepared.train.cases]
    photo = any(example.images for example in examples)
    text = any(turn.text for example in examples for turn in example.turns)
    return (*(["photo"] if photo else []), *(["text"] if text else []))
