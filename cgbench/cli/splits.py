"""``cgbench splits``: canonical divisions into train, validation and test."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import Home, console

app = typer.Typer(help="Make and check splits.", no_args_is_help=True)


@app.command("make")
def make(
    system: Annotated[str, typer.Argument(help="A system with a local store.")],
    split: Annotated[str, typer.Option("--split", help="Split id.")] = "block-v1",
    out: Annotated[
        Path | None, typer.Option("--out", help="File (default: in the data home).")
    ] = None,
    home: Home = None,
) -> None:
    """Make a split by the rule of the registry or recipe and write it as JSON."""
    from cgbench.config import data_home
    from cgbench.splits import make_split, split_settings, write_split
    from cgbench.store import open_store

    store = open_store(system, home)
    made = make_split(split, store, split_settings(store, home))
    target = out or data_home(home) / "splits" / store.metadata.system / f"{split}.json"
    write_split(target, made)
    console.print(f"split: {target}", soft_wrap=True)


@app.command("check")
def check(
    system: Annotated[str, typer.Argument(help="A system with a local store.")],
    split: Annotated[str, typer.Option("--split", help="Split id or file.")] = "block-v1",
    home: Home = None,
) -> None:
    """Check that a split is disjoint, complete, keeps its gap and belongs to the store."""
    from cgbench.splits import check_split, read_split
    from cgbench.store import find_split, open_store

    checked = read_split(find_split(system, split, home))
    check_split(checked, open_store(system, home))
    console.print(f"valid: {checked.fingerprint}", soft_wrap=True)
