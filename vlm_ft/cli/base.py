"""`vlm-ft base`: obtain or assemble base models."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from vlm_ft.errors import ModelError

app = typer.Typer(help="Obtain or assemble base models.", no_args_is_help=True)


@app.command("get")
def base_get(name: Annotated[Literal["compact"], typer.Argument(help="the default base")]) -> None:
    """Download and assemble the default base.

    Prints its folder in the cache. If it is already there, does nothing else.
    """
    from vlm_ft.bases.compact import compact_folder

    print(compact_folder())


@app.command("variant")
def base_variant(
    out: Annotated[Path, typer.Option("--out", help="a new folder for the base")],
    tower: Annotated[Literal["lite0", "lite2"], typer.Option(help="EfficientNet-Lite0 or Lite2")] = "lite0",
    side: Annotated[int, typer.Option(min=32, help="input side in pixels")] = 224,
    stride: Annotated[Literal["16", "32"], typer.Option(help="pixels per position of the features")] = "32",
) -> None:
    """Download and assemble the default base in another shape.

    A smaller stride or a larger side gives more image tokens, which takes more time. `vlm-ft crossval --vary base=OUT`
    compares it with others.
    """
    from vlm_ft.bases.compact import build_compact

    with _new_base(out) as part:
        build_compact(part, tower=f"tf_efficientnet_{tower}", side=side, stride=int(stride))


@app.command("families")
def base_families() -> None:
    """List the supported families, and what each supports.

    prompt once: the constant part of a prompt is computed once, not for every row. rows together: a batch answers
    several rows at once. towers mixed: a batch may mix adapters that trained the tower. bank: a frozen tower's results
    can be kept during training, and shared by adapters that see the same photo; partly: only if the projector is frozen
    too.
    """
    from rich.console import Console
    from rich.table import Table

    from vlm_ft.bases.families import FAMILIES, TEXT

    table = Table()
    table.add_column("family", no_wrap=True)
    for title in ("prompt once", "rows together", "towers mixed", "bank", "boxes", "pixels"):
        table.add_column(title)
    for family in (*FAMILIES.values(), TEXT):
        boxes = "tokens" if family.boxes.locations else f"0..{family.boxes.scale}" if family.boxes.scale else "pixels"
        table.add_row(
            family.name,
            _yes(family.prefix_reuse),
            _yes(not family.recurrent),
            _yes(family.mixed_adapters_with_vision) if family.sees else "-",
            ("yes" if family.separate_tower else "partly") if family.sees else "-",
            boxes if family.sees else "-",
            family.pixel_limits,
        )
    Console(soft_wrap=True).print(table)


def _yes(fact: bool) -> str:
    return "yes" if fact else "no"


@app.command("assemble")
def base_assemble(
    vision: Annotated[str, typer.Option("--vision", help="a timm backbone with NCHW features: a name or a folder")],
    language: Annotated[
        str, typer.Option("--language", help="a causal language model: a Hub name, or a folder of safetensors or GGUF")
    ],
    out: Annotated[Path, typer.Option("--out", help="a new folder for the base")],
    side: Annotated[
        int | None, typer.Option(min=32, help="input side in pixels [default: as the backbone was trained]")
    ] = None,
) -> None:
    """Join a vision backbone and a language model.

    A new, untrained projector maps the features (LLaVA style).
    """
    from vlm_ft.bases.assemble import assemble, read_language, read_vision

    with _new_base(out) as part:
        assemble(read_vision(vision, side=side), read_language(language), part)


@contextmanager
def _new_base(out: Path) -> Iterator[Path]:
    """Yields the folder to write a base to, which becomes `out` once it is complete."""
    from datasets_vision.placing import new_folder

    if out.exists():
        raise ModelError(out, "already exists", "give a new folder")
    with new_folder(out) as part:
        yield part
    print(f"{out}: use it with base: {out} in a recipe")


@app.command("try")
def base_try(
    name: Annotated[str, typer.Argument(help="a base whose shape is known, e.g. Qwen/Qwen3-VL-2B-Instruct")],
    out: Annotated[Path, typer.Option("--out", help="the JSON file of results")] = Path("published_shapes.json"),
) -> None:
    """Rehearse the dry run, training and scoring with a base.

    The weights are random, so nothing is downloaded; memory and time are what the real base takes on this machine.
    """
    from tempfile import TemporaryDirectory

    from rich.console import Console

    from vlm_ft.experiments.published import try_base

    with TemporaryDirectory() as work:
        try_base(name, Path(work), out, f"vlm-ft base try {name} --out {out}", Console(soft_wrap=True))
