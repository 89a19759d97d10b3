"""``cgbench reference``: the frozen analysis that models are compared with."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars

app = typer.Typer(help="Build, show and verify reference bundles.", no_args_is_help=True)


@app.command("build")
def build(
    system: Annotated[str, typer.Argument(help="A system with a local store.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Bundle (default: in the data home).")
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fit TICA, microstates and MSM, choose the start frames, freeze all of it."""
    from cgbench import registry
    from cgbench.config import data_home
    from cgbench.evaluate import build_reference, write_reference
    from cgbench.pipeline.describe import reference_summary
    from cgbench.store import open_store

    entry = registry.system(system)
    target = out or data_home(home) / "references" / "v1" / f"{entry.key}.zarr"
    with progress_bars() as progress:
        bundle = build_reference(open_store(system, home), entry, home=home, progress=progress)
    write_reference(target, bundle)
    if as_json:
        print_json({"reference": str(target), **reference_summary(bundle)})
    else:
        console.print(f"reference: {target}", soft_wrap=True)


@app.command("show")
def show(
    system: Annotated[str, typer.Argument(help="A system, or a bundle's path.")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Print what a bundle was built with and what it says of the reference."""
    from rich.console import Console

    from cgbench.evaluate import read_reference
    from cgbench.pipeline.describe import reference_summary, reference_table
    from cgbench.store import find_reference

    bundle = read_reference(find_reference(system, home))
    if as_json:
        print_json(reference_summary(bundle))
    else:
        Console().print(reference_table(bundle))


@app.command("verify")
def verify(
    system: Annotated[str, typer.Argument(help="A system, or a bundle's path.")],
    home: Home = None,
) -> None:
    """Check that a bundle's content is what its fingerprint says."""
    from cgbench.evaluate import read_reference
    from cgbench.store import find_reference

    bundle = read_reference(find_reference(system, home))
    console.print(f"intact: {bundle.fingerprint}", soft_wrap=True)
