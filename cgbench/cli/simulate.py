"""``cgbench simulate``: batched Langevin dynamics of a model."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cgbench.cli.adapters import Adapter, AdapterOptions, Trust
from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars
from cgbench.errors import SimulationError


def simulate(
    model: Annotated[str, typer.Argument(help="A model.pt, or the name of a shipped model.")],
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Systems (default: those trained on).")
    ] = None,
    protocol: Annotated[str, typer.Option("--protocol", help="Protocol id.")] = "standard",
    out: Annotated[Path | None, typer.Option("--out", help="Run folder.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of all replicas' streams.")] = 1,
    threads: Annotated[int | None, typer.Option("--threads", help="Torch threads.")] = None,
    engine: Annotated[
        Literal["auto", "torch", "fused"],
        typer.Option("--engine", help="What computes the forces (auto: the fastest that fits)."),
    ] = "auto",
    processes: Annotated[
        int | None, typer.Option("--processes", help="Share the replicas among processes here.")
    ] = None,
    devices: Annotated[
        str | None, typer.Option("--devices", help="Torch devices of the parts, as cuda:0,cuda:1.")
    ] = None,
    shard: Annotated[
        str | None, typer.Option("--shard", help="Run part I of N, as 0/4; the last one joins all.")
    ] = None,
    merge: Annotated[bool, typer.Option("--merge", help="Only join parts that are there.")] = False,
    xtc: Annotated[bool, typer.Option("--xtc", help="Also export xtc with topology.")] = False,
    adapter: Adapter = None,
    adapter_option: AdapterOptions = None,
    trust: Trust = False,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a model from the reference's start frames; interrupted, it resumes."""
    from cgbench.pipeline.programs import choice_of
    from cgbench.pipeline.shards import simulate_parts
    from cgbench.pipeline.simulate import default_run_folder

    folder = out or default_run_folder(model, protocol)
    with progress_bars() as progress:
        outcomes, joined = simulate_parts(
            model,
            system or None,
            shard=shard,
            processes=processes,
            devices=devices,
            merge=merge,
            protocol=protocol,
            out=folder,
            seed=seed,
            threads=threads,
            xtc=xtc,
            engine=engine,
            trust=trust,
            adapter=choice_of(adapter, adapter_option),
            force=force,
            home=home,
            progress=progress,
        )
    if as_json:
        print_json({key: outcome.model_dump(mode="json") for key, outcome in outcomes.items()})
    else:
        for key, outcome in outcomes.items():
            alive = sum(frame >= outcome.n_output_frames for frame in outcome.alive_until)
            console.print(
                f"{key}: {outcome.status}, {alive} of {len(outcome.alive_until)} replicas alive, "
                f"{outcome.steps_per_second:.1f} steps/s, {outcome.ns_per_day:.1f} ns/day"
            )
            console.print(f"engine: {outcome.engine} ({outcome.engine_reason})", soft_wrap=True)
            if outcome.exchange is not None:
                console.print(outcome.exchange.described(), soft_wrap=True)
        where = folder / "trajectories.zarr" if joined else folder / "parts"
        console.print(f"trajectories: {where}", soft_wrap=True)
    failed = [key for key, outcome in outcomes.items() if outcome.status == "failed"]
    if failed:
        raise SimulationError(
            f"{model}: every replica failed for {', '.join(failed)}",
            fix="run 'cgbench check' on the model; the frames until the failure are kept",
        )
