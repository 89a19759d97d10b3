"""``cgbench viewer``: the molecular viewer that reports embed."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json

app = typer.Typer(help="The molecular viewer that reports embed.", no_args_is_help=True)


@app.command("install")
def install(
    package: Annotated[
        Path | None,
        typer.Option("--from", help="The npm package as a file, where npm does not reach."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Fetch 3Dmol.js with npm, check its hash and keep it, so that reports show ribbons."""
    from cgbench.report.viewer import VERSION, install_viewer

    folder = install_viewer(home, package)
    if as_json:
        print_json({"viewer": str(folder), "version": VERSION})
    else:
        console.print(f"3Dmol.js {VERSION}: {folder}", soft_wrap=True)


@app.command("show")
def show(home: Home = None, as_json: AsJson = False) -> None:
    """Say whether reports embed the viewer."""
    from cgbench.report.viewer import COMMAND, VERSION, read_viewer, viewer_folder

    installed = read_viewer(home) is not None
    if as_json:
        print_json({"viewer": str(viewer_folder(home)), "version": VERSION, "installed": installed})
    elif installed:
        console.print(f"3Dmol.js {VERSION}: {viewer_folder(home)}", soft_wrap=True)
    else:
        console.print(f"no viewer: reports draw the trace of the chain; get it with '{COMMAND}'")
