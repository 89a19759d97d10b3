"""Simulated trajectories as xtc files with a topology for mdtraj and VMD."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.config import write_atomic
from cgbench.progress import Progress, silent
from cgbench.store import read_trajectories
from cgbench.units import ANGSTROM_PER_NANOMETRE


@dataclass(frozen=True)
class ExportedFiles:
    """Files of one system.

    Attributes:
        pdb: First frame, with the bonds of the chain as CONECT records.
        psf: Atoms and bonds, which VMD does not take from a pdb file.
        trajectories: One xtc for each trajectory that has a frame to show, by its index.
    """

    pdb: Path
    psf: Path
    trajectories: dict[int, Path]


def export_xtc(
    path: Path,
    out: Path,
    *,
    system: str | None = None,
    include_dead: bool = False,
    progress: Progress = silent,
) -> ExportedFiles:
    """Write one xtc per trajectory, and a pdb and a psf of the chain.

    Positions are rounded to 0.01 Å, the precision of xtc files. Trajectories without a frame to
    show, because their first one is bad already, get no file.

    Args:
        path: A ``trajectories.zarr``.
        out: Folder to write to; files of the same name are replaced.
        system: Which system; may be left out where there is only one.
        include_dead: Also export the frames of a replica from its first bad one on.
        progress: Called for each trajectory.

    Raises:
        UsageError: There is no such file or system.
        IntegrityError: The file is damaged.
    """
    import mdtraj

    found = read_trajectories(path, system)
    key, sequence = found.system, found.sequence
    out.mkdir(parents=True, exist_ok=True)
    shown = {
        index: coordinates if include_dead else coordinates[:alive]
        for index, (coordinates, alive) in enumerate(
            zip(found.coordinates, found.alive_until, strict=True)
        )
    }
    shown = {index: coordinates for index, coordinates in shown.items() if len(coordinates)}
    pictured = next(iter(shown.values()), None)
    first = np.zeros((len(sequence), 3)) if pictured is None else pictured[0]
    files = ExportedFiles(
        out / f"{key}.pdb",
        out / f"{key}.psf",
        {index: out / f"{key}_{index:04d}.xtc" for index in shown},
    )
    write_atomic(files.pdb, pdb_text(sequence, first))
    write_atomic(files.psf, psf_text(sequence))
    topology = mdtraj.load_psf(str(files.psf))
    interval = found.frame_interval or 1.0
    for done, (index, coordinates) in enumerate(shown.items(), start=1):
        mdtraj.Trajectory(
            coordinates / ANGSTROM_PER_NANOMETRE,
            topology,
            time=interval * np.arange(1, len(coordinates) + 1),
        ).save_xtc(str(files.trajectories[index]))
        progress(f"export {key}", done, len(shown))
    return files


def pdb_text(sequence: str, coordinates: NDArray[np.floating]) -> str:
    """Return a pdb file of one Cα bead per residue with the chain's bonds as CONECT records.

    Args:
        sequence: One letter per bead.
        coordinates: (n_beads, 3) in Å.
    """
    lines = ["REMARK   C-alpha beads; bonds join neighbours along the chain"]
    residues = _residue_names(sequence)
    for serial, (residue, (x, y, z)) in enumerate(zip(residues, coordinates, strict=True), 1):
        lines.append(
            f"ATOM  {serial:5d}  CA  {residue:>3s} A{serial:4d}    "
            f"{x:8.3f}{y:8.3f}{z:8.3f}{1.0:6.2f}{0.0:6.2f}           C"
        )
    n_beads = len(sequence)
    lines.append(f"TER   {n_beads + 1:5d}      {residues[-1]:>3s} A{n_beads:4d}")
    for serial in range(1, n_beads + 1):
        bonded = [other for other in (serial - 1, serial + 1) if 1 <= other <= n_beads]
        if bonded:
            lines.append(f"CONECT{serial:5d}" + "".join(f"{other:5d}" for other in bonded))
    return "\n".join([*lines, "END", ""])


def psf_text(sequence: str) -> str:
    """Return a psf file of one Cα bead per residue with the chain's bonds.

    Args:
        sequence: One letter per bead.
    """
    vocabulary = registry.bead_vocabulary()
    types = [vocabulary.psf_types[number] for number in vocabulary.types(sequence)]
    mass = registry.constants().bead_mass
    n_beads = len(sequence)
    lines = ["PSF", "", f"{1:8d} !NTITLE", " REMARKS C-alpha beads", "", f"{n_beads:8d} !NATOM"]
    for serial, (residue, kind) in enumerate(
        zip(_residue_names(sequence), types, strict=True), start=1
    ):
        lines.append(
            f"{serial:8d} {'A':4s} {serial:<4d} {residue:4s} {'CA':4s} {kind:4s} "
            f"{0.0:10.6f}    {mass:10.4f}  {0:10d}"
        )
    indices = [index for first in range(1, n_beads) for index in (first, first + 1)]
    lines += ["", f"{n_beads - 1:8d} !NBOND: bonds"]
    lines += [
        "".join(f"{index:8d}" for index in indices[start : start + 8])
        for start in range(0, len(indices), 8)
    ]
    # Readers look for these sections even where they are empty.
    for title in ("NTHETA: angles", "NPHI: dihedrals", "NIMPHI: impropers"):
        lines += ["", f"{0:8d} !{title}", ""]
    return "\n".join([*lines, ""])


def _residue_names(sequence: str) -> list[str]:
    names = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    return [names[letter] for letter in sequence]
