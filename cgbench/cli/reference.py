"""``cgbench reference``: the frozen analysis that models are compared with."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Force, Home, console, print_json, progress_bars

app = typer.Typer(help="Build, show and verify reference bundles.", no_args_is_help=True)

Store = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Store of the one system (default: <home>/store/SYSTEM-reference.zarr, else "
        "<home>/store/SYSTEM.zarr).",
    ),
]
Scheduler = Annotated[
    str, typer.Option("--scheduler", help="threads, processes, or tcp://… of a dask scheduler.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        help="Groups of frames worked on at a time; no result depends on it "
        "(default: the cores, at most 4).",
    ),
]
Figures = Annotated[
    Path | None,
    typer.Option(
        "--figures",
        help="Folder for figures of the diagnostics: implied timescales, Chapman-Kolmogorov test, "
        "split halves and blocks, as SVG and PNG.",
    ),
]

#: Each worker holds some 400 MB for the largest protein.
_MOST_WORKERS = 4


def _workers(asked: int | None) -> int:
    import os

    return asked or min(len(os.sched_getaffinity(0)), _MOST_WORKERS)


@app.command("build")
def build(
    systems: Annotated[
        list[str] | None,
        typer.Argument(metavar="[SYSTEM…]", help="Systems of the registry with local stores."),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option("--recipe", help="YAML file of your own protein, with an analysis."),
    ] = None,
    store: Store = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Bundle of the one system (default: in the home).")
    ] = None,
    scheduler: Scheduler = "threads",
    workers: Workers = None,
    figures: Figures = None,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fit TICA, microstates and MSM, choose the start frames, freeze all of it.

    A bundle of the same frames and settings that is there is kept. One system that fails does not
    stop the others; the exit code is that of the worst failure.
    """
    from cgbench.pipeline.references import build_references, exit_code

    with progress_bars() as progress:
        outcomes = build_references(
            systems or (),
            home=home,
            recipe=recipe,
            store=store,
            out=out,
            scheduler=scheduler,
            workers=_workers(workers),
            force=force,
            figures=figures,
            progress=progress,
        )
    if as_json:
        records = [outcome.record() for outcome in outcomes]
        # One bundle is one object, as with every other verb.
        print_json(records[0] if len(records) == 1 else records)
    for outcome in outcomes:
        if outcome.error is not None:
            _print_error(outcome.system, outcome.error.message)
            continue
        kept = " (kept: same frames and settings)" if outcome.status == "kept" else ""
        console.print(f"reference: {outcome.path}{kept}", soft_wrap=True, markup=False)
        for path in outcome.figures:
            console.print(f"figure: {path}", soft_wrap=True, markup=False)
    if code := exit_code([outcome.error for outcome in outcomes]):
        raise typer.Exit(code)


def _print_error(name: str, message: str) -> None:
    # Most errors begin with what they are about.
    told = message if message.startswith(f"{name}:") else f"{name}: {message}"
    console.print(f"error: {told}", style="bold red", markup=False, soft_wrap=True)


@app.command("show")
def show(
    system: Annotated[str, typer.Argument(help="A system, or a bundle's path.")],
    figures: Figures = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Print what a bundle was built with and what it says of the reference."""
    from rich.console import Console

    from cgbench.evaluate import read_reference
    from cgbench.pipeline.describe import reference_summary, reference_tables
    from cgbench.pipeline.references import draw_figures
    from cgbench.store import find_reference

    bundle = read_reference(find_reference(system, home))
    drawn = () if figures is None else draw_figures(bundle, figures)
    if as_json:
        print_json(reference_summary(bundle))
    else:
        for table in reference_tables(bundle):
            Console().print(table)
    for path in drawn:
        console.print(f"figure: {path}", soft_wrap=True, markup=False)


@app.command("verify")
def verify(
    systems: Annotated[
        list[str], typer.Argument(metavar="SYSTEM…", help="Systems, or paths of bundles.")
    ],
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Build again from the store, and compare.")
    ] = False,
    store: Store = None,
    scheduler: Scheduler = "threads",
    workers: Workers = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Check bundles: content against fingerprint, and against store and registry where they are."""
    from cgbench.pipeline.reference_verification import verify_reference
    from cgbench.pipeline.references import exit_code

    with progress_bars() as progress:
        found = [
            verify_reference(
                name,
                home=home,
                store=store,
                rebuild=rebuild,
                scheduler=scheduler,
                workers=_workers(workers),
                progress=progress,
            )
            for name in systems
        ]
    if as_json:
        records = [one.record() for one in found]
        print_json(records[0] if len(records) == 1 else records)
    for one in found:
        if one.error is not None:
            _print_error(one.system, one.error.message)
            continue
        told = {"frames of the store": one.store, "settings": one.settings, "rebuilt": one.rebuilt}
        facts = ", ".join(f"{name}: {value}" for name, value in told.items() if value is not None)
        console.print(f"intact: {one.fingerprint} ({facts})", soft_wrap=True, markup=False)
    if code := exit_code([one.error for one in found]):
        raise typer.Exit(code)
