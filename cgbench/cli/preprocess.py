"""``cgbench preprocess``: raw arrays, trajectories or a server's byte ranges into stores."""

from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars

if TYPE_CHECKING:
    from rich.table import Table

    from cgbench.ingest.batch import Outcome


class _Origin(StrEnum):
    TRAINING = "training"
    REFERENCE = "reference"


class _Precision(StrEnum):
    FLOAT32 = "float32"
    INT16 = "int16"


class _Codec(StrEnum):
    ZSTD = "zstd"
    LZ4 = "lz4"
    NONE = "none"


def preprocess(
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM…]", help="Systems of the registry.")
    ] = None,
    origin: Annotated[
        _Origin,
        typer.Option("--from", help="The training arrays, or the reference trajectories."),
    ] = _Origin.TRAINING,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="YAML file that describes your own protein.")
    ] = None,
    stream: Annotated[
        bool,
        typer.Option("--stream", help="Read arrays from the server, without raw files on disk."),
    ] = False,
    scheduler: Annotated[
        str,
        typer.Option("--scheduler", help="threads, processes, or tcp://… of a dask scheduler."),
    ] = "threads",
    workers: Annotated[
        int | None,
        typer.Option("--workers", help="Shards under way at a time (default: 2).", min=1),
    ] = None,
    precision: Annotated[
        _Precision,
        typer.Option("--precision", help="float32 keeps every bit; int16 takes half the bytes."),
    ] = _Precision.FLOAT32,
    codec: Annotated[
        _Codec, typer.Option("--codec", help="Compression, lossless with each.")
    ] = _Codec.ZSTD,
    force_map: Annotated[
        list[str] | None, typer.Option("--force-map", help="Force maps (default: all found).")
    ] = None,
    boundaries: Annotated[
        list[Path] | None,
        typer.Option(
            "--boundaries",
            help="Reference trajectories (folder or archives) in which trajectory boundaries and "
            "frame interval of training arrays are looked up (default: "
            "<home>/raw/SYSTEM/reference, where it is).",
        ),
    ] = None,
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Folder of raw files (default: <home>/raw/SYSTEM).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Store (default: <home>/store/SYSTEM.zarr).")
    ] = None,
    mirror: Annotated[
        str | None,
        typer.Option("--mirror", help="Address that --stream tries in place of the origin's host."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Screen frames shard by shard and write verified zarr stores.

    An interrupted run goes on with the first shard that is not finished; an earlier store stays
    until the new one is whole. One system that fails does not stop the others; the exit code is
    that of the worst failure.
    """
    from cgbench.ingest.batch import Inputs, exit_code, preprocess_all

    inputs = Inputs(
        origin=origin.value,
        stream=stream,
        raw=raw,
        mirror=mirror,
        force_maps=tuple(force_map) if force_map else None,
        boundaries=tuple(boundaries or ()),
    )
    with progress_bars() as progress:
        outcomes = preprocess_all(
            systems or (),
            inputs,
            home=home,
            recipe=recipe,
            out=out,
            scheduler=scheduler,
            workers=workers or 2,
            codec=codec.value,
            precision=precision.value,
            progress=progress,
        )
    if as_json:
        records = [outcome.record() for outcome in outcomes]
        # One store is one object, as with every other verb.
        print_json(records[0] if len(records) == 1 else records)
    else:
        console.print(_screening(outcomes))
    for outcome in outcomes:
        if outcome.error is not None:
            console.print(
                f"error: {outcome.system}: {outcome.error.message}",
                style="bold red",
                markup=False,
                soft_wrap=True,
            )
        else:
            console.print(f"store: {outcome.path}", soft_wrap=True, markup=False)
    if code := exit_code(outcomes):
        raise typer.Exit(code)


def _screening(outcomes: Sequence["Outcome"]) -> "Table":
    """Return a table of how many frames of each store are masked, and why."""
    from rich.table import Table

    table = Table(title="screening")
    table.add_column("system")
    for heading in ("frames", "sound"):
        table.add_column(heading, justify="right")
    table.add_column("masked, by reason")
    for outcome in outcomes:
        manifest = outcome.manifest
        if manifest is None:
            table.add_row(outcome.system, "", "", "failed")
            continue
        reasons = [
            f"{number:,} {reason.replace('_', ' ')}"
            for reason, number in manifest.screening.items()
            if number
        ]
        table.add_row(
            outcome.system,
            f"{manifest.n_frames:,}",
            f"{manifest.n_valid / manifest.n_frames:.4%}",
            ", ".join(reasons) or "none",
        )
    return table
