"""What is measured of every frame, once; everything else is sums over these numbers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.evaluate.msm import assign
from cgbench.evaluate.tica import FrameSequence, TicaModel
from cgbench.progress import Progress, silent

if TYPE_CHECKING:
    from cgbench.evaluate.reference_bundle import ReferenceBundle

#: Bytes of pair distances (float64) that are held at once.
_CHUNK_BYTES: Final = 32 * 1024 * 1024
#: Coordinates beyond this many Å are not of a molecule, and their squares overflow float32.
_LARGEST_COORDINATE: Final = 1e6


@dataclass(frozen=True)
class ObservableDefinition:
    """What the numbers refer to.

    Attributes:
        native: (n_beads, 3) float32 native conformer in Å.
        tica: Projection of the pair distances.
        centres: (n_microstates, dimensions) float64 microstate centres in the projection.
    """

    native: NDArray[np.float32]
    tica: TicaModel
    centres: NDArray[np.float64]


@dataclass(frozen=True)
class Observables:
    """Per-frame numbers of a set of trajectories, one after the other.

    Attributes:
        trajectory: (n,) int32 trajectory of each frame.
        microstate: (n,) int32 nearest microstate of the reference.
        tics: (n, dimensions) float32 projection on the reference's slow coordinates.
        rg: (n,) float32 radius of gyration in Å.
        end_to_end: (n,) float32 distance between the first and the last bead in Å.
        q: (n,) float32 fraction of native contacts.
        rmsd: (n,) float32 root mean square deviation from the native conformer in Å.
        dihedrals: (n, n_beads − 3) float32 dihedral angles in radians, IUPAC convention.
        alive: (n,) bool; frames that are not have the native conformer's numbers.
        n_trajectories: Number of trajectories, also of those without frames.
    """

    trajectory: NDArray[np.int32]
    microstate: NDArray[np.int32]
    tics: NDArray[np.float32]
    rg: NDArray[np.float32]
    end_to_end: NDArray[np.float32]
    q: NDArray[np.float32]
    rmsd: NDArray[np.float32]
    dihedrals: NDArray[np.float32]
    alive: NDArray[np.bool_]
    n_trajectories: int

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return len(self.trajectory)

    def select(self, trajectories: Sequence[int]) -> "Observables":
        """Return some trajectories, numbered anew in the given order.

        Args:
            trajectories: Indices; one given twice becomes two trajectories.

        Raises:
            ValidationError: An index is out of range.
        """
        chosen = np.asarray(trajectories, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < self.n_trajectories):
            raise ValidationError(
                "a trajectory index is out of range",
                expected=f"0 to {self.n_trajectories - 1}",
                found=f"{chosen.min()} to {chosen.max()}",
            )
        order = np.argsort(self.trajectory, kind="stable")
        bounds = np.searchsorted(self.trajectory, np.arange(self.n_trajectories + 1), sorter=order)
        parts = [order[bounds[index] : bounds[index + 1]] for index in chosen]
        frames = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
        lengths = [len(part) for part in parts]
        return Observables(
            trajectory=np.repeat(np.arange(len(chosen), dtype=np.int32), lengths),
            microstate=self.microstate[frames],
            tics=self.tics[frames],
            rg=self.rg[frames],
            end_to_end=self.end_to_end[frames],
            q=self.q[frames],
            rmsd=self.rmsd[frames],
            dihedrals=self.dihedrals[frames],
            alive=self.alive[frames],
            n_trajectories=len(chosen),
        )


def handedness(
    dihedrals: NDArray[np.float32], native_dihedrals: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the fraction of Cα dihedrals that have the native one's sign, (n,).

    A mirror image has the native distances and contacts but the opposite sign of every dihedral.
    Dihedrals that are flat in the native structure, within 20° of 0° or 180°, are left out, since
    fluctuations change their sign.

    Args:
        dihedrals: (n, n_beads − 3) in radians.
        native_dihedrals: (n_beads − 3,) of the native conformer.

    Returns:
        Ones when every native dihedral is flat.
    """
    turned = np.abs(np.sin(native_dihedrals)) > np.sin(np.radians(20.0))
    if not turned.any():
        return np.ones(len(dihedrals), dtype=np.float32)
    same = (dihedrals[:, turned] >= 0) == (native_dihedrals[turned] >= 0)
    return np.asarray(same.mean(axis=1), dtype=np.float32)


