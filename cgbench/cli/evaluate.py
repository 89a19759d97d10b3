"""``cgbench evaluate``: check, simulate and score a model, or score trajectories."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from cgbench.cli.adapters import Adapter, AdapterOptions, TrainedOnOptions, Trust
from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars
from cgbench.cli.evaluate_sampler import evaluate_sampler_file, is_sampler_file
from cgbench.cli.mutants import run_mutants
from cgbench.errors import SimulationError, UsageError

if TYPE_CHECKING:
    from cgbench.results import Result

#: As in ``cgbench.results.leaks``, which is not imported before it is needed.
Track = Literal["protein-specific", "multi-protein", "leave-one-out", "mutants", "sampler"]


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(help="A model.pt, a sampler.pt, a program, or the name of a shipped model."),
    ] = None,
    ensemble: Annotated[
        Path | None,
        typer.Option(
            "--ensemble", help="Score these structures instead: a file, folder or pattern."
        ),
    ] = None,
    published: Annotated[
        Literal["cg", "mutants"] | None,
        typer.Option("--published", help="Download and score the reference work's trajectories."),
    ] = None,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Test variants instead, as 'cgbench mutants' does.")
    ] = False,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", help="Systems (default: trained on; of an ensemble: found)."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            "--protocol", help="Protocol id (default: standard; for --ensemble what the file says)."
        ),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Also do the analysis of the reference work.")
    ] = False,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Topology of the ensemble's files.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="A .npy file with a weight for each frame.")
    ] = None,
    frame_interval: Annotated[
        float | None,
        typer.Option("--frame-interval", help="Time between the ensemble's frames in ps."),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="What an ensemble or a program is called.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="Run folder.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of replicas and resamples.")] = 1,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Torch threads of the simulation.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Threads of the scoring (default: all).")
    ] = None,
    stable_step: Annotated[
        bool | None,
        typer.Option(
            "--stable-step/--no-stable-step",
            help="Look for the largest stable time step (default: for long protocols).",
        ),
    ] = None,
    prior: Annotated[
        bool,
        typer.Option("--prior/--no-prior", help="Simulate the model's prior alone beside it."),
    ] = True,
    adapter: Adapter = None,
    adapter_option: AdapterOptions = None,
    trained_on: TrainedOnOptions = None,
    trust: Trust = False,
    track: Annotated[
        Track | None,
        typer.Option(
            "--track",
            help="Refuse a MODEL that was not trained by the rules of this track "
            "(default: the track that it is on; overlaps are marked).",
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option("--n", min=1, help="Structures of each system (default: 640; a sampler's)."),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", help="SYSTEM=FILE with evolutionary frequencies, of a sampler."),
    ] = None,
    structures: Annotated[
        Path | None,
        typer.Option("--structures", help="Test a sampler on the domains of this split instead."),
    ] = None,
    references: Annotated[
        Path | None,
        typer.Option(
            "--references",
            help="Score against the reference bundles of this folder (<system>.zarr, or that of a "
            "selection) and not of the data home.",
        ),
    ] = None,
    mirror: Annotated[
        str | None, typer.Option("--mirror", help="Address tried first, with --published.")
    ] = None,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Score a model (check, simulate, score) or an ensemble of structures; write result.json.

    Every system is scored for itself, and the same command goes on where it was interrupted.
    Exit codes: 0 when at least one system was scored, 2 when every system is missing, 5 when every
    system that is there failed.
    """
    from cgbench.pipeline.programs import choice_of
    from cgbench.pipeline.simulate import default_run_folder

    if model is None and (adapter is not None or adapter_option):
        raise UsageError("--adapter, --adapter-option: only with a MODEL")
    if references is not None and (mutants or published is not None):
        raise UsageError("--references: only with a MODEL that is tested on proteins or --ensemble")
    if trained_on and (model is None or mutants):
        raise UsageError("--trained-on: only with a MODEL that is tested on proteins")
    if track is not None and (model is None or mutants):
        raise UsageError("--track: only with a MODEL that is tested on proteins")
    if sum((model is not None, ensemble is not None, published is not None)) != 1:
        raise UsageError("give one of MODEL, --ensemble and --published, and no two")
    said = {
        "--topology": topology,
        "--weights": weights,
        "--frame-interval": frame_interval,
    }
    if ensemble is None and (given := [key for key, value in said.items() if value is not None]):
        raise UsageError(f"{', '.join(given)}: only with --ensemble")
    if model is not None and is_sampler_file(model):
        evaluate_sampler_file(
            Path(model),
            system or None,
            n=samples,
            profiles=profile or [],
            structures=structures,
            out=out,
            seed=seed,
            workers=workers,
            track=track,
            refused={
                "--mutants": mutants,
                "--protocol": protocol,
                "--paper": paper,
                "--adapter": adapter,
                "--name": name,
                "--references": references,
                "--trained-on": trained_on,
            },
            force=force,
            home=home,
            as_json=as_json,
            show=_show,
        )
        return
    if given := [
        key
        for key, value in {"--n": samples, "--profile": profile, "--structures": structures}.items()
        if value
    ]:
        raise UsageError(f"{', '.join(given)}: only with a sampler.pt", found=model)
    if mutants:
        if model is None:
            raise UsageError("--mutants tests a MODEL")
        run_mutants(
            model,
            system or None,
            protocol=protocol or "standard",
            out=out,
            seed=seed,
            threads=threads,
            trust=trust,
            adapter=choice_of(adapter, adapter_option),
            force=force,
            home=home,
            as_json=as_json,
        )
        return
    if published is not None:
        folder = out or Path("cgbench-runs") / f"published-{published}"
        with progress_bars() as progress:
            from cgbench.pipeline.published import PublishedOptions, evaluate_published

            results = evaluate_published(
                published,
                system or None,
                out=folder,
                options=PublishedOptions(mirror=mirror),
                seed=seed,
                workers=workers,
                force=force,
                home=home,
                progress=progress,
            )
        _show({folder / row: result for row, result in results.items()}, as_json, folder)
        return
    suffix = protocol or ("ensemble" if model is None else "standard")
    if references is not None:
        # A run of its own: simulations start from the reference's frames.
        suffix += f"-{references.resolve().name.removesuffix('.zarr')}"
    folder = out or default_run_folder(model or str(ensemble), suffix)
    with progress_bars() as progress:
        if model is not None:
            from cgbench.pipeline.evaluate import evaluate_model

            result = evaluate_model(
                model,
                system or None,
                protocol=protocol or "standard",
                out=folder,
                seed=seed,
                threads=threads,
                workers=workers,
                paper=paper,
                stable_step=stable_step,
                prior=prior,
                trust=trust,
                adapter=choice_of(adapter, adapter_option),
                name=name,
                track=track,
                references=references,
                trained_on=trained_on or (),
                force=force,
                home=home,
                progress=progress,
            )
        else:
            from cgbench.pipeline.evaluate_ensemble import EnsembleOptions, evaluate_ensemble

            result = evaluate_ensemble(
                Path(str(ensemble)),
                system or None,
                options=EnsembleOptions(
                    topology=topology, weights=weights, frame_interval=frame_interval, name=name
                ),
                protocol=protocol,
                paper=paper,
                out=folder,
                seed=seed,
                workers=workers,
                references=references,
                force=force,
                home=home,
                progress=progress,
            )
    _show({folder: result}, as_json, folder)


