"""Statistics: what is counted or summed of every frame, and the frames that they are made from.

A statistic turns frames into bins or numbers. The harness adds them up by trajectory and
microstate, so that sums of parts are sums of the whole and every resample is a weighted sum of
the same counts. The reference's side is measured by the same code on the frames that a bundle
keeps.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.evaluate.msm import assign
from cgbench.evaluate.tica import TicaModel

if TYPE_CHECKING:
    from cgbench.evaluate.reference_bundle import Basins

#: Dihedrals within this angle of 0° or 180° in the native structure have no hand.
FLAT_DIHEDRAL: Final = 20.0


@dataclass(frozen=True)
class ObservableDefinition:
    """What the numbers of a frame refer to.

    Attributes:
        native: (n_beads, 3) float32 native conformer in Å.
        tica: Projection of the pair distances.
        centres: (n_microstates, dimensions) float64 microstate centres in the projection.
    """

    native: NDArray[np.float32]
    tica: TicaModel
    centres: NDArray[np.float64]

    @property
    def n_beads(self) -> int:
        """Number of beads of the chain."""
        return len(self.native)

    @cached_property
    def native_dihedrals(self) -> NDArray[np.float32]:
        """(n_beads − 3,) dihedral angles of the native conformer in radians."""
        angles: NDArray[np.float32] = geometry.dihedrals(self.native[None])[0].astype(np.float32)
        return angles

    @cached_property
    def native_contacts(self) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Pairs (n_contacts, 2) in native contact and their native distances (n_contacts,) in Å."""
        return geometry.native_contacts(self.native)


@dataclass(frozen=True)
class Definition(ObservableDefinition):
    """The frozen facts of a reference bundle that statistics and metrics refer to.

    Attributes:
        macrostate: (n_microstates,) int64 macrostate of each microstate.
        edges: Bin edges (n_bins + 1,) by observable: ``rg``, ``end_to_end``, ``rmsd``, ``q``,
            ``dihedral`` and ``tic1`` to the last.
        fes_edges: (2, n_bins + 1) edges of the grid over the first two slow coordinates.
        basins: What folded and unfolded mean.
        outside_distance: Frames further than this from every microstate centre are outside.
        temperature: In K.
    """

    macrostate: NDArray[np.int64]
    edges: dict[str, NDArray[np.float64]]
    fes_edges: NDArray[np.float64]
    basins: "Basins"
    outside_distance: float
    temperature: float

    @property
    def n_microstates(self) -> int:
        """Number of microstates."""
        return len(self.centres)

    @property
    def n_macrostates(self) -> int:
        """Number of macrostates."""
        return int(self.macrostate.max()) + 1


class Frames:
    """A chunk of frames with everything that statistics ask of it, computed once and on demand.

    Every attribute has one row a frame. Coordinates are finite: frames that are not never come
    here.

    Args:
        coordinates: (n, n_beads, 3) float32 in Å.
        definition: What the numbers refer to.

    Raises:
        ValidationError: The chain has another length than the definition's.
    """

    def __init__(self, coordinates: NDArray[np.float32], definition: ObservableDefinition) -> None:
        if coordinates.shape[1:] != definition.native.shape:
            raise ValidationError(
                "frames have the wrong shape",
                expected=("n_frames", *definition.native.shape),
                found=coordinates.shape,
            )
        self.coordinates = coordinates
        self.definition = definition

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.coordinates)

    @cached_property
    def distances(self) -> NDArray[np.float32]:
        """(n, n_pairs) distances of all pairs in the order of ``geometry.pair_indices``, Å."""
        return geometry.pair_distances(self.coordinates)

    @cached_property
    def bonds(self) -> NDArray[np.float32]:
        """(n, n_beads − 1) bond lengths in Å."""
        return geometry.bond_lengths(self.coordinates)

    @cached_property
    def angles(self) -> NDArray[np.float32]:
        """(n, n_beads − 2) bond angles in radians."""
        return geometry.bond_angles(self.coordinates).astype(np.float32)

    @cached_property
    def dihedrals(self) -> NDArray[np.float32]:
        """(n, n_beads − 3) dihedral angles in radians, IUPAC convention."""
        return geometry.dihedrals(self.coordinates).astype(np.float32)

    @cached_property
    def tics(self) -> NDArray[np.float32]:
        """(n, dimensions) projection on the reference's slow coordinates."""
        return self.definition.tica.transform(self.distances)

    @cached_property
    def _assigned(self) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        return assign(self.tics, self.definition.centres)

    @property
    def microstate(self) -> NDArray[np.int32]:
        """(n,) nearest microstate of the reference."""
        return self._assigned[0]

    @property
    def centre_distance(self) -> NDArray[np.float32]:
        """(n,) distance to the centre of the nearest microstate, in the projection."""
        return self._assigned[1]

    @cached_property
    def rg(self) -> NDArray[np.float32]:
        """(n,) radius of gyration in Å."""
        return geometry.radius_of_gyration(self.coordinates).astype(np.float32)

    @cached_property
    def end_to_end(self) -> NDArray[np.float32]:
        """(n,) distance between the first and the last bead in Å."""
        return geometry.end_to_end(self.coordinates).astype(np.float32)

    @cached_property
    def q(self) -> NDArray[np.float32]:
        """(n,) fraction of native contacts."""
        return geometry.q_native(self.coordinates, self.definition.native).astype(np.float32)

    @cached_property
    def rmsd(self) -> NDArray[np.float32]:
        """(n,) RMSD from the native conformer in Å."""
        return geometry.rmsd(self.coordinates, self.definition.native).astype(np.float32)

    @cached_property
    def handedness(self) -> NDArray[np.float32]:
        """(n,) share of the dihedrals that have the native one's sign; see :func:`handedness`."""
        return handedness(self.coordinates, self.definition.native_dihedrals)


