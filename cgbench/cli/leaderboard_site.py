"""``cgbench leaderboard build`` and ``serve``: the board as a static site."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars

_SITE = Path("site")


def build(
    board: Annotated[Path, typer.Option("--board", help="The leaderboard folder.")] = Path(
        "leaderboard"
    ),
    out: Annotated[Path, typer.Option("--out", help="Folder of the site.")] = _SITE,
    details: Annotated[
        Path | None,
        typer.Option("--details", help="Run folders as FAMILY/NAME, for figures and structures."),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Write the leaderboard as a static site, which works from files and from any host.

    References and native structures in the data home are drawn; nothing is fetched.
    """
    from cgbench.leaderboard.board import read_board
    from cgbench.leaderboard.site import build_site

    with progress_bars() as progress:
        found = build_site(read_board(board), out, details=details, home=home, progress=progress)
    if as_json:
        print_json(
            {
                "site": str(found.folder),
                "pages": len(found.pages),
                "models": found.models,
                "proteins": found.proteins,
                "figures": found.figures,
                "first_view_bytes": found.first_view_bytes,
            }
        )
        return
    typer.echo(
        f"{found.folder / 'index.html'}: {found.models} models, {found.proteins} proteins, "
        f"{len(found.pages)} pages; first view {found.first_view_bytes / 1000:.0f} kB"
    )


def serve(
    site: Annotated[Path, typer.Argument(help="A built site.")] = _SITE,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port; any free one if 0.")
    ] = 8000,
    as_json: AsJson = False,
) -> None:
    """Show a built site on this machine until interrupted; no other machine can see it."""
    from cgbench.leaderboard.site import serve as run

    def ready(address: str) -> None:
        if as_json:
            print_json({"address": address, "site": str(site)})
        else:
            console.print(f"{address}  (Ctrl-C stops it)", markup=False)

    run(site, port, ready)
