"""What a report draws of one row, as plain arrays."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgbench.config import Frozen

Float = NDArray[np.float64]


class MacrostatePopulation(Frozen):
    """One reference macrostate in the reference and in a model.

    Attributes:
        index: Number of the macrostate.
        native: Whether it holds the reference frame of least RMSD.
        reference_population: Weighted share of the reference.
        model_population: Weighted share of the model's living frames.
        reference_rmsd: Weighted mean RMSD in it in Å; None where it is empty.
        model_rmsd: As ``reference_rmsd``.
    """

    index: int
    native: bool
    reference_population: float
    model_population: float
    reference_rmsd: float | None
    model_rmsd: float | None


@dataclass(frozen=True)
class Marginal:
    """The distribution of one observable, on bins wide enough to draw.

    Attributes:
        edges: (n_bins + 1,).
        reference: (n_bins,) probability density.
        model: (n_bins,) probability density of what is alive and on the grid.
    """

    edges: Float
    reference: Float
    model: Float


@dataclass(frozen=True)
class Profile:
    """The free energy along one slow coordinate, smoothed, with the interval of the resamples.

    Every curve has its least value at zero; infinite where there is no mass.

    Attributes:
        x: (n,) centres of the bins.
        reference: (n,) kcal/mol.
        reference_lo: (n,) lower end of the interval over the resamples.
        reference_hi: (n,) upper end.
        model: As ``reference``.
        model_lo: As ``reference_lo``.
        model_hi: As ``reference_hi``.
    """

    x: Float
    reference: Float
    reference_lo: Float
    reference_hi: Float
    model: Float
    model_lo: Float
    model_hi: Float


@dataclass(frozen=True)
class Contacts:
    """How often each pair of beads is in contact; symmetric, one on the diagonal.

    Attributes:
        reference: (n_beads, n_beads) weighted share of the frames.
        model: As ``reference``.
    """

    reference: Float
    model: Float


@dataclass(frozen=True)
class Trace:
    """One trajectory in time, thinned, up to its first bad frame.

    Attributes:
        trajectory: Its index.
        time: (n,) ps from the start of the simulation.
        tic1: (n,) slowest coordinate.
        rmsd: (n,) RMSD to the native structure in Å.
    """

    trajectory: int
    time: Float
    tic1: Float
    rmsd: Float


@dataclass(frozen=True)
class Display:
    """What a report draws of one row.

    Attributes:
        fes_edges: (2, n_bins + 1) edges of the free-energy grid.
        fes_reference: (n_bins, n_bins) kcal/mol, least value zero, infinite where there is none.
        fes_model: As ``fes_reference``.
        native_tics: (2,) place of the native structure on the grid.
        marginals: By observable: ``tic1``, ``tic2``, ``rg``, ``end_to_end``, ``q``, ``rmsd``, and
            where frames were at hand ``bond``, ``angle``, ``pair_distance`` over all bonds, angles
            and pairs, and ``dihedral1`` to the last, in Å and radians.
        traces: Empty for samples without time order.
        macrostates: In the order of their numbers.
        profiles: Free energy along ``tic1`` and ``tic2``.
        contacts: None where no frames were at hand.
        structures: (n_macrostates, n_shown, n_beads, 3) float32 frames of the model in each
            macrostate in Å, the one nearest to the reference's structure first, not-a-number where
            there are fewer; None where no frames were at hand.
    """

    fes_edges: Float
    fes_reference: Float
    fes_model: Float
    native_tics: Float
    marginals: dict[str, Marginal]
    traces: tuple[Trace, ...]
    macrostates: tuple[MacrostatePopulation, ...]
    profiles: dict[str, Profile]
    contacts: Contacts | None = None
    structures: NDArray[np.float32] | None = None
