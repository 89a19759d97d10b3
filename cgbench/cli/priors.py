"""``cgbench priors``: a prior of several systems together, and what a prior says of itself."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars

app = typer.Typer(help="Fit and show priors.", no_args_is_help=True)


@app.command("fit")
def fit(
    systems: Annotated[list[str], typer.Argument(help="Systems with local stores.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for prior.json and prior.png.")],
    left_out: Annotated[
        str | None,
        typer.Option("--left-out", help="Fit without this protein and everything like it."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option("--split", help="Split id (default: block-v1, or lopo-<left out>)."),
    ] = None,
    balance: Annotated[
        Literal["frames", "systems"],
        typer.Option("--balance", help="Whether every frame counts alike, or every system."),
    ] = "frames",
    stride: Annotated[
        int, typer.Option("--stride", min=1, help="Every so many frames of each trajectory.")
    ] = 1,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fit one prior to the training parts of several systems; it covers every sequence."""
    from cgbench.pipeline.priors import described_prior, fit_prior, prior_lines

    with progress_bars() as progress:
        fitted = fit_prior(
            systems,
            out,
            left_out=left_out,
            split=split,
            balance=balance,
            stride=stride,
            home=home,
            progress=progress,
        )
    if as_json:
        told = {"file": str(fitted.path), "skipped": fitted.skipped}
        print_json(told | described_prior(fitted.prior))
        return
    for system, reason in fitted.skipped.items():
        console.print(f"not fitted on {system}: {reason}", soft_wrap=True)
    for line in prior_lines(fitted.prior):
        console.print(line, soft_wrap=True)
    console.print(f"file: {fitted.path}", soft_wrap=True)


@app.command("show")
def show(
    prior: Annotated[Path, typer.Argument(help="A prior.json, its folder, or a model.pt.")],
    as_json: AsJson = False,
) -> None:
    """Say what a prior was fitted to and what it could not learn from that."""
    from cgbench.pipeline.priors import described_prior, prior_lines, read_prior

    found = read_prior(prior)
    if as_json:
        print_json(described_prior(found))
    else:
        for line in prior_lines(found):
            console.print(line, soft_wrap=True)
