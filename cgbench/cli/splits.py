"""``cgbench splits``: canonical divisions into train, validation and test."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json

app = typer.Typer(help="Make and check splits.", no_args_is_help=True)


@app.command("make")
def make(
    system: Annotated[str, typer.Argument(help="A system with a local store.")],
    split: Annotated[str, typer.Option("--split", help="Split id.")] = "block-v1",
    out: Annotated[
        Path | None, typer.Option("--out", help="File (default: in the data home).")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a split by the rule of the registry or recipe and write it as JSON."""
    from cgbench.config import data_home
    from cgbench.splits import make_split, split_settings, write_split
    from cgbench.store import open_store

    store = open_store(system, home)
    made = make_split(split, store, split_settings(store, home))
    target = out or data_home(home) / "splits" / store.metadata.system / f"{split}.json"
    write_split(target, made)
    if as_json:
        print_json(
            {
                "split": str(target),
                "id": made.id,
                "system": made.system,
                "fingerprint": made.fingerprint,
                "frames": {part: len(made.frames(part)) for part in ("train", "val", "test")},
            }
        )
    else:
        console.print(f"split: {target}", soft_wrap=True)


@app.command("check")
def check(
    system: Annotated[str, typer.Argument(help="A system with a local store.")],
    split: Annotated[str, typer.Option("--split", help="Split id or file.")] = "block-v1",
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check that a split is disjoint, complete, keeps its gap and belongs to the store."""
    from cgbench.splits import check_split, read_split
    from cgbench.store import find_split, open_store

    path = find_split(system, split, home)
    checked = read_split(path)
    check_split(checked, open_store(system, home))
    if as_json:
        print_json({"split": str(path), "valid": True, "fingerprint": checked.fingerprint})
    else:
        console.print(f"valid: {checked.fingerprint}", soft_wrap=True)
