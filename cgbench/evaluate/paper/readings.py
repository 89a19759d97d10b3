"""What is read off a model and its table: energies, reactive flux, passages."""

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.paper.flux import pathways, reactive_flux
from cgbench.evaluate.paper.model import PaperModel
from cgbench.evaluate.paper.table import Spreads, spread_of
from cgbench.results.paper import (
    PaperEnergy,
    PaperPathway,
    PaperPathways,
    PaperTable,
    PaperTransitions,
)

Float = NDArray[np.float64]


def energy_criterion(table: PaperTable, found: Spreads) -> PaperEnergy | None:
    """Return whether the native macrostate has the least mean network energy.

    Returns:
        None where energies are unknown or there is a single macrostate.
    """
    means = [row.network_energy_mean for row in table.macrostates]
    known = np.array([np.nan if mean is None else mean for mean in means])
    if len(known) < 2 or not np.isfinite(known).all():
        return None
    lowest = int(known.argmin())
    gap_spread, in_favour = None, None
    if found.energy is not None and len(found.energy):
        gaps = np.array([_gap(row, table.native) for row in found.energy])
        gap_spread = spread_of(gaps)
        in_favour = int((gaps < 0).sum())
    return PaperEnergy(
        lowest=lowest,
        native_is_lowest_energy=lowest == table.native,
        gap=_gap(known, table.native),
        gap_spread=gap_spread,
        models_in_favour=in_favour,
    )


def _gap(energies: Float, native: int) -> float:
    return float(energies[native] - np.nanmin(np.delete(energies, native)))


def reactive_pathways(model: PaperModel, table: PaperTable) -> PaperPathways | None:
    """Return the reactive flux from the unfolded to the native macrostate.

    Returns:
        None where there is no unfolded macrostate.
    """
    if table.unfolded is None:
        return None
    group = model.macrostate[model.markov.states]
    stationary = model.markov.stationary
    flux = reactive_flux(
        model.markov.transition_matrix,
        stationary,
        group == table.unfolded,
        group == table.native,
    )
    net = flux.grouped(group, model.n_macrostates)
    mass = np.bincount(group, stationary, model.n_macrostates)
    committor = np.bincount(group, stationary * flux.committor, model.n_macrostates) / mass
    passage = model.lag_ps / flux.rate if flux.rate > 0 else None
    return PaperPathways(
        source=table.unfolded,
        target=table.native,
        committor=tuple(np.clip(committor, 0.0, 1.0).tolist()),
        net_flux=tuple(tuple(row) for row in (net / model.lag_ps).tolist()),
        total_flux=flux.total / model.lag_ps,
        mean_first_passage_ps=passage,
        pathways=tuple(
            PaperPathway(macrostates=states, percentage=100.0 * share)
            for states, share in pathways(net, table.unfolded, table.native)
        ),
    )


def passages(
    model: PaperModel,
    native: int,
    given: NDArray[np.int64],
    started_unfolded: NDArray[np.bool_],
    folded: NDArray[np.bool_],
) -> PaperTransitions:
    """Count passages into and out of the native macrostate, seen once every lag.

    A frame outside the connected set has no macrostate: the trajectory counts as where it was.

    Args:
        model: The model.
        native: The native macrostate.
        given: (n_trajectories,) index of each trajectory in the order of the result.
        started_unfolded: (n_trajectories,) whether it starts unfolded.
        folded: (n_frames,) frames in the reference's folded basin.
    """
    of_frame = model.macrostate_of_frame
    n_trajectories = model.counts.n_trajectories
    bounds = np.searchsorted(model.trajectory, np.arange(n_trajectories + 1))
    into = np.zeros(n_trajectories, dtype=np.int64)
    out = np.zeros(n_trajectories, dtype=np.int64)
    reached = np.zeros(n_trajectories, dtype=bool)
    reached_fold = np.zeros(n_trajectories, dtype=bool)
    for index in range(n_trajectories):
        rows = slice(bounds[index], bounds[index + 1])
        whole = of_frame[rows]
        reached[index] = bool((whole == native).any())
        reached_fold[index] = bool(folded[rows].any())
        seen = whole[:: model.lag_frames]
        inside = (seen[seen >= 0] == native).astype(np.int8)
        change = np.diff(inside)
        into[given[index]] = int((change > 0).sum())
        out[given[index]] = int((change < 0).sum())
    return PaperTransitions(
        into_native=tuple(into.tolist()),
        out_of_native=tuple(out.tolist()),
        n_started_unfolded=int(started_unfolded.sum()),
        native_from_unfolded=int((reached & started_unfolded).sum()),
        folded_from_unfolded=int((reached_fold & started_unfolded).sum()),
    )
