"""Collects what a report draws of one row."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.distributions import Distributions
from cgbench.evaluate.metrics import Comparison
from cgbench.evaluate.metrics.divergence import smoothed_free_energy
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.scored import Display, MacrostatePopulation, Marginal, Trace
from cgbench.evaluate.tally import LINES

Float = NDArray[np.float64]

#: Bins that a drawn distribution has at most.
_DRAWN_BINS: Final = 200
#: Points that a drawn trajectory has at most.
_DRAWN_POINTS: Final = 400


def display(comparison: Comparison, traces: Sequence[Trace] = ()) -> Display:
    """Return what a report draws, from the first column of a comparison."""
    bundle = comparison.bundle
    sides = (comparison.reference, comparison.model)
    widths = bundle.metadata.smoothing * bundle.tic_sigma[:2]
    surfaces = [
        smoothed_free_energy(
            side.masses["plane"][:, :1], bundle.fes_edges, widths, bundle.temperature
        )[:, :, 0]
        for side in sides
    ]
    marginals = {
        name: _marginal(
            bundle.edges[name], sides[0].masses[name][:, 0], sides[1].masses[name][:, 0]
        )
        for name in LINES
    }
    n_bins = len(bundle.edges["dihedral"]) - 1
    angles = [side.masses["dihedral"][:, 0].reshape(-1, n_bins) for side in sides]
    for index in range(len(angles[0])):
        marginals[f"dihedral{index + 1}"] = _marginal(
            bundle.edges["dihedral"], angles[0][index], angles[1][index]
        )
    return Display(
        fes_edges=bundle.fes_edges,
        fes_reference=surfaces[0],
        fes_model=surfaces[1],
        native_tics=np.asarray(bundle.native_tics[:2], dtype=np.float64),
        marginals=marginals,
        traces=tuple(traces),
        macrostates=_macrostates(comparison),
    )


def _marginal(edges: Float, reference: Float, model: Float) -> Marginal:
    n_bins = len(reference)
    least = -(-n_bins // _DRAWN_BINS)
    width = next(size for size in range(least, n_bins + 1) if n_bins % size == 0)
    drawn = edges[::width]
    densities = []
    for mass in (reference, model):
        joined = mass.reshape(-1, width).sum(axis=1)
        total = joined.sum()
        densities.append(joined / np.diff(drawn) / (total if total > 0 else 1.0))
    return Marginal(edges=drawn, reference=densities[0], model=densities[1])


def _macrostates(comparison: Comparison) -> tuple[MacrostatePopulation, ...]:
    bundle = comparison.bundle
    rows = []
    for index in range(bundle.metadata.n_macrostates):
        inside = bundle.macrostate == index
        reference, model = (
            _population(side, inside) for side in (comparison.reference, comparison.model)
        )
        rows.append(
            MacrostatePopulation(
                index=index,
                native=index == bundle.metadata.native_macrostate,
                reference_population=reference[0],
                model_population=model[0],
                reference_rmsd=reference[1],
                model_rmsd=model[1],
            )
        )
    return tuple(rows)


def _population(side: Distributions, inside: NDArray[np.bool_]) -> tuple[float, float | None]:
    mass = float(side.state_mass[inside, 0].sum())
    return mass, float(side.state_rmsd[inside, 0].sum()) / mass if mass > 0 else None


def traces(observables: Observables, dropped: NDArray[np.int64], interval: float) -> list[Trace]:
    """Return each trajectory's slowest coordinate and RMSD, thinned, up to its first bad frame.

    Args:
        observables: Per-frame numbers, trajectories in time order.
        dropped: (n_trajectories,) frames that were dropped from the start of each.
        interval: Time between frames in ps.
    """
    result = []
    bounds = np.searchsorted(observables.trajectory, np.arange(observables.n_trajectories + 1))
    for index in range(observables.n_trajectories):
        frames = np.arange(bounds[index], bounds[index + 1])
        frames = frames[observables.alive[frames]]
        frames = frames[:: -(-len(frames) // _DRAWN_POINTS) or 1]
        result.append(
            Trace(
                trajectory=index,
                time=(frames - bounds[index] + dropped[index]) * interval,
                tic1=observables.tics[frames, 0].astype(np.float64),
                rmsd=observables.rmsd[frames].astype(np.float64),
            )
        )
    return result
