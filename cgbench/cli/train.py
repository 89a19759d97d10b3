"""``cgbench train``: force matching from a configuration file."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars


def train(
    config: Annotated[Path, typer.Argument(help="A training configuration (YAML).")],
    override: Annotated[
        list[str] | None, typer.Option("--set", help="key.subkey=value, any number of times.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Run folder (default: cgbench-runs/<name>).")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an unfinished run.")] = False,
    force: Force = False,
    checkpoint_minutes: Annotated[
        float, typer.Option("--checkpoint-minutes", help="Between checkpoints within an epoch.")
    ] = 10.0,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fit the prior, train the network on delta forces, write model.pt."""
    from cgbench.train import read_config
    from cgbench.train import train as run

    settings = read_config(config, override)
    folder = out or Path("cgbench-runs") / settings.name
    with progress_bars() as progress:
        outcome = run(
            settings,
            folder,
            home=home,
            resume=resume,
            force=force,
            checkpoint_minutes=checkpoint_minutes,
            progress=progress,
        )
    if as_json:
        print_json(outcome.model_dump(mode="json") | {"model": str(folder / "model.pt")})
        return
    console.print(
        f"best epoch {outcome.best_epoch} of {outcome.epochs}: validation loss "
        f"{outcome.validation_loss:.3f} (kcal/mol/Å)², {100 * outcome.explained:.2f} % of the "
        f"variance explained, {outcome.seconds:.0f} s"
    )
    console.print(f"model: {folder / 'model.pt'}", soft_wrap=True)
