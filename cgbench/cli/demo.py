"""``cgbench demo``: the whole suite on the embedded sample."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Force, console, print_json, progress_bars


def demo(
    out: Annotated[Path, typer.Option("--out", help="Where everything goes.")] = Path(
        "cgbench-demo"
    ),
    quick: Annotated[
        bool, typer.Option("--quick", help="Seconds instead of minutes: for tests, not results.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Train, check, simulate and score on the embedded sample of real chignolin dynamics.

    Trains a small network from scratch and scores it beside the shipped baseline and the five
    reference rows. Interrupted, the same command continues.
    """
    from rich.console import Console

    from cgbench.pipeline.demo import run_demo
    from cgbench.pipeline.tables import demo_table, paired_table

    with progress_bars() as progress:
        outcome = run_demo(out, quick=quick, force=force, progress=progress)
    if as_json:
        print_json(outcome.model_dump(mode="json"))
        return
    stdout = Console()
    stdout.print(demo_table(outcome))
    stdout.print(paired_table(outcome))
    for note in outcome.notes:
        stdout.print(f"note: {note}", markup=False)
    console.print(f"report: {outcome.report}", soft_wrap=True)
