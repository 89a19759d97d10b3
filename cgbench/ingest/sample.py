"""How the embedded sample's store is made: ``python -m cgbench.ingest.sample RAW STORE``."""

import sys
from pathlib import Path
from typing import Final

from cgbench.errors import CgbenchError, UsageError
from cgbench.ingest.folder import preprocess_folder
from cgbench.progress import Progress, silent
from cgbench.registry import system
from cgbench.store import Manifest

SAMPLE: Final = "chignolin-sample"
#: The paper-like control and the map that training uses.
FORCE_MAPS: Final = ("slice", "optimal")


def build_sample_store(
    raw: Path, out: Path, *, workers: int = 1, progress: Progress = silent
) -> Manifest:
    """Make the store of ``chignolin-sample`` from its raw folder.

    Args:
        raw: Folder with ``chignolin_ca_coords.npy``, the force files, the bead types and
            ``trajectories.json``.
        out: Folder of the store.
        workers: Threads that read and screen.
        progress: Called with frames done.

    Raises:
        CgbenchError: As :func:`cgbench.ingest.preprocess_folder`.
    """
    return preprocess_folder(
        system(SAMPLE), raw, out, force_maps=FORCE_MAPS, workers=workers, progress=progress
    )


def main(arguments: list[str]) -> int:
    """Make the store named on the command line; return the exit code."""
    try:
        if len(arguments) != 2:
            raise UsageError("two arguments are needed: the raw folder and the store")
        manifest = build_sample_store(Path(arguments[0]), Path(arguments[1]))
    except CgbenchError as error:
        sys.stderr.write(f"{error.message}\n")
        return error.exit_code
    sys.stdout.write(f"{manifest.fingerprint}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
