"""The files of a replica exchange: segments, weights, raw files and the card."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench import provenance
from cgbench.config import Frozen, read_model, write_atomic, write_model
from cgbench.errors import SimulationError
from cgbench.generate.card import package_versions
from cgbench.generate.exchange import Exchange, ExchangeStatistics, statistics
from cgbench.generate.folder import RunFolder, load_arrays, save_array
from cgbench.generate.mbar import effective_sample_size, temperature_weights
from cgbench.generate.raw_files import RawSummary, RawTrajectory, write_raw
from cgbench.generate.records import Divergence, StartKind
from cgbench.generate.settings import FORCE_FIELDS, GenerationSettings
from cgbench.progress import Progress
from cgbench.units import PICOSECONDS_PER_NANOSECOND


class Segment(Frozen):
    """The record of a finished segment of all replicas.

    Attributes:
        index: Its number.
        attempted: For each round of attempts the lower temperatures of the pairs.
        accepted: Those of them that swapped.
        timestep: Step in ps of the attempt that succeeded.
        divergences: The attempts that failed.
        platform: OpenMM platform.
        wall_time: Seconds.
        sha256: Hash of its arrays.
    """

    index: int
    attempted: tuple[tuple[int, ...], ...]
    accepted: tuple[tuple[int, ...], ...]
    timestep: float
    divergences: tuple[Divergence, ...]
    platform: str
    wall_time: float
    sha256: str


class ExchangeCard(Frozen):
    """What ``generation.json`` of a replica exchange holds.

    Attributes:
        format: Name of this format.
        version: Version of this format.
        settings: What the replicas were made from.
        n_segments: Number of finished segments.
        nanoseconds: Total length of all replicas.
        acceptance: Accepted share of the attempts of each neighbouring pair.
        round_trips: Journeys of each replica up the ladder and down again.
        visited: Number of temperatures that each replica has been at.
        effective_frames: Effective number of frames of the weights at the target temperature.
        divergences: Segments that diverged and were repeated.
        raw: What the raw files hold.
        wall_time: Seconds of all segments.
        packages: Versions of the simulation packages.
        provenance: Versions, machine, seeds and command of the last run.
    """

    format: Literal["cgbench-replica-exchange"] = "cgbench-replica-exchange"
    version: Literal[1] = 1
    settings: GenerationSettings
    n_segments: int
    nanoseconds: float
    acceptance: tuple[float | None, ...]
    round_trips: tuple[int, ...]
    visited: tuple[int, ...]
    effective_frames: float
    divergences: tuple[Divergence, ...]
    raw: RawSummary
    wall_time: float
    packages: dict[str, str]
    provenance: provenance.Provenance


def segment_path(folder: RunFolder, number: int, suffix: str) -> Path:
    """Return the path of a segment's arrays (``.npz``) or record (``.json``)."""
    return folder.path / "segments" / f"{number:06d}{suffix}"


def start_kinds(n_replicas: int, native: bool) -> list[StartKind]:
    """Return what each replica starts from: native structure and coil in turn, if there is one."""
    return ["native" if native and replica % 2 == 0 else "coil" for replica in range(n_replicas)]


