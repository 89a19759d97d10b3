"""Mean forces at frames of a raw folder: ``cgbench generate --mean-force N``."""

from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.config import read_model
from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps import hydrogens_map
from cgbench.generate.earlier import EarlierSet
from cgbench.generate.folder import TOPOLOGY_NAME, RunFolder
from cgbench.generate.frame_choice import choose_frames, similarity_strata
from cgbench.generate.mean_force import compute_mean_forces
from cgbench.generate.mean_force_set import MeanForceSet, MeanForceSettings
from cgbench.generate.records import Machine
from cgbench.generate.settings import FORCE_FIELDS, GenerationSettings, SystemSettings
from cgbench.generate.structures import read_pdb
from cgbench.generate.system import alpha_carbons, build_system, rigid_groups
from cgbench.progress import Progress, silent

_NATIVE_NAMES: Final = ("native_ca.pdb", "native.pdb")


def mean_forces_of_raw(
    raw: Path,
    n: int,
    out: Path,
    *,
    system: SystemSettings | None = None,
    settings: MeanForceSettings | None = None,
    method: Literal["k-centres", "random"] = "k-centres",
    machine: Machine | None = None,
    hours: float | None = None,
    progress: Progress = silent,
) -> MeanForceSet:
    """Choose frames among the all-atom frames of a raw folder and sample their mean forces.

    Half of the frames are of the native-like half where the folder has a native structure. The
    force map is the folder's optimal one, ``hydrogens`` without it. Frames carry their numbers in
    the folder's arrays, so that a split tells which of them a potential was trained on.

    Args:
        raw: Folder of a run of ``cgbench generate``, or of raw files with ``all_atom_example.npz``.
        n: How many frames.
        out: Folder of the result; an interrupted run goes on there.
        system: The force field; by default that of the run in the folder.
        settings: How to sample; by default at the temperature and step of the run in the folder.
        method: How frames are chosen, see ``choose_frames``.
        machine: On what.
        hours: Begin no frame after this wall time, unless none is finished. The same call goes on.
        progress: Called after each frame.

    Raises:
        UsageError: The folder has no topology or no all-atom frames, fewer than n, was simulated
            in explicit solvent (water is not kept), or no force field is known.
        ValidationError: The all-atom frames are not among the folder's Cα frames.
        SimulationError: Not one frame could be simulated.
    """
    run = _run_settings(raw)
    forces = system or (run.system if run else None)
    if forces is None:
        raise UsageError(
            f"{raw}: does not say which force field it was simulated with", fix="name it"
        )
    if forces.solvent == "explicit":
        raise UsageError(
            "mean forces need the positions of all particles, and frames keep no water",
            found=FORCE_FIELDS[forces.force_field].description,
            fix="use implicit solvent",
        )
    if not (raw / TOPOLOGY_NAME).is_file():
        raise UsageError(f"{raw}: no {TOPOLOGY_NAME}")
    topology = read_pdb(raw / TOPOLOGY_NAME).topology
    frames = EarlierSet(raw, topology)
    pool = frames.pool()
    if n > len(pool.beads):
        raise UsageError(
            f"{raw}: too few all-atom frames", expected=f"at least {n}", found=len(pool.beads)
        )
    chosen_settings = settings or _default_settings(run)
    native = _native(raw)
    strata = None if native is None else similarity_strata(pool.beads, native)
    chosen = choose_frames(pool.beads, n, strata=strata, method=method, seed=chosen_settings.seed)
    numbers = frame_numbers(pool.beads[chosen], frames.bead_positions(), raw)
    positions = np.stack(
        [frames.atoms(int(pool.trajectory[i]), int(pool.frame[i])) for i in chosen]
    )
    known = frames.optimal_map()
    force_map = known or hydrogens_map(alpha_carbons(topology), rigid_groups(topology))
    machine = machine or Machine()
    return compute_mean_forces(
        build_system(topology, forces),
        force_map,
        positions,
        numbers,
        out,
        settings=chosen_settings,
        description=FORCE_FIELDS[forces.force_field].description,
        sequence=run.sequence if run else None,
        platform=machine.platform,
        threads=machine.threads,
        hours=hours,
        progress=progress,
    )


def frame_numbers(
    chosen: NDArray[np.floating[Any]], frames: NDArray[np.floating[Any]], origin: object
) -> NDArray[np.int64]:
    """Return the numbers of some frames among all, found by their coordinates.

    Args:
        chosen: (n, n_beads, 3) Å.
        frames: (n_frames, n_beads, 3) Å.
        origin: Named by the error.

    Raises:
        ValidationError: A frame is not there.
    """
    wanted = np.asarray(chosen, dtype=np.float32)
    # One coordinate leaves few candidates, whose bytes then compare exactly.
    candidates = np.flatnonzero(np.isin(frames[:, 0, 0], wanted[:, 0, 0]))
    known: dict[bytes, int] = {}
    for number in candidates.tolist():
        known.setdefault(np.asarray(frames[number], dtype=np.float32).tobytes(), number)
    found = [known.get(one.tobytes(), -1) for one in wanted]
    if min(found) < 0:
        raise ValidationError(
            f"{origin}: all-atom frames that are not among the Cα frames",
            found=f"{found.count(-1)} of {len(found)}",
        )
    return np.array(found, dtype=np.int64)


def _run_settings(raw: Path) -> GenerationSettings | None:
    path = RunFolder(raw).settings_path
    return read_model(GenerationSettings, path) if path.is_file() else None


def _default_settings(run: GenerationSettings | None) -> MeanForceSettings:
    plain = MeanForceSettings()
    if run is None:
        return plain
    same = {"temperature": run.dynamics.temperature, "timestep": run.dynamics.timestep}
    return plain.model_copy(
        update={"dynamics": plain.dynamics.model_copy(update=same), "seed": run.seed}
    )


def _native(raw: Path) -> NDArray[np.float64] | None:
    """Return the Cα positions (n_beads, 3) of the folder's native structure in Å, if it has one."""
    import mdtraj

    from cgbench.force_maps import bead_atoms
    from cgbench.units import ANGSTROM_PER_NANOMETRE

    for name in _NATIVE_NAMES:
        if (raw / name).is_file():
            structure = mdtraj.load_pdb(str(raw / name))
            beads = structure.xyz[0, bead_atoms(structure.topology)]
            return np.asarray(beads, dtype=np.float64) * ANGSTROM_PER_NANOMETRE
    return None
