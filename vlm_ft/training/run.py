"""One run: a recipe in, an adapter folder out."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from peft import PeftModel
from rich.console import Console

from datasets_vision.images import image_size
from vlm_ft.adapters import ADAPTER, Card, Provenance
from vlm_ft.bases.load import Base, load_base, part_sizes
from vlm_ft.conversation import Conversation
from vlm_ft.data.cases import Case, Dataset, load
from vlm_ft.data.checks import inspect
from vlm_ft.errors import RecipeError, UserError
from vlm_ft.recipe import Recipe, load_recipe
from vlm_ft.training.collate import Collator
from vlm_ft.training.memory import GIB, LongestRow, needs
from vlm_ft.training.methods import attach, sft
from vlm_ft.training.plan import Cost, Plan, plan
from vlm_ft.training.progress import KeepTime, ShowProgress, draw_losses
from vlm_ft.training.rehearse import Lengths, check_lengths, measure, peak_memory
from vlm_ft.training.verify import adapter_state, checksum, verify

PLAN = "plan.json"
RECIPE = "recipe.yaml"
SPLITS = "splits.jsonl"
SHOWN_ROWS = 3
MEASURED_IMAGES = 200  # whose headers are read for their size


@dataclass(frozen=True)
class Prepared:
    """Everything that stands before step 0."""

    recipe: Recipe
    dataset: Dataset
    base: Base
    model: PeftModel
    train: Collator
    tune: Collator | None
    lengths: Lengths

    @property
    def conversation(self) -> Conversation:
        """The builder of every row."""
        return self.train.conversation


def prepare(recipe: Recipe, splits_file: Path | None = None, *, check: bool = False) -> Prepared:
    """Read the data, load the base, attach the adapter, check every row's length.

    With `check` an error in the data (`vlm_ft.data.checks`) is raised before the base is loaded.
    """
    dataset = load(recipe, splits_file)
    if check:
        inspect(dataset, recipe).stop_at_errors()
    pixels = (recipe.pixels.minimum, recipe.pixels.maximum) if recipe.pixels else None
    base = load_base(
        recipe.base,
        revision=recipe.revision,
        dtype=recipe.dtype,
        attention=recipe.attention,
        quantize=recipe.quantize,
        pixels=pixels,
    )
    base = replace(base, image_tokens=recipe.image_tokens)
    conversation = Conversation(base, recipe.training.loss_on)

    def collator(cases: Sequence[Case], preset: str) -> Collator:
        return Collator(conversation, dataset.form, cases, preset, recipe.training.seed)

    train = collator(dataset.cases["train"], recipe.augment)
    tune = collator(dataset.cases["tune"], "none") if dataset.cases["tune"] else None
    limit = min(recipe.training.max_length or base.max_length, base.max_length)
    plain = [collator(dataset.cases[role], "none") for role in ("train", "tune")]
    lengths = check_lengths(plain, limit)
    model = attach(base, recipe.adapter, recipe.training.seed)
    return Prepared(recipe, dataset, base, model, train, tune, lengths)


def train(
    recipe: Recipe, out: Path, *, resume: bool = False, check: bool = True, console: Console | None = None
) -> Path:
    """Train and write ``out/adapter`` (PEFT files and card), checkpoints, the loss curve and the recipe as used.

    Returns the adapter folder. Raises `RecipeError` where `out` holds another run, or nothing to resume, and with
    `check` `DataError` where the data have an error.
    """
    console = console or Console(stderr=True)
    with _claimed(out, recipe, resume):
        prepared = prepare(recipe, out / SPLITS, check=check and not resume)
    tell(prepared, console)
    settled = _plan(prepared, out, resume, console)
    before, base_sum = adapter_state(prepared.model), checksum(prepared.model)
    clock = KeepTime()
    trainer = sft(
        recipe,
        prepared.model,
        prepared.base.processor,
        prepared.train,
        prepared.tune,
        settled,
        out=out,
        callbacks=[ShowProgress(console), clock],
    )
    trainer.train(resume_from_checkpoint=resume and _has_checkpoint(out))
    seconds = clock.seconds
    trainer.accelerator.unwrap_model(prepared.model, keep_fp32_wrapper=False)  # sheds the autocast of training
    draw_losses(trainer.state.log_history, out / "loss.png")
    folder = out / ADAPTER
    prepared.model.save_pretrained(str(folder))
    proof = verify(prepared.model, folder, prepared.conversation, prepared.train.row(0), before, base_sum)
    _card(prepared, {**_told(trainer.state, seconds), **proof}).write(folder)
    (folder / "README.md").write_text(_readme(prepared), encoding="utf-8")
    console.print(f"adapter {folder}: {settled.steps} steps in {seconds:.0f} s, {proof['tensors_moved']} tensors moved")
    return folder


def rehearse(recipe: Recipe, console: Console) -> None:
    """What a run would be, from real rows and real steps; trains nothing and writes nothing."""
    prepared = prepare(recipe)
    tell(prepared, console)
    for index in range(min(SHOWN_ROWS, len(prepared.train.cases))):
        console.rule(f"row {index + 1}: {prepared.train.cases[index].example.id}")
        console.print(render(prepared.conversation.view(prepared.train.row(index))))
    console.rule()
    lengths = prepared.lengths
    console.print(
        f"tokens: longest {lengths.longest} of {prepared.base.max_length}, mean {lengths.total / lengths.rows:.0f}, "
        f"{lengths.most_image_tokens} of images"
    )
    settled, cost = _measured(prepared)
    where = "on the GPU" if torch.cuda.is_available() else "resident"
    console.print(f"{settled}; {cost.peak_bytes / GIB:.2f} GiB {where} at the peak")
    console.print(memory_table(prepared))


def render(pieces: Sequence[tuple[str, bool]]) -> Any:
    """A row's tokens as text; what is supervised stands out."""
    from rich.text import Text

    text = Text()
    for piece, supervised in pieces:
        text.append(f"⟦{piece}⟧" if supervised else piece, style="bold green" if supervised else "dim")
    return text