@dataclass(frozen=True)
class Statistic:
    """What is counted or summed of every frame.

    Attributes:
        name: Key in ``Distributions.masses`` or ``Distributions.means``.
        version: Grows when the definition changes.
        frames: ``all`` frames of a model, or the seeded ``subset`` of them. Of the reference it
            is the subset that the bundle keeps in either case.
        kind: ``bins`` counts frames in bins, ``sums`` adds numbers.
        n_columns: Number of bins, or of numbers, under a definition.
        measure: For ``bins``, (n, k) integers: the column that each of a frame's k counts falls
            into, −1 for none. For ``sums``, (n, n_columns) float64.
    """

    name: str
    version: int
    frames: Literal["all", "subset"]
    kind: Literal["bins", "sums"]
    n_columns: Callable[[Definition], int]
    measure: Callable[[Frames, Definition], NDArray[Any]]

    def measured(self, frames: Frames, definition: Definition) -> NDArray[Any]:
        """Measure frames and check what came of it.

        Raises:
            ValidationError: The result has the wrong shape, a bin that does not exist, or numbers
                that are not finite.
        """
        found = np.asarray(self.measure(frames, definition))
        width = self.n_columns(definition)
        if self.kind == "sums":
            if found.shape != (len(frames), width) or not np.isfinite(found).all():
                raise ValidationError(
                    f"statistic {self.name}: the sums cannot be used",
                    expected=f"({len(frames)}, {width}) finite numbers",
                    found=found.shape,
                )
            return found.astype(np.float64, copy=False)
        if found.ndim != 2 or len(found) != len(frames) or found.dtype.kind not in "iu":
            raise ValidationError(
                f"statistic {self.name}: the bins cannot be used",
                expected=f"({len(frames)}, k) whole numbers",
                found=f"shape {found.shape}, type {found.dtype}",
            )
        if found.size and not (found.min() >= -1 and found.max() < width):
            raise ValidationError(
                f"statistic {self.name}: a bin is out of range",
                expected=f"-1 to {width - 1}",
                found=f"{found.min()} to {found.max()}",
            )
        return found


def handedness(
    coordinates: NDArray[Any], native_dihedrals: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the fraction of Cα dihedrals that have the native one's sign, (n,).

    A mirror image has the native distances and contacts but the opposite sign of every dihedral.
    Dihedrals that are flat in the native structure, within 20° of 0° or 180°, are left out, since
    fluctuations change their sign. The sign of a dihedral is that of the triple product of its
    three bonds.

    Args:
        coordinates: (n, n_beads, 3) in Å.
        native_dihedrals: (n_beads − 3,) of the native conformer in radians.

    Returns:
        Ones when every native dihedral is flat.
    """
    turned = np.flatnonzero(np.abs(np.sin(native_dihedrals)) > np.sin(np.radians(FLAT_DIHEDRAL)))
    if not len(turned):
        return np.ones(len(coordinates), dtype=np.float32)
    bonds = np.diff(np.asarray(coordinates, dtype=np.float64), axis=1)
    normals = np.cross(bonds[:, turned], bonds[:, turned + 1])
    triple = np.einsum("nbx,nbx->nb", normals, bonds[:, turned + 2])
    same = (triple >= 0) == (native_dihedrals[turned] >= 0)
    return np.asarray(same.mean(axis=1), dtype=np.float32)
