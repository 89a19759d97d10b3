"""``cgbench info``: what a store holds, and whether it is intact."""

from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Home, console, print_json
from cgbench.errors import IntegrityError


def info(
    store: Annotated[str, typer.Argument(help="A store's path, or a system's name.")],
    verify: Annotated[bool, typer.Option("--verify", help="Check every byte's hash.")] = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Describe a store; with --verify, compare every shard with the manifest."""
    from rich.console import Console

    from cgbench.pipeline.describe import store_table
    from cgbench.store import open_store, verify_store

    opened = open_store(store, home)
    verification = verify_store(opened.path) if verify else None
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
            fix="preprocess or download the store again",
        )
    if verification is not None:
        console.print("every shard and metadata file is as the manifest says")
