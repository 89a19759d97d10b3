"""``cgbench evaluate``: check, simulate and score a model, or score trajectories."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars
from cgbench.errors import SimulationError, UsageError


def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="A model.pt, or the name of a shipped model.")
    ] = None,
    ensemble: Annotated[
        Path | None, typer.Option("--ensemble", help="Score this trajectories.zarr instead.")
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Systems (default: those trained on).")
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol", help="Protocol id (default: standard; for --ensemble what the file says)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of replicas and resamples.")] = 1,
    threads: Annotated[int | None, typer.Option("--threads", help="Torch threads.")] = None,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Score a model (check, simulate, score) or an ensemble of structures; write result.json."""
    from rich.console import Console

    from cgbench.pipeline.evaluate import evaluate_ensemble, evaluate_model
    from cgbench.pipeline.simulate import default_run_folder
    from cgbench.pipeline.tables import result_table

    if (model is None) == (ensemble is None):
        raise UsageError("give either a MODEL or --ensemble DIR, not both and not neither")
    folder = out or default_run_folder(model or str(ensemble), protocol or "standard")
    with progress_bars() as progress:
        if model is not None:
            result = evaluate_model(
                model,
                system or None,
                protocol=protocol or "standard",
                out=folder,
                seed=seed,
                threads=threads,
                force=force,
                home=home,
                progress=progress,
            )
        elif ensemble is not None:
            result = evaluate_ensemble(
                ensemble,
                system or None,
                protocol=protocol,
                out=folder,
                seed=seed,
                home=home,
                progress=progress,
            )
    if as_json:
        print_json(result.model_dump(mode="json"))
    else:
        Console().print(result_table(result))
        console.print(f"result: {folder / 'result.json'}", soft_wrap=True)
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
    if all(item.status == "failed" for item in result.systems):
        raise SimulationError(f"{folder}: no system could be scored", found="every system failed")
