"""``cgbench leaderboard register``: a reference bundle that results are ranked against."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars


def register(
    systems: Annotated[
        list[str], typer.Argument(help="Published proteins whose bundles are at hand.")
    ],
    write: Annotated[
        Path | None,
        typer.Option(
            "--write",
            metavar="FILE",
            help="Enter them here: cgbench/registry/data/references.yaml of a clone.",
        ),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Register reference bundles: results scored against them get scores and ranks from then on.

    A maintainer does it once for each protein, with a bundle that anyone can get. Without --write
    the entries are only shown.
    """
    from cgbench.leaderboard.registering import entry_text, register_reference

    with progress_bars() as progress:
        made = [
            register_reference(system, file=write, home=home, progress=progress)
            for system in systems
        ]
    if as_json:
        print_json(
            [
                {
                    **one.entry.model_dump(mode="json"),
                    "took_the_place_of": one.before,
                    "converged": one.converged,
                    "written": None if one.file is None else str(one.file),
                }
                for one in made
            ]
        )
        return
    for one in made:
        typer.echo(entry_text(one.entry), nl=False)
        if one.before is not None:
            console.print(
                f"note: {one.entry.system}: takes the place of {one.before}", markup=False
            )
        if not one.converged:
            console.print(f"note: {one.entry.system}: the reference is not converged", markup=False)
    if write is None:
        console.print("nothing was written; --write FILE enters them", markup=False)
