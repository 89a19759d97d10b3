"""``cgbench backmap``: backbone atoms from Cα."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.common import AsJson, Force, console, print_json, progress_bars


def backmap(
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="Ensembles: pdb, xtc, dcd, npy, npz, zarr, folders."),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for the pdb files.")],
    system: Annotated[
        str | None, typer.Option("--system", help="What is in the files (default: by sequence).")
    ] = None,
    topology: Annotated[
        Path | None, typer.Option("--topology", help="Topology of xtc, dcd and npy files.")
    ] = None,
    frames: Annotated[
        int, typer.Option("--frames", min=1, help="Most models in a file, evenly spaced frames.")
    ] = 1000,
    beta: Annotated[bool, typer.Option("--beta", help="Write Cβ as well.")] = False,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Threads.")] = 1,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write N, Cα, C and O of Cα ensembles, for cartoons and programs that need a backbone."""
    from cgbench.evaluate.backmap import backmap_files

    with progress_bars() as progress:
        written = backmap_files(
            files,
            out,
            system=system,
            topology=topology,
            most=frames,
            with_beta=beta,
            force=force,
            workers=workers,
            progress=progress,
        )
    if as_json:
        print_json([one.model_dump(mode="json") for one in written])
        return
    for one in written:
        console.print(f"{one.file}: {one.n_models} of {one.n_intact} intact frames of {one.system}")