def _show(results: "dict[Path, Result]", as_json: bool, folder: Path) -> None:
    """Print results by their folders, and raise where nothing in them is a score."""
    from rich.console import Console

    from cgbench.pipeline.tables import result_table

    if as_json:
        single = next(iter(results.values())) if list(results) == [folder] else None
        if single is not None:
            print_json(single.model_dump(mode="json"))
        else:
            print_json({path.name: one.model_dump(mode="json") for path, one in results.items()})
    else:
        for path, result in results.items():
            Console().print(result_table(result))
            console.print(f"result: {path / 'result.json'}", soft_wrap=True)
            if (path / "report.html").is_file():
                console.print(f"report: {path / 'report.html'}", soft_wrap=True)
    require_scored(list(results.values()), folder)


def require_scored(results: "list[Result]", folder: Path) -> None:
    """Raise where nothing of the results is a score.

    Raises:
        UsageError: Every system is missing; the message holds the commands that get them.
        SimulationError: Every system that is there failed.
    """
    systems = [item for result in results for item in result.systems]
    present = [item for item in systems if item.status != "missing"]
    if not present:
        reasons = "\n".join(f"{item.system}: {item.reason}" for item in systems)
        raise UsageError(f"{folder}: no system could be scored\n{reasons}")
    if all(item.status == "failed" for item in present):
        raise SimulationError(
            f"{folder}: no system could be scored",
            found="; ".join(f"{item.system}: {item.reason}" for item in present),
        )
