"""``cgbench datasets``: cards and metadata of the data sets."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import (
    AsJson,
    Check,
    Home,
    console,
    print_json,
    progress_bars,
    tell_changed,
)

app = typer.Typer(help="Cards and metadata of the data sets.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option("--folder", help="Folder with one folder for each data set.")]


@app.command("cards")
def cards(folder: Folder = Path("datasets"), check: Check = False, as_json: AsJson = False) -> None:
    """Write the tables of every data card from the registry and the measured facts."""
    from cgbench.pipeline.cards import update_cards

    tell_changed(update_cards(folder, check=check), check, as_json, "cgbench datasets cards")


@app.command("croissant")
def croissant(
    folder: Folder = Path("datasets"), check: Check = False, as_json: AsJson = False
) -> None:
    """Write the suite's Croissant metadata from the registry and the measured facts."""
    from cgbench.pipeline.croissant import update_croissant

    tell_changed(
        update_croissant(folder, check=check), check, as_json, "cgbench datasets croissant"
    )


@app.command("measure")
def measure(
    system: Annotated[str, typer.Argument(help="A system of the registry with a local store.")],
    result: Annotated[
        list[Path] | None,
        typer.Option("--result", help="Results whose force errors count as held-out errors."),
    ] = None,
    folder: Folder = Path("datasets"),
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read a store through and keep the facts that its card states."""
    from cgbench import registry
    from cgbench.config import write_model
    from cgbench.pipeline.card_facts import MEASURED_NAME
    from cgbench.pipeline.card_facts import measure as measure_store
    from cgbench.store import open_store

    entry = registry.system(system)
    with progress_bars() as progress:
        facts = measure_store(open_store(entry.key, home), result or (), progress)
    target = folder / entry.key / MEASURED_NAME
    write_model(target, facts)
    if as_json:
        print_json(facts.model_dump(mode="json"))
    else:
        console.print(f"facts: {target}", soft_wrap=True)
