"""``cgbench preprocess``: raw arrays into a store."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars


def preprocess(
    system: Annotated[str, typer.Argument(help="A system of the registry.")],
    raw: Annotated[
        Path | None, typer.Option("--raw", help="Folder of raw files (default: <home>/raw/SYSTEM).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Store (default: <home>/store/SYSTEM.zarr).")
    ] = None,
    force_map: Annotated[
        list[str] | None, typer.Option("--force-map", help="Force maps (default: all found).")
    ] = None,
    workers: Annotated[int, typer.Option("--workers", help="Shards read ahead.", min=1)] = 2,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Read .npy arrays shard by shard, screen them, and write a verified zarr store."""
    from cgbench import registry
    from cgbench.config import data_home
    from cgbench.ingest import preprocess_folder

    entry = registry.system(system)
    source = raw or data_home(home) / "raw" / entry.key
    target = out or data_home(home) / "store" / f"{entry.key}.zarr"
    with progress_bars() as progress:
        manifest = preprocess_folder(
            entry,
            source,
            target,
            force_maps=tuple(force_map) if force_map else None,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print_json({"store": str(target), "manifest": manifest.model_dump(mode="json")})
    else:
        console.print(f"store: {target}", soft_wrap=True)