def tell(prepared: Prepared, console: Console) -> None:
    """Print what is about to be trained: data, form, trainable share."""
    dataset = prepared.dataset
    counts = ", ".join(f"{role} {count}" for role, count in dataset.counts.items())
    console.print(
        f"[bold]{prepared.recipe.name}[/]  {dataset.form.title}: {counts}; set aside {len(dataset.set_aside)}"
    )
    for entry in dataset.set_aside[:10]:
        console.print(f"  set aside {entry.place}: {entry.reason}", style="yellow", markup=False)
    if len(dataset.set_aside) > 10:
        console.print(f"  … and {len(dataset.set_aside) - 10} more: vlm-ft data read shows all", style="yellow")
    for note in dataset.notes:
        console.print(f"  note: {note}", style="yellow", markup=False)
    if prepared.lengths.refused:
        console.print(
            f"  {prepared.lengths.refused} of {prepared.lengths.rows} answers are not written as the form's grammar "
            "writes them (the tokenizer may add a space): they are learned whole",
            style="yellow",
        )
    if dataset.form.notice:
        console.print(f"  {dataset.form.notice}", markup=False)
    console.print(size_table(prepared))


def size_table(prepared: Prepared) -> Any:
    """Parameters by part, and how many of them train."""
    from rich.table import Table

    table = Table("part", "parameters", "trainable", "share")
    for row in part_sizes(prepared.model, prepared.base.family):
        share = f"{row.trainable / row.total:.2%}" if row.total else "-"
        table.add_row(row.part, f"{row.total:,}", f"{row.trainable:,}", share)
    return table


def memory_table(prepared: Prepared) -> Any:
    """What the same recipe needs with a base of the Hub, estimated; nothing is downloaded."""
    from rich.table import Table

    recipe, cases = prepared.recipe, prepared.train.cases
    sizes = [math.prod(image_size(image)) for case in cases[:MEASURED_IMAGES] for image in case.example.images]
    images = max(len(case.example.images) for case in cases)
    largest = min(max(sizes, default=0), recipe.pixels.maximum if recipe.pixels else sys.maxsize)
    row = LongestRow(prepared.lengths.most_text_tokens, images, largest)
    table = Table("one line away: base:", "tokens", "bf16", "quantize: nf4")
    for need in needs(recipe.adapter, row, recipe.training.batch_size):
        table.add_row(need.base, str(need.tokens), f"{need.bf16 / GIB:.0f} GiB", f"{need.nf4 / GIB:.0f} GiB")
    table.caption = f"estimated for a GPU, {recipe.training.batch_size} rows at a time"
    return table


