"""The table of macrostates."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate.alignment_search import search_scores
from cgbench.evaluate.paper.model import PaperModel, folds
from cgbench.evaluate.secondary_structure import propensity
from cgbench.registry import PaperConstants
from cgbench.results.paper import PaperMacrostate, PaperSpread, PaperTable

Float = NDArray[np.float64]
#: Coordinates (n, n_beads, 3) of frames by their index among all.
Gather = Callable[[NDArray[np.int64]], NDArray[np.float32]]
#: (n, n_elements) RMSD of each element in frames (n, n_beads, 3).
ElementRmsd = Callable[[NDArray[np.float32]], Float]


@dataclass(frozen=True)
class FrameNumbers:
    """What the table averages.

    Attributes:
        rmsd: (n,) Cα RMSD in Å.
        q: (n,) fraction of native contacts.
        folded: (n,) bool, frames in the reference's folded basin.
        network_energy: (n,) kcal/mol, or None.
    """

    rmsd: Float
    q: Float
    folded: NDArray[np.bool_]
    network_energy: Float | None


@dataclass(frozen=True)
class Structures:
    """How the scores that need coordinates are found.

    Attributes:
        native: (n_beads, 3) in Å.
        gather: Gives coordinates.
        available: (m,) frames that have coordinates, ascending; None for all.
        element_names: Native elements of secondary structure.
        element_rmsd: Their RMSD; None where there are none.
    """

    native: NDArray[np.float32]
    gather: Gather
    available: NDArray[np.int64] | None
    element_names: tuple[str, ...]
    element_rmsd: ElementRmsd | None


@dataclass(frozen=True)
class Spreads:
    """Sums of models of part of the trajectories.

    Attributes:
        probability: (n_models, n_macrostates).
        rmsd: (n_models, n_macrostates) means, not-a-number where a macrostate is empty.
        energy: The same of the network's energy, or None.
    """

    probability: Float
    rmsd: Float
    energy: Float | None


def native_macrostate(model: PaperModel, rmsd: Float) -> int:
    """Return the macrostate that holds the frame of least RMSD in the connected set."""
    of_frame = model.macrostate_of_frame
    return int(of_frame[np.where(of_frame >= 0, rmsd, np.inf).argmin()])


def spreads(
    model: PaperModel, numbers: FrameNumbers, constants: PaperConstants, seed: int
) -> Spreads:
    """Solve the models that each leave out a part of the trajectories, macrostates kept."""
    n_states = model.counts.n_states
    place = model.trajectory * n_states + model.microstate
    shape = (model.counts.n_trajectories, n_states)

    def summed(values: Float) -> Float:
        flat = np.bincount(place, values, shape[0] * n_states)
        return flat.astype(np.float64).reshape(shape)

    member = np.zeros((n_states, model.n_macrostates))
    states = model.markov.states
    member[states, model.macrostate[states]] = 1.0
    columns = [summed(numbers.rmsd)]
    if numbers.network_energy is not None:
        columns.append(summed(numbers.network_energy))
    found: list[list[Float]] = []
    for taken, stationary in folds(model, constants.count("spread_models"), seed):
        populations = taken @ model.counts.populations
        weight = np.divide(stationary, populations, out=np.zeros(n_states), where=populations > 0)
        probability = stationary @ member
        row = [probability]
        for sums in columns:
            with np.errstate(invalid="ignore"):
                row.append((weight * (taken @ sums)) @ member / probability)
        found.append(row)
    stacked = [
        np.array([row[column] for row in found]).reshape(len(found), model.n_macrostates)
        for column in range(1 + len(columns))
    ]
    return Spreads(stacked[0], stacked[1], stacked[2] if len(columns) == 2 else None)


def spread_of(values: Float) -> PaperSpread | None:
    """Return mean and standard deviation of the finite values, None for fewer than two."""
    finite = values[np.isfinite(values)]
    if len(finite) < 2:
        return None
    return PaperSpread(
        mean=float(finite.mean()), deviation=float(finite.std(ddof=1)), n_models=len(finite)
    )


def macrostate_table(
    model: PaperModel,
    numbers: FrameNumbers,
    structures: Structures,
    constants: PaperConstants,
    found: Spreads,
    seed: int,
) -> PaperTable:
    """Return the macrostates with all their averages."""
    rows = [
        _row(model, numbers, structures, constants, found, index, seed)
        for index in range(model.n_macrostates)
    ]
    native = native_macrostate(model, numbers.rmsd)
    others = [row for row in rows if row.index != native]
    unfolded = min(others, key=lambda row: row.q_mean).index if others else None
    return PaperTable(
        macrostates=tuple(rows),
        native=native,
        unfolded=unfolded,
        macrostates_source=model.source,
        macrostates_how=model.how,
        n_microstates=model.counts.n_states,
        n_connected=len(model.markov.states),
        connected_fraction=model.connected_fraction,
        lag_ps=model.lag_ps,
        frame_interval_ps=model.frame_interval,
        n_trajectories=model.counts.n_trajectories,
        n_frames=len(model.microstate),
        slowest_timescale_ps=model.slowest_timescale_ps,
    )


def _row(
    model: PaperModel,
    numbers: FrameNumbers,
    structures: Structures,
    constants: PaperConstants,
    found: Spreads,
    index: int,
    seed: int,
) -> PaperMacrostate:
    inside = np.flatnonzero(model.macrostate_of_frame == index)
    weights = model.frame_weights[inside]
    share = weights / weights.sum()

    def moments(values: Float) -> tuple[float, float]:
        chosen = values[inside]
        mean = float(share @ chosen)
        return mean, float(np.sqrt(share @ (chosen - mean) ** 2))

    rmsd, rmsd_deviation = moments(numbers.rmsd)
    energy: tuple[float | None, float | None] = (None, None)
    if numbers.network_energy is not None and np.isfinite(numbers.network_energy[inside]).all():
        energy = moments(numbers.network_energy)
    gdt, searched, propensities = _structure(
        structures, inside, share, constants, np.random.SeedSequence([seed, index])
    )
    closest = inside[[int(numbers.rmsd[inside].argmin())]]
    return PaperMacrostate(
        index=index,
        n_microstates=int((model.macrostate == index).sum()),
        n_frames=len(inside),
        probability=min(1.0, float(weights.sum())),
        probability_spread=spread_of(found.probability[:, index]),
        rmsd_mean=rmsd,
        rmsd_deviation=rmsd_deviation,
        rmsd_minimum=float(numbers.rmsd[inside].min()),
        rmsd_spread=spread_of(found.rmsd[:, index]),
        q_mean=float(np.clip(moments(numbers.q)[0], 0.0, 1.0)),
        folded_fraction=min(1.0, float(share @ numbers.folded[inside])),
        gdt_ts_mean=gdt,
        gdt_ts_of_minimum=_gdt_of(structures, closest),
        searched_frames=searched,
        network_energy_mean=energy[0],
        network_energy_deviation=energy[1],
        propensities=propensities,
    )


def _available(structures: Structures, frames: NDArray[np.int64]) -> NDArray[np.bool_]:
    if structures.available is None:
        return np.ones(len(frames), dtype=bool)
    return np.isin(frames, structures.available)


def _gdt_of(structures: Structures, frames: NDArray[np.int64]) -> float | None:
    if not _available(structures, frames).all():
        return None
    return float(search_scores(structures.gather(frames), structures.native).gdt_ts.mean())


def _structure(
    structures: Structures,
    inside: NDArray[np.int64],
    share: Float,
    constants: PaperConstants,
    seed: np.random.SeedSequence,
) -> tuple[float | None, int, dict[str, float]]:
    """Return mean GDT-TS, the frames it was searched on, and the elements' propensities."""
    usable = _available(structures, inside)
    weight = np.where(usable, share, 0.0)
    if not weight.sum() > 0:
        return None, 0, {}
    drawn = np.random.default_rng(seed).choice(
        inside, size=constants.count("element_frames"), p=weight / weight.sum()
    )
    # Frames are drawn with replacement, so that their plain mean is the weighted mean.
    searched, times = np.unique(drawn[: constants.count("search_frames")], return_counts=True)
    scores = search_scores(structures.gather(searched), structures.native).gdt_ts
    propensities: dict[str, float] = {}
    if structures.element_rmsd is not None:
        frames, repeats = np.unique(drawn, return_counts=True)
        deviations = structures.element_rmsd(structures.gather(frames))
        fractions = propensity(deviations, constants.number("element_distance"), repeats)
        propensities = {
            name: float(fraction)
            for name, fraction in zip(structures.element_names, fractions, strict=True)
        }
    return float(times @ scores / times.sum()), len(searched), propensities
