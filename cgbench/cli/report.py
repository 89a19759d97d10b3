"""``cgbench report``: a self-contained HTML page from run folders."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars


def report(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, or their result.json.")],
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("report.html"),
    references: Annotated[
        Path | None,
        typer.Option("--references", help="Folder of the references, where not the home's."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Draw FES maps, marginals, traces and tables of one or several results into one page."""
    from cgbench.pipeline.beside import report_runs

    with progress_bars() as progress:
        page = report_runs(runs, out, references=references, home=home, progress=progress)
    if as_json:
        print_json({"report": str(page)})
    else:
        console.print(f"report: {page}", soft_wrap=True)
