"""``cgbench info``: what a store holds, and whether it is intact."""

from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json, progress_bars
from cgbench.errors import IntegrityError


def info(
    store: Annotated[str, typer.Argument(help="A system's name, a store's path, or its address.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte's hash.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Describe a store; with --verify, compare every shard with the manifest.

    Addresses begin with https://, http:// or s3://; credentials for S3 are taken from where the
    AWS tools look for them. To verify a remote store, all of it is fetched once.
    """
    from rich.console import Console

    from cgbench.pipeline.describe import store_table
    from cgbench.store import open_store, verify_store

    opened = open_store(store, home)
    verification = None
    if verify:
        with progress_bars() as progress:
            verification = verify_store(opened, progress)
    if as_json:
        print_json(
            {
                "path": str(opened.path),
                "fingerprint": opened.fingerprint,
                "n_frames": opened.n_frames,
                "n_beads": opened.n_beads,
                "n_trajectories": len(opened.trajectory_bounds),
                "n_valid": int(opened.valid.sum()),
                "metadata": opened.metadata.model_dump(mode="json"),
                "verification": None
                if verification is None
                else verification.model_dump(mode="json"),
            }
        )
    else:
        Console().print(store_table(opened))
    if verification is not None and verification.problems:
        raise IntegrityError(
            f"{opened.path}: damaged",
            expected="every shard and metadata file as the manifest says",
            found="; ".join(verification.problems),
            fix="preprocess or download the store again, or tell the owner of the server",
        )
    if verification is not None:
        console.print("every shard and metadata file is as the manifest says")
