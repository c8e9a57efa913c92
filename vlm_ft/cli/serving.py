"""The commands that serve adapters: the app, and the HTTP service."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from vlm_ft.allocator import large_imports
from vlm_ft.cli.options import Adapters, BasePlace, BatchSize, PrecisionOption, RegistryFolder, console, folders

app = typer.Typer()


Examples = Annotated[Path | None, typer.Option(help="a folder of photos to try in the app")]
Memory = Annotated[int | None, typer.Option(min=0, help="MiB of adapters to keep loaded [default: all]")]
Waiting = Annotated[
    int, typer.Option(min=1, help="maximum requests in progress; others are refused. Each may hold 0.3 GB of photos")
]
MIB = 1 << 20


@app.command()
def demo(
    adapter: Adapters,
    host: Annotated[str, typer.Option(help="the address of this machine to listen on")] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="the port [default: the first free one from 7860]")
    ] = None,
    examples: Examples = None,
    base: BasePlace = None,
    memory: Memory = None,
    waiting: Waiting = 16,
    precision: PrecisionOption = "auto",
) -> None:
    """Serve the app, which assesses photos and texts.

    Like vlm-ft serve, it also serves /v1/assess and the other addresses that /docs describes, but only on this machine,
    and without tokens.
    """
    adapters = folders(adapter)  # a wrong folder is reported before the libraries are imported
    with large_imports():
        from vlm_ft.serving import Options
        from vlm_ft.serving import serve as run

    options = Options(
        adapters=adapters,
        host=host,
        port=port,
        examples=examples,
        base=base,
        memory=memory * MIB if memory is not None else None,
        waiting=waiting,
        precision=precision,
    )
    run(options, console())


@app.command()
def serve(
    adapter: Annotated[
        list[Path] | None, typer.Option("--adapter", help="an adapter or run folder; repeatable")
    ] = None,
    registry: Annotated[
        Path | None,
        typer.Option(help="a folder of adapters and their versions (vlm-ft promote); serves the current ones"),
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="with --registry: accept reviews and jobs, and keep them in this folder")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(help="with --work: the folder under which jobs may read photos and data")
    ] = None,
    host: Annotated[
        str, typer.Option(help="the address to listen on; any but this machine's own requires --tokens")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="the port")] = 8000,
    tokens: Annotated[Path | None, typer.Option(help="the file of tokens (see vlm-ft token)")] = None,
    log: Annotated[
        Path | None, typer.Option(help="append a line for each answer to this file, with hashes of the inputs")
    ] = None,
    app_: Annotated[bool, typer.Option("--app/--no-app", help="also serve the app, at /app")] = True,
    examples: Examples = None,
    base: BasePlace = None,
    memory: Memory = None,
    waiting: Waiting = 16,
    keep_uploads: Annotated[
        float, typer.Option(min=0, help="with --work: days after a job until its uploads are deleted")
    ] = 7,
    precision: PrecisionOption = "auto",
) -> None:
    """Serve adapters over HTTP, with the app.

    Typed answers at /v1/assess, and OpenAI-compatible chat completions. With --registry and --work, people review
    answers, and train and promote the next version. /docs describes the interface.
    """
    adapters = folders(adapter or [])  # a wrong folder is reported before the libraries are imported
    with large_imports():
        from vlm_ft.serving import Options
        from vlm_ft.serving import serve as run

    options = Options(
        adapters=adapters,
        registry=registry,
        work=work,
        root=root,
        host=host,
        port=port,
        tokens=tokens,
        log=log,
        with_app=app_,
        examples=examples,
        base=base,
        memory=memory * MIB if memory is not None else None,
        waiting=waiting,
        uploads_kept=timedelta(days=keep_uploads),
        precision=precision,
    )
    run(options, console())


@app.command()
def promote(
    run: Annotated[Path, typer.Argument(help="the run folder of the new adapter")],
    registry: RegistryFolder,
    name: Annotated[str | None, typer.Option(help="the adapter's name there [default: its recipe's name]")] = None,
    margin: Annotated[float, typer.Option(min=0, max=1, help="how much lower a slice's mean score may be")] = 0.02,
    by: Annotated[str | None, typer.Option(help="who promotes it, for its history")] = None,
    batch_size: BatchSize = 16,
) -> None:
    """Serve a new version of an adapter if it is not worse.

    Compares it with the current version on the test examples of the run, as a whole and by field and class. Exit code
    3: refused. A run that passes is also evaluated, unless it already was, so that the app can show its errors.
    """
    from vlm_ft.adapters import adapter_folder, read_card
    from vlm_ft.evaluation.run import evaluate_run
    from vlm_ft.registry import Registry
    from vlm_ft.review.gate import compare, table
    from vlm_ft.runs import Run

    known = Registry(registry)
    called = name or read_card(adapter_folder(run)).name
    if called not in known.names():
        print(f"{known.add(called, run, by=by).folder}: the first version, now current")
        return
    current = known.current(called)
    comparison = compare(current, run, margin=margin, batch_size=batch_size)
    console().print(table(comparison))
    if not comparison.passed:
        worse = ", ".join(found.name for found in comparison.worse)
        print(f"refused: worse by more than {margin:g} on {worse}")
        raise typer.Exit(3)
    if not Run(run).evaluated.is_file():  # the app shows its errors
        evaluate_run(run, rivals=False, base=False, batch_size=batch_size, console=console())
    added = known.find(called, run) or known.add(called, run)
    version = known.promote(called, added.number, by=by, reason=comparison.reason, over=current.number)
    print(f"{version.folder}: version {version.number}, now current")


@app.command("roll-back")
def roll_back(
    name: Annotated[str, typer.Argument(help="the adapter's name")],
    registry: RegistryFolder,
) -> None:
    """Serve the previous version of an adapter again."""
    from vlm_ft.registry import Registry

    version = Registry(registry).roll_back(name)
    print(f"{version.folder}: version {version.number}, now current")


@app.command()
def token(
    file: Annotated[Path, typer.Argument(help="the file of tokens")],
    name: Annotated[str, typer.Argument(help="the token's owner; replaces that owner's earlier token")],
    right: Annotated[
        list[str] | None,
        typer.Option(help="read, assess, review, train or admin; repeatable [default: read and assess]"),
    ] = None,
) -> None:
    """Make a token for the HTTP service, and print it.

    The file keeps only its SHA-256.
    """
    from vlm_ft.work.tokens import RIGHTS, add_token

    rights = tuple(known for known in RIGHTS if known in (right or ("read", "assess")))
    if right and len(rights) < len(set(right)):
        raise typer.BadParameter(f"choose among {', '.join(RIGHTS)}", param_hint="--right")
    print(add_token(file, name, rights))
