"""All-atom dynamics with the beads held: forces that are nearly free of noise.

At fixed beads the mean of the mapped force is the negative gradient of the potential of mean
force, under every consistent force map. Averaging it over a simulation with the beads held gives
that gradient at chosen frames with a known error, against which a potential can be tested without
the noise that hides most of the error on single frames.
"""

import hashlib
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.config import Frozen, fingerprint, read_model, write_model
from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.force_maps import ForceMap, constraint_groups
from cgbench.force_maps.arrays import read_arrays, write_arrays
from cgbench.generate.backend import require
from cgbench.generate.held import hold
from cgbench.generate.mean_force_set import (
    RECORD_NAME,
    FloatArray,
    MeanForceSet,
    MeanForceSettings,
    read_mean_forces,
    write_mean_forces,
)
from cgbench.generate.simulate import Engine
from cgbench.progress import Progress, silent

#: Å that a held atom may move; beyond it the beads are not where the set says.
MAXIMUM_DRIFT: Final = 1e-3

_PLAN_NAME: Final = "plan.json"
_FRAMES_NAME: Final = "frames"


class _Plan(Frozen):
    """Identity of a run: an interrupted one goes on only with the same."""

    plan: str


class _FrameRecord(Frozen):
    """One finished frame: its arrays' hash, or why its simulation failed."""

    arrays_sha256: str | None
    drift: float
    failure: str | None = None


def compute_mean_forces(
    system: Any,
    force_map: ForceMap,
    positions: NDArray[np.floating[Any]],
    frames: Sequence[int] | NDArray[np.integer[Any]],
    out: Path,
    *,
    settings: MeanForceSettings | None = None,
    description: str = "",
    sequence: str | None = None,
    platform: str | None = None,
    threads: int | None = None,
    hours: float | None = None,
    progress: Progress = silent,
) -> MeanForceSet:
    """Sample the mean force on the beads at each of some all-atom frames.

    Each finished frame is written, and an interrupted run goes on where it was. A frame's result
    depends on nothing but its own number, positions and the settings. A frame whose simulation
    diverges is left out and named. Frames are taken in random order, so that what is finished when
    the time is over stands for all.

    Args:
        system: An ``openmm.System`` whose first atoms are those of the map.
        force_map: A map that is consistent with the system's constraints.
        positions: (n_frames, n_particles, 3) Å of the chosen frames, all particles of the system.
        frames: (n_frames,) their numbers, each once.
        out: Folder of the result.
        settings: How to sample.
        description: What is simulated, in words.
        sequence: One-letter sequence.
        platform: Name of an OpenMM platform; the fastest there is for None.
        threads: Threads of the CPU platform; all cores for None.
        hours: Begin no frame after this wall time, unless none is finished. The same call goes on.
        progress: Called after each frame.

    Raises:
        UsageError: OpenMM is missing, or the folder holds another run.
        ValidationError: System, map and frames do not fit, or the map is not consistent.
        SimulationError: Not one frame could be simulated.
    """
    chosen = settings or MeanForceSettings()
    numbers = np.asarray(frames, dtype=np.int64)
    _check(system, force_map, positions, numbers)
    plan = _plan(system, force_map, positions, numbers, chosen)
    finished = _claim(out, plan)
    if finished is not None:
        return finished
    held = hold(system, force_map.sites, chosen.dynamics.temperature)
    began = time.perf_counter()
    records: dict[int, _FrameRecord] = {}
    for index in np.random.default_rng(chosen.seed).permutation(len(numbers)).tolist():
        path = out / _FRAMES_NAME / f"{numbers[index]}.json"
        if not path.is_file():
            if records and hours is not None and time.perf_counter() - began > hours * 3600:
                continue
            _sample_frame(
                held, force_map, positions[index], int(numbers[index]), path, chosen,
                platform, threads,
            )  # fmt: skip
        records[index] = read_model(_FrameRecord, path)
        progress("mean forces", len(records), len(numbers))
    good = [i for i in sorted(records) if records[i].failure is None]
    if not good:
        raise SimulationError(
            f"{out}: not one of {len(records)} frames could be simulated",
            found=next(iter(records.values())).failure,
            fix="check the frames, or take a smaller step",
        )
    parts = [_read_frame(out, int(numbers[i]), records[i]) for i in good]
    arrays = {name: np.stack([part[name] for part in parts]) for name in _FRAME_DTYPES}
    arrays["frames"] = numbers[good]
    arrays["coordinates"] = positions[good][:, force_map.sites]
    failed = [i for i in sorted(records) if records[i].failure is not None]
    pending = [i for i in range(len(numbers)) if i not in records]
    made = write_mean_forces(
        out,
        arrays,
        {
            "description": description,
            "sequence": sequence,
            "settings": chosen,
            "force_map": force_map.name,
            "failed": tuple(numbers[failed].tolist()),
            "pending": tuple(numbers[pending].tolist()),
            "drift": max(records[i].drift for i in good),
            "plan": plan,
        },
    )
    if not pending:
        _tidy(out)
    return made


