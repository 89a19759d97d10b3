"""Backbones of whole ensembles, from files to files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from cgbench.config import Frozen, whole_file
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.backmap.backbone import backbone
from cgbench.evaluate.backmap.pdb import pdb_model
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.progress import Progress, silent

#: The format numbers models with four digits.
MOST_MODELS: Final = 9999
_FRAMES_AT_ONCE: Final = 256


class Backmapped(Frozen):
    """What was written for one ensemble.

    Attributes:
        source: The file or folder that was read.
        system: Registry key.
        file: The pdb file that was written.
        n_frames: Frames of the ensemble, those lost included.
        n_intact: Frames whose chain is intact, which are the ones to choose from.
        n_models: Models that were written: intact frames in their order, evenly spaced.
    """

    source: str
    system: str
    file: str
    n_frames: int
    n_intact: int
    n_models: int


def backmap_files(
    paths: Sequence[Path],
    out: Path,
    *,
    system: str | None = None,
    topology: Path | None = None,
    most: int = 1000,
    with_beta: bool = False,
    force: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> list[Backmapped]:
    """Read ensembles of Cα or of all atoms and write their backbones, one pdb file a system.

    Args:
        paths: Files or folders of any format that `cgbench evaluate --ensemble` reads.
        out: Folder for ``<name>-<system>.pdb``; made where it is missing.
        system: What is in the files, where their sequence does not tell.
        topology: Topology of xtc, dcd and npy files.
        most: Most models in a file; more frames are thinned evenly.
        with_beta: Whether Cβ are written.
        force: Whether files that are there are written again.
        workers: Threads.
        progress: Told how far each ensemble is.

    Raises:
        UsageError: A file cannot be told or read, would be written over, or ``most`` is out of
            range.
        IntegrityError: A file is damaged.
        ValidationError: The beads are not those of a system, or no frame is whole.
    """
    from cgbench.evaluate.ensemble_files import EnsembleFiles

    if not 1 <= most <= MOST_MODELS:
        raise UsageError(
            "a pdb file cannot hold so many models", expected=f"1 to {MOST_MODELS}", found=most
        )
    inputs = [
        (path, EnsembleFiles(path, [system] if system else None, topology=topology))
        for path in paths
    ]
    planned = [
        (path, files, key, out / f"{_stem(path)}-{key}.pdb")
        for path, files in inputs
        for key in files.systems
    ]
    targets = [target for *_, target in planned]
    for target in targets:
        if targets.count(target) > 1:
            raise UsageError(
                f"{target}: two of the files would be written to it",
                fix="give them one at a time, with an --out of their own",
            )
        if target.exists() and not force:
            raise UsageError(f"{target}: is there already", fix="--force writes it again")
    results = []
    for path, files, key, target in planned:
        ensemble = files.read(key, name=str(path))
        results.append(
            backmap_ensemble(
                ensemble, target, most=most, with_beta=with_beta, workers=workers, progress=progress
            ).model_copy(update={"source": str(path)})
        )
    return results


def backmap_ensemble(
    ensemble: Ensemble,
    target: Path,
    *,
    most: int = 1000,
    with_beta: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> Backmapped:
    """Write the backbones of an ensemble's good frames as the models of one pdb file.

    Raises:
        ValidationError: No frame is whole.
    """
    sequence = sequence_of(ensemble.system)
    starts = np.concatenate([[0], np.cumsum(ensemble.lengths)])
    good = np.concatenate(
        [
            start + np.arange(alive)
            for start, alive in zip(starts[:-1], ensemble.alive_until, strict=True)
        ]
    ).astype(np.int64)
    if not len(good):
        raise ValidationError(
            f"{ensemble.name}: no frame is an intact chain",
            expected="finite coordinates and bonds within the registry's limits",
            found=f"{ensemble.n_frames} frames, all bad",
        )
    chosen = good[np.linspace(0, len(good) - 1, min(most, len(good))).round().astype(np.int64)]
    trajectory = np.searchsorted(starts, chosen, side="right") - 1
    task = f"backbone of {ensemble.system}"
    with whole_file(target) as handle:
        handle.write(_header(ensemble, len(chosen)).encode())
        for first in range(0, len(chosen), _FRAMES_AT_ONCE):
            piece = slice(first, first + _FRAMES_AT_ONCE)
            frames = np.stack(
                [
                    ensemble.trajectories[row][frame - starts[row]]
                    for row, frame in zip(trajectory[piece], chosen[piece], strict=True)
                ]
            )
            structures = backbone(frames, sequence, workers=workers)
            for number, structure in enumerate(structures, start=first + 1):
                model = pdb_model(structure, sequence, with_beta=with_beta)
                handle.write(f"MODEL     {number:4d}\n{model}ENDMDL\n".encode())
            progress(task, min(first + _FRAMES_AT_ONCE, len(chosen)), len(chosen))
        handle.write(b"END\n")
    return Backmapped(
        source=ensemble.name,
        system=ensemble.system,
        file=str(target),
        n_frames=ensemble.n_frames,
        n_intact=len(good),
        n_models=len(chosen),
    )


def _header(ensemble: Ensemble, n_models: int) -> str:
    return (
        f"REMARK   6 BACKBONE RECONSTRUCTED FROM CA BY CGBENCH\n"
        f"REMARK   6 {n_models} OF {ensemble.n_frames} FRAMES\n"
    )


def _stem(path: Path) -> str:
    name = path.resolve().name
    return name.split(".")[0] or name.strip(".") or "ensemble"
