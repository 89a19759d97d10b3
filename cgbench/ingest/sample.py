"""How the embedded sample is made: real molecular dynamics of chignolin, one command.

``python -m cgbench.ingest.sample RAW OUT`` makes the store from the raw folder.
"""

import sys
from pathlib import Path
from typing import Final

from cgbench.config import read_data
from cgbench.errors import UsageError, ValidationError
from cgbench.ingest.npy import NpySource
from cgbench.ingest.preprocess import preprocess_npy
from cgbench.progress import Progress, silent
from cgbench.registry import system
from cgbench.store.manifest import Manifest

SAMPLE: Final = "chignolin-sample"

DESCRIPTION: Final = (
    "All-atom molecular dynamics of CLN025 made for this project: OpenMM 8.6.1, Amber ff99SB-ILDN "
    "with OBC implicit solvent, 350 K, Langevin middle integrator with friction 0.1/ps and 4 fs "
    "steps; 105 adaptively started trajectories of 0.5 ns, so starting frames are not Boltzmann "
    "distributed."
)


def build_sample_store(
    raw: Path, out: Path, *, workers: int = 1, progress: Progress = silent
) -> Manifest:
    """Make the store of ``chignolin-sample`` from its raw folder.

    Args:
        raw: Folder with ``chignolin_ca_coords.npy``, the two force files, the bead types and
            ``trajectories.json``.
        out: Folder of the store.
        workers: Threads that read and screen.
        progress: Called with frames done.

    Raises:
        ValidationError: ``trajectories.json`` has no list of start kinds, or the data are not of
            this system.
    """
    index = raw / "trajectories.json"
    data = read_data(index)
    start_kind = data.get("started_from") if isinstance(data, dict) else None
    if not isinstance(start_kind, list):
        raise ValidationError(f"{index}: no list of start kinds", expected='"started_from": [...]')
    source = NpySource(
        raw / "chignolin_ca_coords.npy",
        {
            "slice": raw / "chignolin_ca_forces.npy",
            "optimal": raw / "chignolin_ca_forces_optimal.npy",
        },
        raw / "chignolin_ca_embeddings.npy",
        index,
    )
    return preprocess_npy(
        system(SAMPLE),
        source,
        out,
        start_kind=tuple(str(kind) for kind in start_kind),
        description=DESCRIPTION,
        workers=workers,
        progress=progress,
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise UsageError("usage: python -m cgbench.ingest.sample RAW_FOLDER STORE")
    sys.stdout.write(build_sample_store(Path(sys.argv[1]), Path(sys.argv[2])).fingerprint + "\n")
