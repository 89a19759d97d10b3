"""``cgbench models``: weights by name."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli.common import (
    AsJson,
    Check,
    Force,
    Home,
    console,
    print_json,
    progress_bars,
    tell_changed,
)

if TYPE_CHECKING:
    from cgbench.pipeline.zoo import ModelEntry

Folder = Annotated[Path, typer.Option("--folder", help="Folder with one folder for each baseline.")]

app = typer.Typer(help="The model zoo: weights by name and hash.", no_args_is_help=True)


@app.command("list")
def list_(home: Home = None, as_json: AsJson = False) -> None:
    """List the models that load by name, where they are and what they were trained on."""
    from cgbench.pipeline.zoo import list_models

    entries = list_models(home)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
    else:
        _print(entries)


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="A name that 'cgbench models list' shows.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="A file to copy the weights to.")
    ] = None,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Bring a model here, verify its hash and print where it is."""
    from cgbench.pipeline.zoo import get_model

    with progress_bars() as progress:
        entry = get_model(name, home, out=out, force=force, progress=progress)
    if as_json:
        print_json(entry.model_dump(mode="json"))
    else:
        typer.echo(str(out or entry.path))


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="A name that 'cgbench models list' shows.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show a model's card: data, hardware, seeds, results and failures."""
    from cgbench.errors import UsageError
    from cgbench.pipeline.zoo import list_models, model_card

    entry = next((one for one in list_models(home) if one.name == name), None)
    if entry is None:
        raise UsageError(f"{name}: no such model", fix="cgbench models list")
    card = None if entry.path is None or entry.problem is not None else model_card(name, home)
    if as_json:
        print_json(entry.model_dump(mode="json") | {"card": card})
    elif card is not None:
        typer.echo(card)
    else:
        _print([entry])
        console.print(
            f"{name}: no card here"
            + ("" if entry.path else f"; 'cgbench models get {name}' brings the weights"),
            markup=False,
        )


@app.command("configs")
def configs(
    folder: Folder = Path("baselines"), check: Check = False, as_json: AsJson = False
) -> None:
    """Write the training configurations of the published proteins from the registry."""
    from cgbench.pipeline.baselines import update_configs

    tell_changed(update_configs(folder, check=check), check, as_json, "cgbench models configs")


@app.command("cards")
def cards(
    folder: Folder = Path("baselines"), check: Check = False, as_json: AsJson = False
) -> None:
    """Write the tables of every model card from what its runs wrote."""
    from cgbench.pipeline.baseline_cards import update_baseline_cards

    tell_changed(update_baseline_cards(folder, check=check), check, as_json, "cgbench models cards")


def _print(entries: "list[ModelEntry]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold")
    for name in ("model", "where", "trained on", "force map", "parameters", "hash"):
        table.add_column(name, justify="right" if name == "parameters" else "left")
    for entry in entries:
        spec = entry.spec
        table.add_row(
            entry.name,
            entry.place,
            ", ".join(part.system for part in spec.trained_on) if spec else "",
            (spec.force_map or "") if spec else "",
            f"{spec.n_parameters:,}" if spec and spec.n_parameters is not None else "",
            (entry.hash or "")[7:19],
        )
    Console().print(table)
    for entry in entries:
        if entry.problem is not None:
            console.print(f"{entry.name}: {entry.problem}", style="yellow", markup=False)
        if entry.superseded_by is not None:
            console.print(f"{entry.name}: superseded by {entry.superseded_by}", markup=False)