def finish_exchange(
    folder: RunFolder,
    settings: GenerationSettings,
    topology: Any,
    n_segments: int,
    progress: Progress,
) -> ExchangeCard:
    """Write energies, states, weights, raw files and the card of a replica exchange.

    Args:
        folder: The run.
        settings: Of the run.
        topology: Topology of the protein.
        n_segments: Number of finished segments.
        progress: Called with trajectories done.

    Raises:
        SimulationError: No segment is finished, or the temperatures do not overlap.
    """
    if n_segments == 0:
        raise SimulationError(f"{folder.path}: no segment is finished")
    segments = [
        read_model(Segment, segment_path(folder, number, ".json")) for number in range(n_segments)
    ]
    energies, states = (
        np.concatenate([_piece(folder, number, name) for number in range(n_segments)], axis=1)
        for name in ("energies", "states")
    )
    save_array(folder.path / "energies.npy", energies)
    save_array(folder.path / "states.npy", states)
    counts = np.bincount(states.ravel(), minlength=len(settings.ladder))
    weights = temperature_weights(
        energies.ravel(), counts, settings.ladder, settings.dynamics.temperature
    )
    save_array(folder.path / "weights.npy", weights)
    raw = write_raw(
        folder.path,
        settings,
        topology,
        _trajectories(folder, settings, n_segments, "native" in folder.starts()[1]),
        progress=progress,
    )
    exchanges = [
        Exchange(np.empty(0, dtype=np.int64), attempted, accepted)
        for segment in segments
        for attempted, accepted in zip(segment.attempted, segment.accepted, strict=True)
    ]
    mixing: ExchangeStatistics = statistics(states, exchanges)
    card = ExchangeCard(
        settings=settings,
        n_segments=n_segments,
        nanoseconds=energies.size * settings.dynamics.frame_interval / PICOSECONDS_PER_NANOSECOND,
        acceptance=tuple(None if np.isnan(one) else one for one in mixing.acceptance),
        round_trips=mixing.round_trips,
        visited=mixing.visited,
        effective_frames=effective_sample_size(weights),
        divergences=tuple(one for segment in segments for one in segment.divergences),
        raw=raw,
        wall_time=sum(one.wall_time for one in segments),
        packages=package_versions(),
        provenance=provenance.collect({"generate": settings.seed}),
    )
    write_atomic(folder.path / "README.md", _text(card))
    write_model(folder.path / "generation.json", card)
    return card


def _piece(folder: RunFolder, number: int, name: str) -> NDArray[Any]:
    return load_arrays(segment_path(folder, number, ".npz"), (name,))[name]


def _trajectories(
    folder: RunFolder, settings: GenerationSettings, n_segments: int, native: bool
) -> list[RawTrajectory]:
    def reader(replica: int) -> Callable[[], Iterator[tuple[NDArray[Any], NDArray[Any]]]]:
        def read() -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
            for number in range(n_segments):
                arrays = load_arrays(
                    segment_path(folder, number, ".npz"), ("bead_positions", "forces")
                )
                yield arrays["bead_positions"][replica], arrays["forces"][replica]

        return read

    return [
        RawTrajectory(kind, n_segments * settings.n_frames, reader(replica), {"replica": replica})
        for replica, kind in enumerate(start_kinds(len(settings.ladder), native))
    ]


def _text(card: ExchangeCard) -> str:
    settings, dynamics = card.settings, card.settings.dynamics
    force_field = FORCE_FIELDS[settings.system.force_field].description
    ladder = ", ".join(f"{one:g}" for one in settings.ladder)
    acceptance = ", ".join("n/a" if one is None else f"{one:.2f}" for one in card.acceptance)
    return f"""# {settings.name}: temperature replica exchange generated with cgbench

Sequence {settings.sequence}. {force_field}, OpenMM {card.packages.get("openmm", "unknown")}, \
friction {dynamics.friction:g}/ps, {1000 * dynamics.timestep:g} fs steps, a frame every \
{dynamics.frame_interval:g} ps, exchanges every {settings.exchange_interval:g} ps.

{len(settings.ladder)} replicas at {ladder} K, {card.nanoseconds:g} ns together. Accepted share of \
neighbouring pairs: {acceptance}. Round trips of the replicas: {sum(card.round_trips)}. Segments \
that diverged and were repeated: {len(card.divergences)}.

Frames are of all temperatures. weights.npy holds the MBAR weights of all frames, replica after \
replica, at {dynamics.temperature:g} K ({card.effective_frames:.0f} effective frames, correlation \
in time not counted); energies.npy and states.npy (replicas, frames) the potential energy in \
kcal/mol and the number of the temperature of each. The forces of a frame have the noise of its \
own temperature.
"""
