"""``cgbench train``: force matching from a configuration file, one seed, several, or a sweep."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars

if TYPE_CHECKING:
    from cgbench.pipeline.selection import SelectionOutcome
    from cgbench.pipeline.sweep import SweepOutcome
    from cgbench.train import TrainingOutcome
    from cgbench.train.sampler_records import SamplerOutcome

#: What ``cgbench train CONFIG`` is among the verbs below ``train``.
_DEFAULT = "config"


class _ConfigOrVerb(TyperGroup):
    """Takes ``train CONFIG`` for ``train config CONFIG``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands:
            args = [_DEFAULT, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_ConfigOrVerb, help="Train models: CONFIG, or sweep.", no_args_is_help=True)

CheckpointMinutes = Annotated[
    float, typer.Option("--checkpoint-minutes", help="Between checkpoints within an epoch.")
]


@app.command(_DEFAULT)
def train(
    config: Annotated[Path, typer.Argument(help="A training configuration (YAML).")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key.subkey=value, any number of times.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder (default: cgbench-runs/<name>).")
    ] = None,
    seeds: Annotated[
        int | None, typer.Option("--seeds", help="Train so many seeds, each in its folder.")
    ] = None,
    select: Annotated[
        bool, typer.Option("--select", help="Choose the best seed by short simulations.")
    ] = False,
    devices: Annotated[
        int | None, typer.Option("--devices", help="Processes on this node, one a device.")
    ] = None,
    num_nodes: Annotated[
        int | None, typer.Option("--num-nodes", help="Nodes; torchrun or srun starts them.")
    ] = None,
    accelerator: Annotated[
        str | None, typer.Option("--accelerator", help="cpu, gpu or auto.")
    ] = None,
    strategy: Annotated[
        str | None, typer.Option("--strategy", help="auto, or a strategy of Lightning.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="32-true, bf16-mixed or 16-mixed.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    force: Force = False,
    checkpoint_minutes: CheckpointMinutes = 10.0,
    workers: Annotated[
        int, typer.Option("--workers", min=1, help="Threads that measure frames in --select.")
    ] = 1,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fit the prior, train the network on delta forces, write model.pt.

    'cgbench train sweep SWEEP' trains over a grid of hyper-parameters.
    """
    from cgbench.errors import UsageError
    from cgbench.train import read_config, train_sampler
    from cgbench.train import train as run
    from cgbench.train.kinds import SAMPLERS

    options = {
        "devices": devices,
        "num_nodes": num_nodes,
        "accelerator": accelerator,
        "strategy": strategy,
        "precision": precision,
    }
    chosen = [f"{key}={value}" for key, value in options.items() if value is not None]
    settings = read_config(config, [*(override or []), *chosen])
    folder = out or Path("cgbench-runs") / settings.name
    sampler = settings.kind in SAMPLERS
    if sampler and (seeds is not None or select):
        raise UsageError(
            f"--seeds, --select: seeds of potentials are trained and compared; kind "
            f"{settings.kind} is a sampler",
            fix="--set seed=N, one run and --out a seed; the best step is chosen by validation",
        )
    if seeds is not None or select:
        from cgbench.pipeline.selection import train_seeds

        with progress_bars() as progress:
            found = train_seeds(
                settings,
                4 if seeds is None else seeds,
                folder,
                select=select,
                home=home,
                resume=resume,
                force=force,
                checkpoint_minutes=checkpoint_minutes,
                workers=workers,
                progress=progress,
            )
        if as_json:
            model = str(folder / "model.pt") if found.chosen is not None else None
            print_json(found.model_dump(mode="json") | {"model": model})
        else:
            _print_seeds(found, folder)
        return
    options_of_run: dict[str, Any] = {
        "home": home,
        "resume": resume,
        "force": force,
        "checkpoint_minutes": checkpoint_minutes,
    }
    if sampler:
        with progress_bars() as progress:
            drawn = train_sampler(settings, folder, **options_of_run, progress=progress)
        if as_json:
            print_json(drawn.model_dump(mode="json") | {"model": str(folder / "sampler.pt")})
        else:
            _print_sampler(drawn, folder)
        return
    with progress_bars() as progress:
        outcome = run(settings, folder, **options_of_run, progress=progress)
    if as_json:
        print_json(outcome.model_dump(mode="json") | {"model": str(folder / "model.pt")})
        return
    _print_outcome(outcome, folder)


@app.command("sweep")
def sweep(
    file: Annotated[Path, typer.Argument(metavar="SWEEP", help="A sweep (YAML).")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the runs (default: cgbench-runs/<name>)."),
    ] = None,
    scheduler: Annotated[
        str, typer.Option("--scheduler", help="processes, or tcp://… of a dask scheduler.")
    ] = "processes",
    workers: Annotated[int, typer.Option("--workers", min=1, help="Runs at a time.")] = 1,
    force: Force = False,
    checkpoint_minutes: CheckpointMinutes = 10.0,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Train a grid or a random sample of hyper-parameters and rank the models by simulation.

    Interrupted, it goes on where it was. A run that fails is a row with the reason.
    """
    from cgbench.errors import SimulationError
    from cgbench.pipeline.sweep import run_sweep

    with progress_bars() as progress:
        outcome = run_sweep(
            file,
            out,
            scheduler=scheduler,
            workers=workers,
            home=home,
            force=force,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )
    folder = out or Path("cgbench-runs") / outcome.name
    if as_json:
        model = str(folder / "model.pt") if outcome.best is not None else None
        print_json(outcome.model_dump(mode="json") | {"model": model})
    else:
        _print_sweep(outcome, folder)
    if outcome.best is None:
        raise SimulationError(
            f"{outcome.name}: every run failed", fix="see the reasons of the rows"
        )


def _print_outcome(outcome: "TrainingOutcome", folder: Path) -> None:
    console.print(
        f"best epoch {outcome.best_epoch} of {outcome.epochs}: validation loss "
        f"{outcome.validation_loss:.3f} (kcal/mol/Å)², {100 * outcome.explained:.2f} % of the "
        f"variance explained, {outcome.seconds:.0f} s"
        + ("" if outcome.cpu_seconds is None else f", {outcome.cpu_seconds:.0f} s of processors")
    )
    if len(outcome.systems) > 1:
        table = _table("system", "training frames", "stride", "validation loss", "explained, %")
        for system, found in outcome.systems.items():
            table.add_row(
                system,
                f"{found.n_training_frames:,}",
                str(found.frame_stride),
                _number(found.validation_loss),
                _number(None if found.explained is None else 100 * found.explained, 2),
            )
        console.print(table)
    console.print(f"model: {folder / 'model.pt'}", soft_wrap=True)


def _print_sampler(outcome: "SamplerOutcome", folder: Path) -> None:
    loss = outcome.validation_loss
    told = f"none: {outcome.validation_reason}"
    console.print(
        f"best step {outcome.best_step} of {outcome.steps}: validation loss "
        + (told if loss is None else f"{loss:.4f} ({outcome.validation_unit})")
        + f", {outcome.seconds:.0f} s",
        soft_wrap=True,
    )
    if outcome.unvalidated and loss is not None:
        console.print(f"not validated: {', '.join(outcome.unvalidated)}", soft_wrap=True)
    if outcome.terms:
        table = _table("term", "samples", "training frames")
        for name, value in outcome.terms.items():
            table.add_row(name, _number(value), _number(outcome.floor.get(name)))
        console.print(table)
    console.print(f"model: {folder / 'sampler.pt'}", soft_wrap=True)


def _print_seeds(outcome: "SelectionOutcome", folder: Path) -> None:
    table = _table("seed", "validation loss", outcome.metric or "", "", title=outcome.name)
    for one in outcome.candidates:
        told = one.reason or ("chosen" if one.seed == outcome.chosen else "")
        table.add_row(
            str(one.seed), _number(one.validation_loss), _number(one.metric), told.split("\n")[0]
        )
    console.print(table)
    for name, spread in outcome.between_seed.items():
        deviation = spread.standard_deviation
        text = "" if deviation is None else f" ± {deviation:.4g} (standard deviation)"
        console.print(f"{name} over {spread.n} seeds: {spread.mean:.4g}{text}")
    for described in outcome.references.values():
        console.print(f"chosen on: {described}", soft_wrap=True)
        if "evaluation.zarr" in described:
            console.print("score it against the others: cgbench evaluate --references FOLDER")
    if outcome.chosen is None:
        console.print("no seed was chosen: --select writes model.pt of the best one")
    else:
        console.print(f"model: {folder / 'model.pt'}", soft_wrap=True)


def _print_sweep(outcome: "SweepOutcome", folder: Path) -> None:
    values: dict[str, set[str]] = {}
    for row in outcome.rows:
        for key, value in row.parameters.items():
            values.setdefault(key, set()).add(str(value))
    # What is the same in all rows would only make the columns narrow.
    keys = [key for key, found in values.items() if len(found) > 1]
    columns = ["run", "settings", "weights", "validation loss"]
    columns += [] if outcome.protocol is None else [outcome.compared]
    table = _table("rank", *columns, title=outcome.name)
    for row in outcome.ranked():
        told = [f"{key.rpartition('.')[2]}={row.parameters.get(key, '')}" for key in keys]
        cells = [str(row.number), " ".join(told)]
        cells += ["" if row.n_parameters is None else f"{row.n_parameters:,}"]
        cells += [_number(row.run.validation_loss)]
        cells += [] if outcome.protocol is None else [_number(row.run.metric)]
        table.add_row("–" if row.rank is None else str(row.rank), *cells)
    console.print(table)
    shared = [f"{key}={found.pop()}" for key, found in values.items() if len(found) == 1]
    if shared:
        console.print(f"all of them: {', '.join(shared)}", soft_wrap=True)
    for row in outcome.ranked():
        if row.run.reason is not None:
            reason = row.run.reason.split("\n")[0]
            console.print(f"run {row.number} failed: {reason}", soft_wrap=True, markup=False)
    if outcome.best is not None:
        console.print(f"model: {folder / 'model.pt'}", soft_wrap=True)


def _table(*columns: str, title: str | None = None) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