@contextmanager
def _claimed(out: Path, recipe: Recipe, resume: bool) -> Iterator[None]:
    """The run's folder, let go where a mistake of the user's keeps the run from starting."""
    stood, kept_roles = out.exists(), (out / SPLITS).exists()
    _claim(out, recipe, resume)
    try:
        yield
    except UserError:
        if not resume:
            (out / RECIPE).unlink()
            if not kept_roles:
                (out / SPLITS).unlink(missing_ok=True)
            if not stood:
                out.rmdir()
        raise


def begun(run: Path, recipe: Recipe) -> bool:
    """Whether a folder holds a training of this recipe. Raises `RecipeError` where it holds one of another."""
    kept = run / RECIPE
    if not kept.exists():
        return False
    if load_recipe(kept).model_dump(mode="json") != recipe.model_dump(mode="json"):
        raise RecipeError(run, "holds a training of another recipe", "give another --out")
    return True


def _claim(out: Path, recipe: Recipe, resume: bool) -> None:
    """A run folder belongs to one recipe; what stands there is resumed or left alone."""
    kept = out / RECIPE
    text = yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    if kept.exists():
        if not resume:
            raise RecipeError(out, "holds a run already", "go on with --resume, or give another --out")
        if kept.read_text(encoding="utf-8") != text:
            raise RecipeError(kept, "differs from the recipe given", "resume with the same one, or give another --out")
    elif resume:
        raise RecipeError(out, "holds no run to resume", "leave --resume out")
    try:
        out.mkdir(parents=True, exist_ok=True)
        kept.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(out, f"cannot be written ({error.strerror})", "give another --out") from error


def _has_checkpoint(out: Path) -> bool:
    return any((out / "checkpoints").glob("checkpoint-*/trainer_state.json"))


def _plan(prepared: Prepared, out: Path, resume: bool, console: Console) -> Plan:
    """The plan, settled once: a resumed run goes by the first one's."""
    file = out / PLAN
    if resume and file.exists():
        return Plan(**json.loads(file.read_text(encoding="utf-8")))
    settled = _measured(prepared)[0]
    console.print(str(settled))
    file.write_text(json.dumps(asdict(settled)), encoding="utf-8")
    return settled


def _measured(prepared: Prepared) -> tuple[Plan, Cost]:
    settings = prepared.recipe.training
    cost = measure(prepared.model, prepared.train, prepared.tune, settings)
    return plan(settings, len(prepared.train.cases), cost), cost


def _told(state: Any, seconds: float) -> dict[str, Any]:
    """What the card keeps of the run."""
    losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
    tune = [entry["eval_loss"] for entry in state.log_history if "eval_loss" in entry]
    return {
        "steps": state.global_step,
        "seconds": round(seconds, 1),
        "loss": losses[-1] if losses else None,
        "best_tune_loss": min(tune) if tune else None,
        "peak_bytes": peak_memory(),
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else f"cpu, {torch.get_num_threads()} threads",
    }


def _card(prepared: Prepared, training: dict[str, Any]) -> Card:
    recipe, dataset, base = prepared.recipe, prepared.dataset, prepared.base
    return Card(
        name=recipe.name,
        form=dataset.form,
        base=base.ref,
        pixels=(recipe.pixels.minimum, recipe.pixels.maximum) if recipe.pixels else None,
        tiling=recipe.tiling,
        image_tokens=recipe.image_tokens,
        dtype=recipe.dtype,
        quantize=recipe.quantize,
        scope=recipe.adapter.scope,
        provenance=Provenance(
            data=tuple(source.path.name for source in recipe.data),
            data_fingerprint=dataset.fingerprint,
            counts=dataset.counts,
            synthetic=dataset.synthetic,
        ),
        training=training,
    )


def _readme(prepared: Prepared) -> str:
    recipe, form = prepared.recipe, prepared.dataset.form
    return (
        f"---\nbase_model: {recipe.base}\nlibrary_name: peft\ntags: [vlm-ft, {form.task}]\n---\n\n"
        f"# {recipe.name}\n\n{form.title}, a LoRA adapter for `{recipe.base}` made by vlm_ft. `card.json` holds the "
        f"form that it answers, its data and its figures.\n\nIt is asked:\n\n```\n{form.prompt}\n```\n"
    )
