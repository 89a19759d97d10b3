"""How far apart random halves of a reference are: its own noise in the primary statistics."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.evaluate.convergence import HalfDifference, Spread
from cgbench.evaluate.free_energy import free_energy_surface
from cgbench.evaluate.metrics.divergence import wasserstein
from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference_bundle import Basins
from cgbench.evaluate.weights import TransitionCounts, solve_weights
from cgbench.progress import Progress
from cgbench.units import thermal_energy

Float = NDArray[np.float64]

_UNITS = {
    "w1_tic1": "",
    "w1_tic2": "",
    "fes_rmse": "kcal/mol",
    "folded_population": "",
    "dG_fold": "kcal/mol",
}


@dataclass(frozen=True)
class _Binned:
    """Bins of every frame, so that a division is a weighted count."""

    microstate: NDArray[np.int32]
    trajectory: NDArray[np.int32]
    alive: NDArray[np.bool_]
    lines: tuple[NDArray[np.int16], ...]
    plane: NDArray[np.int32]
    folded: NDArray[np.bool_]
    unfolded: NDArray[np.bool_]


def _bins(values: NDArray[np.float32], edges: Float) -> NDArray[np.int16]:
    found = np.searchsorted(edges, values, side="right") - 1
    return np.clip(found, 0, len(edges) - 2).astype(np.int16)


def half_differences(
    observables: Observables,
    counts: TransitionCounts,
    basins: Basins,
    edges: dict[str, Float],
    fes_edges: Float,
    tic_sigma: Float,
    temperature: float,
    n_divisions: int,
    seed: int,
    progress: Progress,
) -> tuple[HalfDifference, ...]:
    """Divide the trajectories at random into halves and compare these, each weighted on its own.

    Args:
        observables: Per-frame numbers of the reference.
        counts: Transition counts by trajectory.
        basins: What folded and unfolded mean.
        edges: Edges of ``tic1`` and ``tic2``.
        fes_edges: (2, n_bins + 1) edges of the free energy grid.
        tic_sigma: (dimensions,) standard deviations of the slow coordinates.
        temperature: In K.
        n_divisions: Number of divisions.
        seed: Seed of the divisions.
        progress: Told after each division.

    Returns:
        One entry for each statistic; none of fewer than two trajectories.
    """
    n = counts.n_trajectories
    if n < 2:
        return ()
    size = fes_edges.shape[1] - 1
    cells = [_bins(observables.tics[:, axis], fes_edges[axis]).astype(np.int32) for axis in (0, 1)]
    binned = _Binned(
        microstate=observables.microstate,
        trajectory=observables.trajectory,
        alive=observables.alive,
        lines=tuple(_bins(observables.tics[:, axis], edges[f"tic{axis + 1}"]) for axis in (0, 1)),
        plane=cells[0] * size + cells[1],
        folded=basins.folded(observables.q, observables.rmsd),
        unfolded=observables.q < basins.unfolded_q,
    )
    generator = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    found: dict[str, list[float]] = {name: [] for name in _UNITS}
    whole = solve_weights(counts, None, temperature=temperature)
    for division in range(n_divisions):
        order = generator.permutation(n)
        sides = []
        for chosen in (order[: n // 2], order[n // 2 :]):
            taken = np.zeros(n)
            taken[chosen] = 1.0
            solved = solve_weights(counts, taken, temperature=temperature, start=whole)
            weights = (solved.weight_of_state[binned.microstate] * taken[binned.trajectory]).astype(
                np.float64
            )
            weights *= binned.alive
            weights /= weights.sum()
            sides.append(_Side.of(binned, weights, edges, fes_edges, tic_sigma, temperature))
        for name, value in sides[0].differences(sides[1], edges, tic_sigma, temperature).items():
            found[name].append(value)
        progress("halves", division + 1, n_divisions)
    return tuple(
        HalfDifference(statistic=name, unit=unit, difference=_spread(np.asarray(found[name])))
        for name, unit in _UNITS.items()
    )


def _spread(values: Float) -> Spread | None:
    known = values[np.isfinite(values)]
    if not len(known):
        return None
    outside = 50.0 * (1.0 - registry.constants().confidence_level)
    lo, hi = np.percentile(known, [outside, 100.0 - outside])
    return Spread(mean=float(known.mean()), lo=float(lo), hi=float(hi))


@dataclass(frozen=True)
class _Side:
    """Weighted distributions of one half."""

    lines: tuple[Float, ...]
    fes: Float
    folded: float
    unfolded: float

    @classmethod
    def of(
        cls,
        binned: _Binned,
        weights: Float,
        edges: dict[str, Float],
        fes_edges: Float,
        tic_sigma: Float,
        temperature: float,
    ) -> "_Side":
        lines = tuple(
            np.asarray(
                np.bincount(bins, weights, len(edges[f"tic{axis + 1}"]) - 1), dtype=np.float64
            )
            for axis, bins in enumerate(binned.lines)
        )
        size = fes_edges.shape[1] - 1
        flat = np.bincount(binned.plane, weights, size * size).astype(np.float64)
        plane = flat.reshape(size, size)
        smoothing = registry.constants().fes_smoothing * tic_sigma[:2]
        return cls(
            lines=lines,
            fes=free_energy_surface(plane, fes_edges, smoothing, temperature),
            folded=float(weights[binned.folded].sum()),
            unfolded=float(weights[binned.unfolded].sum()),
        )

    def differences(
        self, other: "_Side", edges: dict[str, Float], tic_sigma: Float, temperature: float
    ) -> dict[str, float]:
        """Return the differences of another half, this one being the reference."""
        constants = registry.constants()
        found = {}
        for axis, (ours, theirs) in enumerate(zip(self.lines, other.lines, strict=True)):
            name = f"tic{axis + 1}"
            apart = wasserstein(edges[name], theirs[:, None], ours[:, None], np.zeros(1))
            found[f"w1_{name}"] = float(apart[0]) / float(tic_sigma[axis])
        likely = self.fes <= constants.fes_cutoff
        ceiling = constants.fes_cutoff + constants.fes_clip
        gap = np.minimum(other.fes[likely], ceiling) - self.fes[likely]
        found["fes_rmse"] = float(np.sqrt(np.mean((gap - gap.mean()) ** 2)))
        found["folded_population"] = abs(self.folded - other.folded)
        with np.errstate(divide="ignore", invalid="ignore"):
            energies = [np.log(side.unfolded) - np.log(side.folded) for side in (self, other)]
            found["dG_fold"] = float(thermal_energy(temperature) * abs(np.diff(energies)[0]))
        return found