def chunk_frames(n_beads: int) -> int:
    """Return how many frames of a chain are worked on at once."""
    n_pairs = n_beads * (n_beads - 1) // 2
    return max(64, _CHUNK_BYTES // (8 * n_pairs))


def usable_frames(
    block: NDArray[Any], native: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Replace frames that are not finite, or absurdly far away, by the native conformer.

    Args:
        block: (n, n_beads, 3) coordinates.
        native: (n_beads, 3) native conformer.

    Returns:
        The coordinates float32 and the mask (n,) of the frames that were kept.
    """
    # A comparison with NaN is false, so NaN is caught as well.
    kept = (np.abs(block) < _LARGEST_COORDINATE).all(axis=(1, 2))
    coordinates = np.asarray(block, dtype=np.float32)
    if not kept.all():
        coordinates = np.where(kept[:, None, None], coordinates, native)
    return coordinates, kept


def _walk(
    trajectories: Sequence[FrameSequence], n_beads: int, task: str, progress: Progress
) -> Iterator[tuple[int, int, slice, NDArray[Any]]]:
    """Yield trajectory, first frame within it, place among all frames and the coordinates."""
    total = sum(len(trajectory) for trajectory in trajectories)
    step = chunk_frames(n_beads)
    first = 0
    for index, trajectory in enumerate(trajectories):
        for start in range(0, len(trajectory), step):
            block = np.asarray(trajectory[start : start + step])
            if block.ndim != 3 or block.shape[1:] != (n_beads, 3):
                raise ValidationError(
                    f"trajectory {index} has the wrong shape",
                    expected=f"(n_frames, {n_beads}, 3)",
                    found=block.shape,
                )
            yield index, start, slice(first + start, first + start + len(block)), block
            progress(task, first + start + len(block), total)
        first += len(trajectory)


def measure(
    definition: ObservableDefinition,
    trajectories: Sequence[FrameSequence],
    alive_until: Sequence[int] | NDArray[np.integer] | None = None,
    progress: Progress = silent,
    task: str = "observables",
) -> Observables:
    """Measure every frame, chunk by chunk; memory is bounded by the result and one chunk.

    Args:
        definition: Native conformer, projection and microstates.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        alive_until: First bad frame of each trajectory; None when all are good.
        progress: Told after each chunk.
        task: The name that progress is told.

    Returns:
        One entry per frame. Frames that are not finite, and those from ``alive_until`` on, are
        not alive and hold the native conformer's numbers.

    Raises:
        ValidationError: A trajectory has the wrong shape, or ``alive_until`` the wrong length.
    """
    n_beads = len(definition.native)
    lengths = [len(trajectory) for trajectory in trajectories]
    if alive_until is not None and len(alive_until) != len(trajectories):
        raise ValidationError(
            "alive_until does not fit the trajectories",
            expected=len(trajectories),
            found=len(alive_until),
        )
    total = sum(lengths)
    result = Observables(
        trajectory=np.repeat(np.arange(len(trajectories), dtype=np.int32), lengths),
        microstate=np.empty(total, dtype=np.int32),
        tics=np.empty((total, definition.tica.dimensions), dtype=np.float32),
        rg=np.empty(total, dtype=np.float32),
        end_to_end=np.empty(total, dtype=np.float32),
        q=np.empty(total, dtype=np.float32),
        rmsd=np.empty(total, dtype=np.float32),
        dihedrals=np.empty((total, max(n_beads - 3, 0)), dtype=np.float32),
        alive=np.empty(total, dtype=bool),
        n_trajectories=len(trajectories),
    )
    for index, start, place, block in _walk(trajectories, n_beads, task, progress):
        good = np.ones(len(block), dtype=bool)
        if alive_until is not None:
            good[max(0, int(alive_until[index]) - start) :] = False
            block = np.where(good[:, None, None], block, definition.native)
        coordinates, finite = usable_frames(block, definition.native)
        result.alive[place] = good & finite
        result.tics[place] = definition.tica.transform(geometry.pair_distances(coordinates))
        result.microstate[place] = assign(result.tics[place], definition.centres)[0]
        result.rg[place] = geometry.radius_of_gyration(coordinates)
        result.end_to_end[place] = geometry.end_to_end(coordinates)
        result.q[place] = geometry.q_native(coordinates, definition.native)
        result.rmsd[place] = geometry.rmsd(coordinates, definition.native)
        result.dihedrals[place] = geometry.dihedrals(coordinates)
    return result


def observe(
    bundle: "ReferenceBundle",
    trajectories: Sequence[FrameSequence],
    alive_until: Sequence[int] | NDArray[np.integer] | None = None,
    progress: Progress = silent,
) -> Observables:
    """Measure an ensemble against a reference bundle.

    Args:
        bundle: The reference.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        alive_until: First bad frame of each trajectory; None when all are good.
        progress: Told after each chunk.

    Raises:
        ValidationError: As :func:`measure`.
    """
    return measure(bundle.definition, trajectories, alive_until, progress)
