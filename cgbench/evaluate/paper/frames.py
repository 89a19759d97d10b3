"""The frames that the analysis of the reference work uses, projected."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate import geometry
from cgbench.evaluate.ensemble import Ensemble
from cgbench.evaluate.frame_choice import gather_frames
from cgbench.evaluate.reference_bundle import ReferenceBundle
from cgbench.progress import Progress, silent

#: Bytes of pair distances (float32) that are held at once.
_CHUNK_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True)
class PaperFrames:
    """Frames of all trajectories, one trajectory after the other.

    Trajectories are in an order that their content decides, so that nothing depends on the order
    in which they were given; ``given`` leads back to that one.

    Attributes:
        trajectory: (n,) int64 trajectory of each frame.
        place: (n,) int64 its place within the trajectory as it was given.
        tics: (n, components) float32 projection on the reference's slow coordinates.
        rmsd: (n,) float32 Cα RMSD to the native structure in Å.
        q: (n,) float32 fraction of native contacts.
        network_energy: (n,) float64 kcal/mol, or None.
        given: (n_trajectories,) index of each trajectory in the given order.
        started_unfolded: (n_trajectories,) whether the very first frame is unfolded.
        frame_interval: Time between these frames in ps.
        stride: Every how many-th frame of the trajectories they are.
    """

    trajectory: NDArray[np.int64]
    place: NDArray[np.int64]
    tics: NDArray[np.float32]
    rmsd: NDArray[np.float32]
    q: NDArray[np.float32]
    network_energy: NDArray[np.float64] | None
    given: NDArray[np.int64]
    started_unfolded: NDArray[np.bool_]
    frame_interval: float
    stride: int

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories, also of those without frames."""
        return len(self.given)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.trajectory)

    @property
    def bounds(self) -> NDArray[np.int64]:
        """(n_trajectories + 1,) first frame of each trajectory, and the end."""
        return np.searchsorted(self.trajectory, np.arange(self.n_trajectories + 1))


def stride_of(wanted: float, frame_interval: float) -> tuple[int, str | None]:
    """Return every how many-th frame is used, and a note where the spacing is not as wanted.

    Args:
        wanted: Time between frames in ps, as in the reference work.
        frame_interval: Time between frames in ps, as they are.
    """
    stride = max(1, round(wanted / frame_interval))
    if abs(stride * frame_interval - wanted) <= 1e-6 * wanted:
        if stride == 1:
            return 1, None
        return stride, (
            f"One frame of {stride} is used: they lie {frame_interval:g} ps apart, those of the "
            f"reference work {wanted:g} ps."
        )
    return 1, (
        f"Frames lie {frame_interval:g} ps apart, those of the reference work {wanted:g} ps; all "
        "of them are used."
    )


def project(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    *,
    components: int,
    stride: int,
    drop_fraction: float,
    progress: Progress = silent,
) -> PaperFrames:
    """Project the living frames after the dropped start, every ``stride``-th of them.

    Args:
        ensemble: Trajectories in time order, whole.
        bundle: The reference, whose projection is used.
        components: Slow coordinates to keep.
        stride: Every how many-th frame is used.
        drop_fraction: Share of each trajectory's start that is dropped.
        progress: Told after each trajectory.
    """
    kept = ensemble.kept(drop_fraction)
    first = ensemble.lengths - kept.lengths
    parts = []
    for index, trajectory in enumerate(kept.trajectories):
        frames = trajectory[: int(kept.alive_until[index]) : stride]
        parts.append(_measured(frames, bundle, components))
        progress(f"projection of {ensemble.name}", index + 1, len(kept.trajectories))
    order = np.array(
        sorted(range(len(parts)), key=lambda index: _digest(parts[index])), dtype=np.int64
    )
    lengths = [len(parts[index][1]) for index in order]
    energy = None
    if kept.network_energy is not None:
        energies = [
            kept.network_energy[index][: int(kept.alive_until[index]) : stride] for index in order
        ]
        energy = np.concatenate([np.zeros(0), *energies]).astype(np.float64)
    # An ensemble without trajectories has arrays without frames.
    nothing = _measured(np.empty((0, *bundle.native.shape), dtype=np.float32), bundle, components)
    tics, rmsd, q = (
        np.concatenate([nothing[column], *(parts[index][column] for index in order)])
        for column in range(3)
    )
    return PaperFrames(
        trajectory=np.repeat(np.arange(len(order)), lengths),
        place=np.concatenate(
            [
                np.zeros(0, dtype=np.int64),
                *(
                    first[index] + stride * np.arange(length)
                    for index, length in zip(order, lengths, strict=True)
                ),
            ]
        ),
        tics=tics,
        rmsd=rmsd,
        q=q,
        network_energy=energy,
        given=order,
        started_unfolded=_started_unfolded(ensemble, bundle)[order],
        frame_interval=float(ensemble.frame_interval or 0.0) * stride,
        stride=stride,
    )


def _measured(
    frames: NDArray[Any], bundle: ReferenceBundle, components: int
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    n_beads = len(bundle.native)
    step = max(64, _CHUNK_BYTES // (2 * n_beads * n_beads))
    tics = np.empty((len(frames), components), dtype=np.float32)
    rmsd = np.empty(len(frames), dtype=np.float32)
    q = np.empty(len(frames), dtype=np.float32)
    for start in range(0, len(frames), step):
        rows = slice(start, start + step)
        block = np.ascontiguousarray(frames[rows])
        distances = geometry.pair_distances(block)
        tics[rows] = bundle.tica.transform(distances)[:, :components]
        rmsd[rows] = geometry.rmsd(block, bundle.native)
        q[rows] = geometry.q_native(block, bundle.native)
    return tics, rmsd, q


def _digest(part: Sequence[NDArray[np.float32]]) -> bytes:
    """Return a hash of a trajectory's numbers, by which trajectories are put in order."""
    found = hashlib.sha256()
    for values in part:
        found.update(np.ascontiguousarray(values).tobytes())
    return found.digest()


def _started_unfolded(ensemble: Ensemble, bundle: ReferenceBundle) -> NDArray[np.bool_]:
    limit = registry.constants().unfolded_q
    unfolded = np.zeros(ensemble.n_trajectories, dtype=bool)
    for index, trajectory in enumerate(ensemble.trajectories):
        if ensemble.alive_until[index] > 0:
            first = np.ascontiguousarray(trajectory[:1])
            unfolded[index] = float(geometry.q_native(first, bundle.native)[0]) < limit
    return unfolded


def gather(
    ensemble: Ensemble, frames: PaperFrames, chosen: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return the coordinates of some frames, (n_chosen, n_beads, 3) in Å.

    Args:
        ensemble: The trajectories that the frames are of, whole.
        frames: The frames.
        chosen: (n_chosen,) which of them.
    """
    starts = np.cumsum(ensemble.lengths) - ensemble.lengths
    owners = frames.given[frames.trajectory[chosen]]
    return gather_frames(ensemble.trajectories, starts[owners] + frames.place[chosen])
