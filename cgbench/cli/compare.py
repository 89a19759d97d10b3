"""``cgbench compare``: which of two or more runs is better, and whether that is significant."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or result files.")],
    metric: Annotated[
        list[str] | None, typer.Option("--metric", help="Metrics (default: all).")
    ] = None,
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Systems (default: all shared ones).")
    ] = None,
    all_metrics: Annotated[
        bool, typer.Option("--all", help="Print unranked metrics as well.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write a page, or the comparison as .json.")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Compare runs: differences with intervals, which are significant, and in whose favour."""
    from rich.console import Console

    from cgbench.config import write_model
    from cgbench.pipeline.compare import compare_runs
    from cgbench.pipeline.compare_tables import comparison_tables

    found = compare_runs(runs, metrics=metric or None, systems=system or None)
    if out is not None and out.suffix == ".json":
        write_model(out, found)
    elif out is not None:
        from cgbench.pipeline.beside import report_runs

        with progress_bars() as progress:
            report_runs(runs, out, home=home, progress=progress)
    if as_json:
        print_json(found.model_dump(mode="json"))
    else:
        for table in comparison_tables(found, everything=all_metrics or bool(metric)):
            Console().print(table)
        for note in found.notes:
            console.print(f"note: {note}", soft_wrap=True)
    if out is not None:
        console.print(f"comparison: {out}", soft_wrap=True)