def _claim(out: Path, plan: str) -> MeanForceSet | None:
    """Take the folder for a run, new or continued; return its result if it is whole."""
    if (out / RECORD_NAME).is_file():
        found = read_mean_forces(out)
        if found.record.plan != plan:
            raise UsageError(
                f"{out}: holds other mean forces", fix=f"remove {out}, or name another folder"
            )
        if not found.record.pending:
            _tidy(out)
            return found
    elif (out / _PLAN_NAME).is_file() and read_model(_Plan, out / _PLAN_NAME).plan != plan:
        raise UsageError(
            f"{out}: holds another run, unfinished",
            fix=f"remove {out}, or finish it with the same frames and settings",
        )
    write_model(out / _PLAN_NAME, _Plan(plan=plan))
    return None


def _tidy(out: Path) -> None:
    """Remove what only an unfinished run needs."""
    shutil.rmtree(out / _FRAMES_NAME, ignore_errors=True)
    (out / _PLAN_NAME).unlink(missing_ok=True)


def combine_blocks(blocks: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the mean of block averages, and two estimates of its standard error.

    Args:
        blocks: (n_copies, n_blocks, …) averages over equally long blocks.

    Returns:
        The mean (…); its standard error from the spread between the means of copies, or, for a
        single copy, between its blocks; and the one from the spread between all blocks.
    """
    n_copies, n_blocks = blocks.shape[:2]
    every = blocks.reshape(n_copies * n_blocks, *blocks.shape[2:])
    mean, between_blocks = every.mean(axis=0), every.std(axis=0, ddof=1) / np.sqrt(len(every))
    if n_copies == 1:
        return mean, between_blocks, between_blocks
    # Copies share nothing but where they start, so their spread holds what is slower than a block.
    between_copies = blocks.mean(axis=1).std(axis=0, ddof=1) / np.sqrt(n_copies)
    return mean, between_copies, between_blocks


_FRAME_DTYPES: Final[dict[str, type[np.generic]]] = {
    "mean_forces": np.float64,
    "standard_errors": np.float64,
    "block_errors": np.float64,
}


def _sample_frame(
    held: Any,
    force_map: ForceMap,
    positions: NDArray[np.floating[Any]],
    number: int,
    path: Path,
    settings: MeanForceSettings,
    platform: str | None,
    threads: int | None,
) -> None:
    """Simulate all copies of one frame and write what they give, or why they failed."""
    streams = np.random.SeedSequence(settings.seed, spawn_key=(number,)).spawn(settings.copies)
    try:
        results = []
        for stream in streams:
            # OpenMM takes seeds from 1 to 2³¹ − 1; 0 would mean a random one.
            seed = int(stream.generate_state(1)[0] % (2**31 - 1)) + 1
            engine = Engine(held, settings.dynamics, seed=seed, platform=platform, threads=threads)
            results.append(_sample_copy(engine, force_map, positions, settings))
    except SimulationError as error:
        write_model(path, _FrameRecord(arrays_sha256=None, drift=0.0, failure=error.message))
        return
    means = combine_blocks(np.stack([blocks for blocks, _ in results]))
    arrays = dict(zip(_FRAME_DTYPES, means, strict=True))
    # The record comes last: a frame without it is not finished.
    digest = write_arrays(path.with_suffix(".npz"), arrays)
    write_model(path, _FrameRecord(arrays_sha256=digest, drift=max(drift for _, drift in results)))


def _sample_copy(
    engine: Engine,
    force_map: ForceMap,
    positions: NDArray[np.floating[Any]],
    settings: MeanForceSettings,
) -> tuple[FloatArray, float]:
    """Return block averages (n_blocks, n_beads, 3), and how far a held atom moved in Å."""
    dynamics, sites = settings.dynamics, force_map.sites
    engine.set_positions(positions)
    if settings.heating_temperature is not None:
        engine.set_temperature(settings.heating_temperature)
        engine.thermalise(settings.heating_temperature)
        engine.step(_steps(settings.heating, dynamics.timestep))
        engine.set_temperature(dynamics.temperature)
    engine.thermalise(dynamics.temperature)
    engine.step(_steps(settings.equilibration, dynamics.timestep))
    blocks = np.empty((settings.blocks, force_map.n_beads, 3))
    drift = 0.0
    for block in blocks:
        samples = np.empty((settings.samples_per_block, force_map.n_atoms, 3))
        for sample in samples:
            engine.step(dynamics.steps_per_frame)
            state = engine.state()
            sample[:] = state.forces[: force_map.n_atoms]
            drift = max(drift, float(np.abs(state.positions[sites] - positions[sites]).max()))
        block[:] = force_map.apply(samples).mean(axis=0, dtype=np.float64)
    if drift > MAXIMUM_DRIFT:
        raise SimulationError(
            "held atoms moved", expected=f"less than {MAXIMUM_DRIFT} Å", found=f"{drift:.2g} Å"
        )
    return blocks, drift


def _steps(time: float, timestep: float) -> int:
    return round(time / timestep)


def _read_frame(out: Path, number: int, record: _FrameRecord) -> dict[str, NDArray[Any]]:
    path = out / _FRAMES_NAME / f"{number}.npz"
    return read_arrays(path, _FRAME_DTYPES, str(record.arrays_sha256))


def _check(
    system: Any,
    force_map: ForceMap,
    positions: NDArray[np.floating[Any]],
    numbers: NDArray[np.int64],
) -> None:
    n_particles, n_atoms = system.getNumParticles(), force_map.n_atoms
    if n_atoms > n_particles:
        raise ValidationError(
            f"force map {force_map.name!r}: of more atoms than the system",
            expected=f"at most {n_particles}",
            found=n_atoms,
        )
    if positions.shape != (len(numbers), n_particles, 3) or not len(numbers):
        raise ValidationError(
            "mean forces: wrong shape of the positions",
            expected=f"({len(numbers)}, {n_particles}, 3), at least one frame",
            found=positions.shape,
        )
    if not np.isfinite(positions).all():
        raise ValidationError("mean forces: positions that are not finite")
    if len(np.unique(numbers)) != len(numbers) or numbers.min() < 0:
        raise ValidationError("mean forces: frames", expected="numbers from 0, each once")
    groups = constraint_groups(system)
    inside, outside = groups[:n_atoms], groups[n_atoms:]
    rigid = ForceMap(force_map.name, force_map.weights, force_map.sites, inside)
    if not rigid.consistent or np.isin(inside, outside).any():
        raise ValidationError(
            f"force map {force_map.name!r}: not consistent with the system's constraints",
            expected="the same weight for atoms that are joined by constraints",
            found=f"weights that differ by {rigid.weight_spread:.2g}",
            fix="use the map 'hydrogens' or 'optimal'",
        )


def _plan(
    system: Any,
    force_map: ForceMap,
    positions: NDArray[np.floating[Any]],
    numbers: NDArray[np.int64],
    settings: MeanForceSettings,
) -> str:
    serialised = require("openmm").XmlSerializer.serialize(system)
    return fingerprint(
        {
            "settings": settings.model_dump(mode="json"),
            "system": hashlib.sha256(serialised.encode()).hexdigest(),
            "map": _digest(force_map.weights, force_map.sites),
            "positions": _digest(positions.astype(np.float64)),
            "frames": numbers.tolist(),
        }
    )


def _digest(*arrays: NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for values in arrays:
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
