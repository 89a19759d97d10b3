"""``cgbench mutants``: which variants a model keeps folded, and whether that means anything."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli.adapters import Adapter, AdapterOptions, Trust
from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars
from cgbench.errors import SimulationError, UsageError

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice


def mutants(
    model: Annotated[
        str, typer.Argument(help="A model.pt, a program, or the name of a shipped model.")
    ],
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Variants (default: all eleven).")
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", help="Protocol of the second stage.")
    ] = "standard",
    first_stage: Annotated[
        bool, typer.Option("--first-stage", help="Leave the second stage out.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of replicas and resamples.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Torch threads of the simulation.")
    ] = None,
    adapter: Adapter = None,
    adapter_option: AdapterOptions = None,
    trust: Trust = False,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Test a model on variants of its proteins, with controls that tell whether it reads sequence.

    Stage one: one trajectory from the native structure of each variant, of the wild type, of a
    shuffled sequence and of poly-glycine. Stage two: the full protocol for variants that stay.
    """
    from cgbench.pipeline.programs import choice_of

    run_mutants(
        model,
        system or None,
        protocol=None if first_stage else protocol,
        out=out,
        seed=seed,
        threads=threads,
        trust=trust,
        adapter=choice_of(adapter, adapter_option),
        force=force,
        home=home,
        as_json=as_json,
    )


def run_mutants(
    model: str,
    variants: list[str] | None,
    *,
    protocol: str | None,
    out: Path | None,
    seed: int,
    threads: int | None,
    trust: bool,
    adapter: "AdapterChoice | None" = None,
    force: bool,
    home: Path | None,
    as_json: bool,
) -> None:
    """Run the test and print its table.

    Raises:
        UsageError: Every variant is missing; the message holds the commands that get them.
        SimulationError: No variant that is there could be tested.
    """
    from rich.console import Console

    from cgbench.pipeline.mutants import evaluate_mutants
    from cgbench.pipeline.simulate import default_run_folder
    from cgbench.pipeline.tables import mutants_tables

    folder = out or default_run_folder(model, "mutants")
    with progress_bars() as progress:
        outcome = evaluate_mutants(
            model,
            variants,
            protocol=protocol,
            out=folder,
            seed=seed,
            threads=threads,
            trust=trust,
            adapter=adapter,
            force=force,
            home=home,
            progress=progress,
        )
    if as_json:
        print_json(outcome.model_dump(mode="json"))
    else:
        for table in mutants_tables(outcome):
            Console().print(table)
        console.print(f"mutants: {folder / 'mutants.json'}", soft_wrap=True)
        console.print(f"result: {folder / 'result.json'}", soft_wrap=True)
    present = [one for one in outcome.variants if one.status != "missing"]
    if not present:
        reasons = "\n".join(f"{one.key}: {one.reason}" for one in outcome.variants)
        raise UsageError(f"{folder}: no variant could be tested\n{reasons}")
    if all(one.status in ("failed", "lost") for one in present):
        raise SimulationError(
            f"{folder}: no variant could be tested",
            found="; ".join(f"{one.key}: {one.reason}" for one in present),
        )
