"""``cgbench generate``: all-atom molecular dynamics as training data."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars

_Hours = Annotated[float | None, typer.Option("--hours", help="Stop after this wall time.", min=0)]


def generate(
    protein: Annotated[
        str, typer.Argument(help="A system of the registry, or a sequence in capital letters.")
    ],
    structure: Annotated[
        Path | None, typer.Option("--structure", help="PDB file of the native structure.")
    ] = None,
    chain: Annotated[str | None, typer.Option("--chain", help="Chain of that file.")] = None,
    hours: _Hours = None,
    nanoseconds: Annotated[
        float | None, typer.Option("--nanoseconds", help="Stop at this total length.", min=0)
    ] = None,
    trajectories: Annotated[
        int | None,
        typer.Option("--trajectories", help="Stop at this number (segments of replicas).", min=1),
    ] = None,
    platform: Annotated[
        str | None, typer.Option("--platform", help="OpenMM platform (default: the fastest).")
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", help="Threads of the CPU platform.", min=1)
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Trajectories or replicas at a time.", min=1)
    ] = 1,
    solvent: Annotated[
        str | None, typer.Option("--solvent", help="implicit (default) or explicit.")
    ] = None,
    force_field: Annotated[
        str | None,
        typer.Option(
            "--force-field", help="A name such as amber14-gbn2 (default: by the solvent)."
        ),
    ] = None,
    temperature: Annotated[float, typer.Option("--temperature", help="In K.")] = 350.0,
    timestep: Annotated[float, typer.Option("--timestep", help="In ps.")] = 0.004,
    trajectory_length: Annotated[float, typer.Option("--trajectory-length", help="In ns.")] = 0.5,
    frame_interval: Annotated[float, typer.Option("--frame-interval", help="In ps.")] = 1.0,
    coil_length: Annotated[
        float, typer.Option("--coil-length", help="Time of a coil at 600 K, in ps.", min=0)
    ] = 50.0,
    per_round: Annotated[
        int | None, typer.Option("--per-round", help="Trajectories of an adaptive round.", min=1)
    ] = None,
    copies: Annotated[
        int, typer.Option("--copies", help="Trajectories in one system (for a GPU).", min=1)
    ] = 1,
    replica_exchange: Annotated[
        list[str] | None,
        typer.Option("--replica-exchange", help="Temperatures in K: '350,380,410', or repeated."),
    ] = None,
    ladder: Annotated[
        tuple[int, float, float] | None,
        typer.Option("--ladder", help="The same: how many, lowest and highest (geometric)."),
    ] = None,
    mean_force: Annotated[
        int | None,
        typer.Option("--mean-force", help="Mean forces at this number of frames.", min=1),
    ] = None,
    sampling: Annotated[
        float | None, typer.Option("--sampling", help="Of each copy at a held frame, in ps.")
    ] = None,
    from_raw: Annotated[
        Path | None, typer.Option("--from-raw", help="Raw folder to draw starts from, too.")
    ] = None,
    include_raw: Annotated[
        bool, typer.Option("--include-raw", help="Write its frames before the new ones.")
    ] = False,
    discard_all_atom: Annotated[
        bool, typer.Option("--discard-all-atom", help="Keep Cα files only, at the end.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Of everything random.", min=0)] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder (default: <home>/generated/NAME).")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a protein with all its atoms and write raw training data.

    Continues a run with the same settings that was stopped or killed. By default many short
    trajectories start from the native structure, coils and earlier frames (adaptive sampling).
    """
    from cgbench.config import data_home
    from cgbench.generate.options import Options
    from cgbench.generate.verb import run

    options = Options(
        protein=protein, structure=structure, chain=chain, solvent=solvent,
        force_field=force_field, temperature=temperature, timestep=timestep,
        trajectory_length=trajectory_length, frame_interval=frame_interval, per_round=per_round,
        coil_length=coil_length, copies=copies, seed=seed, from_raw=from_raw,
        include_raw=include_raw, trajectories=trajectories, nanoseconds=nanoseconds, hours=hours,
        home=data_home(home), replica_exchange=tuple(replica_exchange or ()), ladder=ladder,
        mean_force=mean_force, sampling=sampling, discard_all_atom=discard_all_atom, out=out,
        platform=platform, threads=threads, workers=workers,
    )  # fmt: skip
    with progress_bars() as progress:
        result = run(options, progress)
    if as_json:
        print_json(result.as_json())
    else:
        console.print(result.summary(), soft_wrap=True)
