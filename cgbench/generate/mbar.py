"""Boltzmann weights of frames sampled at several temperatures, by MBAR.

The multistate Bennett acceptance ratio (Shirts and Chodera, J. Chem. Phys. 129, 124105, 2008)
turns the frames of all temperatures of a ladder into one weighted ensemble at any of them, or
between them. Pure numpy.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cgbench.errors import SimulationError, UsageError, ValidationError
from cgbench.units import thermal_energy

FloatArray = NDArray[np.float64]

#: Iterations of fixed-point steps that come before Newton's: they bring it into its basin.
_FIRST_STEPS: Final = 5
#: Numbers of a block of the energy matrix that is worked on at once, about 32 MB.
_BLOCK_NUMBERS: Final = 4_000_000


@dataclass(frozen=True, eq=False)
class MbarSolution:
    """Free energies of the sampled states, from which weights at any state follow.

    Attributes:
        free_energies: (n_states,) reduced free energies f_k; the first is 0.
        counts: (n_states,) frames drawn from each state; may be 0 for some.
        log_denominators: (n_frames,) log Σ_k N_k exp(f_k − u_k(x_n)), eq. 9 and 11.
        iterations: Iterations of the solver.
        residual: Largest deviation of Σ_n W_nk from 1 over the sampled states.
        overlap: From 1, where all sampled states are alike, to 0, where two parts of the ladder
            share no frame: 1 less the second eigenvalue of the overlap matrix N_l Σ_n W_nk W_nl.
    """

    free_energies: FloatArray
    counts: NDArray[np.int64]
    log_denominators: FloatArray
    iterations: int
    residual: float
    overlap: float

    def log_weights(self, reduced_energies: ArrayLike) -> tuple[FloatArray, float]:
        """Return normalised logarithmic weights at a state, and its reduced free energy.

        Args:
            reduced_energies: (n_frames,) u(x_n) at the state, sampled or not.

        Returns:
            (n_frames,) log w_n with Σ_n w_n = 1, and f of the state on the scale of
            ``free_energies``.

        Raises:
            ValidationError: The shape does not fit, or no frame has a weight above zero.
        """
        energies = np.asarray(reduced_energies, dtype=np.float64)
        if energies.shape != self.log_denominators.shape:
            raise ValidationError(
                "reduced energies: wrong shape",
                expected=self.log_denominators.shape,
                found=energies.shape,
            )
        unnormalised = -energies - self.log_denominators
        total = _log_sum_exp(unnormalised)
        if not np.isfinite(total):
            raise ValidationError("reduced energies: not finite", found=f"sum of weights {total}")
        return unnormalised - total, -total


def solve_mbar(
    reduced_energies: ArrayLike,
    counts: ArrayLike,
    *,
    tolerance: float = 1e-8,
    max_iterations: int = 500,
) -> MbarSolution:
    """Solve the MBAR equations.

    The free energies are the minimum of the convex function
    Σ_n log Σ_k N_k exp(f_k − u_k(x_n)) − Σ_k N_k f_k, whose gradient is zero where eq. 11 of
    Shirts and Chodera holds. A few self-consistent steps (their eq. C3) are followed by Newton's
    (gradient and Hessian as in their eq. C6 and C9), halved, or replaced by a self-consistent one,
    where they do not come closer to the solution.

    Args:
        reduced_energies: (n_states, n_frames) u_k(x_n) of every frame at every state.
        counts: (n_states,) frames drawn from each state.
        tolerance: Largest deviation of Σ_n W_nk from 1 that counts as solved.
        max_iterations: Give up after so many.

    Raises:
        ValidationError: Shapes, counts or energies do not fit together.
        SimulationError: The solver did not converge, or parts of the states do not overlap.
    """
    energies = np.asarray(reduced_energies, dtype=np.float64)
    numbers = np.asarray(counts)
    _check(energies, numbers)
    sampled = np.flatnonzero(numbers)
    weights = numbers[sampled].astype(np.float64)
    drawn = energies[sampled]
    f = np.zeros(len(sampled))
    step = _evaluate(drawn, weights, f, hessian=True)
    iteration = 0
    while step.residual > tolerance:
        if iteration == max_iterations:
            raise SimulationError(
                "MBAR: did not converge",
                expected=f"sums of weights within {tolerance:g} of 1",
                found=f"{step.residual:g} after {iteration} iterations",
                fix="add temperatures between, or frames",
            )
        trial = None if iteration < _FIRST_STEPS else _newton(drawn, weights, f, step)
        f = step.fixed_point if trial is None else trial
        f = f - f[0]
        step = _evaluate(drawn, weights, f, hessian=True)
        iteration += 1
    overlap = _overlap(step.hessian, weights)
    # Without overlap every set of free energies is a solution: the one found means nothing.
    if overlap * weights.sum() < 1.0:
        raise SimulationError(
            "MBAR: parts of the states do not overlap",
            expected="at least one frame's worth of overlap",
            found=f"{overlap * weights.sum():.2g}",
            fix="add temperatures between, or frames",
        )
    all_f = np.array([-_log_sum_exp(-row - step.log_denominators) for row in energies])
    # A constant added to all f is added to the denominators as well.
    return MbarSolution(
        free_energies=all_f - all_f[0],
        counts=numbers.astype(np.int64),
        log_denominators=step.log_denominators - all_f[0],
        iterations=iteration,
        residual=step.residual,
        overlap=overlap,
    )


def _overlap(hessian: FloatArray, counts: FloatArray) -> float:
    """Return the spectral gap of the overlap matrix, which the Hessian holds."""
    if len(counts) == 1:
        return 1.0
    scale = 1.0 / np.sqrt(counts)
    eigenvalues = np.linalg.eigvalsh(hessian * scale[:, None] * scale)
    return float(np.clip(eigenvalues[1], 0.0, 1.0))


@dataclass(frozen=True)
class _Step:
    """Derivatives of the objective at some f, and the next self-consistent f."""

    gradient: FloatArray
    hessian: FloatArray
    fixed_point: FloatArray
    log_denominators: FloatArray
    residual: float


def _evaluate(energies: FloatArray, counts: FloatArray, f: FloatArray, *, hessian: bool) -> _Step:
    n_states, n_frames = energies.shape
    log_denominators = np.empty(n_frames)
    sums = np.zeros(n_states)
    outer = np.zeros((n_states, n_states))
    offsets = (f + np.log(counts))[:, None]
    block = max(1, _BLOCK_NUMBERS // n_states)
    for start in range(0, n_frames, block):
        terms = offsets - energies[:, start : start + block]
        highest = terms.max(axis=0)
        shares = np.exp(terms - highest)
        total = shares.sum(axis=0)
        log_denominators[start : start + block] = np.log(total) + highest
        # Row k holds N_k W_nk; over k they sum to 1 for each frame.
        shares /= total
        sums += shares.sum(axis=1)
        if hessian:
            outer += shares @ shares.T
    gradient = sums - counts
    return _Step(
        gradient=gradient,
        hessian=np.diag(sums) - outer,
        fixed_point=f - np.log(sums / counts),
        log_denominators=log_denominators,
        residual=float(np.abs(gradient / counts).max()),
    )


def _newton(
    energies: FloatArray, counts: FloatArray, f: FloatArray, step: _Step
) -> FloatArray | None:
    """Return f after a Newton step that comes closer, the first f held; None if none does."""
    if len(f) == 1:
        return None
    try:
        change = np.linalg.solve(step.hessian[1:, 1:], -step.gradient[1:])
    except np.linalg.LinAlgError:
        return None
    for halvings in range(6):
        trial: FloatArray = f.copy()
        trial[1:] += change / 2**halvings
        reached = _evaluate(energies, counts, trial, hessian=False)
        if reached.residual < step.residual:
            return trial
    return None


def temperature_weights(
    energies: ArrayLike,
    counts: ArrayLike,
    ladder: ArrayLike,
    temperature: float,
    **solver: Any,
) -> FloatArray:
    """Return the weight of every frame of a temperature ladder at one temperature.

    Args:
        energies: (n_frames,) potential energies in kcal/mol.
        counts: (n_temperatures,) frames drawn at each temperature of the ladder.
        ladder: (n_temperatures,) in K.
        temperature: Where weights are wanted, in K; not necessarily one of the ladder.
        solver: ``tolerance`` and ``max_iterations`` of ``solve_mbar``.

    Returns:
        (n_frames,) weights that sum to 1.

    Raises:
        UsageError: A temperature is not above zero.
        ValidationError: Shapes do not fit together.
        SimulationError: The solver did not converge.
    """
    potential = np.asarray(energies, dtype=np.float64)
    solution = solve_mbar(ladder_energies(potential, ladder), counts, **solver)
    at_target = ladder_energies(potential, [temperature])[0]
    weights: FloatArray = np.exp(solution.log_weights(at_target)[0])
    return weights


def ladder_energies(energies: ArrayLike, ladder: ArrayLike) -> FloatArray:
    """Return reduced energies (n_temperatures, n_frames), E_n / (k_B·T_k).

    Energies are taken from their mean, which changes no weight and keeps digits.

    Args:
        energies: (n_frames,) in kcal/mol.
        ladder: (n_temperatures,) in K.

    Raises:
        UsageError: A temperature is not above zero.
        ValidationError: Shapes are wrong.
    """
    potential = np.asarray(energies, dtype=np.float64)
    temperatures = np.asarray(ladder, dtype=np.float64)
    if potential.ndim != 1 or temperatures.ndim != 1 or not potential.size:
        raise ValidationError(
            "energies of a temperature ladder: wrong shapes",
            expected="(frames,) and (temperatures,), not empty",
            found=f"{potential.shape} and {temperatures.shape}",
        )
    if not (np.isfinite(temperatures).all() and (temperatures > 0).all()):
        raise UsageError("temperatures of a ladder", expected="above 0 K", found=temperatures)
    betas = np.array([1.0 / thermal_energy(float(value)) for value in temperatures])
    return np.outer(betas, potential - potential.mean())


def effective_sample_size(weights: ArrayLike) -> float:
    """Return Kish's effective number of frames, (Σ w)² / Σ w².

    It tells how uneven weights are, not how correlated frames are.

    Raises:
        ValidationError: Weights are negative, not finite, or all zero.
    """
    values = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all() and values.sum() > 0):
        raise ValidationError("weights", expected="finite, not negative, not all zero")
    values = values / values.max()
    return float(values.sum() ** 2 / (values**2).sum())


def demultiplex(values: ArrayLike, states: ArrayLike) -> NDArray[Any]:
    """Reorder what replicas recorded by the temperature that they had at the time.

    Args:
        values: (n_replicas, n_frames, …) in the order of replicas.
        states: (n_replicas, n_frames) number of the temperature of each replica at each frame.

    Returns:
        (n_temperatures, n_frames, …) in the order of temperatures.

    Raises:
        ValidationError: Shapes do not fit, or at some frame two replicas have one temperature.
    """
    recorded, numbers = np.asarray(values), np.asarray(states)
    if numbers.ndim != 2 or recorded.shape[:2] != numbers.shape:
        raise ValidationError(
            "replica exchange: shapes of values and states do not fit",
            expected="(replicas, frames, …) and (replicas, frames)",
            found=f"{recorded.shape} and {numbers.shape}",
        )
    order = np.argsort(numbers, axis=0, kind="stable")
    ordered = np.take_along_axis(numbers, order, axis=0)
    wrong = np.flatnonzero((ordered != np.arange(len(numbers))[:, None]).any(axis=0))
    if len(wrong):
        raise ValidationError(
            "replica exchange: states are no permutation",
            expected=f"each of 0 to {len(numbers) - 1} once at every frame",
            found=f"frame {wrong[0]}: {numbers[:, wrong[0]].tolist()}",
        )
    return recorded[order, np.arange(numbers.shape[1])]


def _check(energies: FloatArray, counts: NDArray[Any]) -> None:
    what = "MBAR"
    if energies.ndim != 2 or counts.shape != energies.shape[:1] or not energies.size:
        raise ValidationError(
            f"{what}: wrong shapes",
            expected="(states, frames) and (states,), not empty",
            found=f"{energies.shape} and {counts.shape}",
        )
    if not np.isfinite(energies).all():
        raise ValidationError(f"{what}: reduced energies that are not finite")
    whole = np.issubdtype(counts.dtype, np.integer)
    if not whole or (counts < 0).any() or counts.sum() != energies.shape[1]:
        raise ValidationError(
            f"{what}: counts of the states",
            expected=f"whole numbers that sum to {energies.shape[1]} frames",
            found=counts.tolist(),
        )


def _log_sum_exp(values: FloatArray) -> float:
    highest = values.max()
    return float(highest + np.log(np.exp(values - highest).sum()))
