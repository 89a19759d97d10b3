"""Samples of several temperatures as one ensemble at the temperature of the reference."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import SimulationError, ValidationError
from cgbench.evaluate.raw_ensemble import Array, RawEnsemble, divided
from cgbench.generate.mbar import effective_sample_size, ladder_energies, solve_mbar

if TYPE_CHECKING:
    from cgbench.store import TrajectorySet

Float = NDArray[np.float64]

#: Temperatures nearer than this are one state, in K.
_SAME: Final = 1e-3
_MOST_STATES: Final = 256
#: Fewer effective frames than this are no ensemble.
LEAST_EFFECTIVE: Final = 10.0


@dataclass(frozen=True, eq=False)
class Reweighted:
    """Weights of frames at one temperature.

    Attributes:
        weights: (n_frames,) sum one.
        effective: Kish's effective number of frames.
        overlap: Of the sampled states, from 0 to 1.
        ladder: Sampled temperatures in K, ascending.
    """

    weights: Float
    effective: float
    overlap: float
    ladder: tuple[float, ...]


def reweighted(temperatures: Float, energies: Float, target: float, name: str) -> Reweighted:
    """Return the weights of frames of several temperatures at one of them, or between them.

    The multistate Bennett acceptance ratio (Shirts and Chodera, J. Chem. Phys. 129, 124105, 2008)
    with reduced energies E/(k_B·T) at every temperature. A frame without a finite energy, which is
    a lost one, gets the mean weight of the others, so that its share of the frames stays lost.

    Args:
        temperatures: (n_frames,) K that each frame was sampled at.
        energies: (n_frames,) kcal/mol.
        target: Temperature of the weights in K.
        name: What errors name.

    Raises:
        ValidationError: Temperatures or energies cannot be used, or fewer than ten effective
            frames are left at the target.
        SimulationError: Temperatures do not overlap, or the equations have no solution.
    """
    if not (np.isfinite(temperatures).all() and (temperatures > 0).all()):
        raise ValidationError(
            f"{name}: temperatures cannot be used",
            expected="above 0 K",
            found=f"{int((~(temperatures > 0)).sum())} of {len(temperatures)} are not",
        )
    usable = np.isfinite(energies)
    if not usable.any():
        raise ValidationError(f"{name}: no frame has a finite energy")
    ladder, state = _states(temperatures[usable], name)
    counts = np.bincount(state, minlength=len(ladder))
    known = energies[usable]
    try:
        solution = solve_mbar(ladder_energies(known, ladder), counts)
    except SimulationError as error:
        raise SimulationError(
            f"{name}: its temperatures cannot be combined: {error.what}",
            expected=error.expected,
            found=f"{error.found}, for {_listed(ladder)}",
            fix="sample temperatures between, or score the replica at the reference's temperature",
        ) from error
    logarithms, _ = solution.log_weights(ladder_energies(known, [target])[0])
    weights = np.exp(logarithms)
    effective = effective_sample_size(weights)
    if effective < min(LEAST_EFFECTIVE, len(weights)):
        raise ValidationError(
            f"{name}: too little of it is left at {target:g} K",
            expected=f"at least {LEAST_EFFECTIVE:g} effective frames",
            found=f"{effective:.1f} of {len(weights)}, from {_listed(ladder)}",
            fix="sample at or around the reference's temperature",
        )
    every = np.full(len(energies), weights.mean())
    every[usable] = weights
    return Reweighted(every / every.sum(), effective, solution.overlap, tuple(ladder.tolist()))


def raw_ensemble(stored: "TrajectorySet") -> RawEnsemble:
    """Return a stored set of trajectories as other formats are read.

    The energy that a temperature weights by is the sum of all that are stored. Frames that were
    never written, because every replica had failed, count as lost at the temperature of the set.
    """
    series = {
        name: values
        for name, values in (
            ("network_energy", stored.network_energy),
            ("prior_energy", stored.prior_energy),
        )
        if values is not None
    }
    energies: list[Array] | None = None
    temperatures: list[Array] | None = None
    if stored.temperatures is not None:
        temperatures = list(stored.temperatures)
        if series:
            energies = [sum(parts) for parts in zip(*series.values(), strict=True)]
            temperatures = [
                np.where(np.isnan(one) & np.isnan(energy), stored.temperature, one)
                for one, energy in zip(temperatures, energies, strict=True)
            ]
    return RawEnsemble(
        trajectories=list(stored.coordinates),
        frame_interval=stored.frame_interval,
        weights=None if stored.weights is None else list(stored.weights),
        temperatures=temperatures,
        energies=energies,
        series=series,
        alive_until=stored.alive_until,
        temperature=stored.temperature,
    )


def exchanged_samples(
    stored: "TrajectorySet", name: str
) -> tuple["TrajectorySet", tuple[str, ...]]:
    """Return a simulation with replica exchange as weighted samples at its own temperature.

    Weighted frames have no time order, so the start of each replica is dropped here.

    Args:
        stored: A simulation whose frames have temperatures.
        name: What errors name.

    Returns:
        The samples, one trajectory for each replica, and what a reader of scores has to know.

    Raises:
        ValidationError: As :func:`at_temperature`.
        SimulationError: Temperatures do not overlap.
    """
    raw = raw_ensemble(stored).without_start(registry.constants().drop_fraction)
    raw = at_temperature(raw, stored.temperature, name)
    samples = replace(
        stored,
        coordinates=raw.trajectories,
        frame_interval=raw.frame_interval,
        weights=raw.weights,
        alive_until=np.asarray(raw.alive_until),
        network_energy=raw.series.get("network_energy"),
        prior_energy=raw.series.get("prior_energy"),
        temperatures=None,
    )
    return samples, tuple(raw.notes)


def at_temperature(raw: RawEnsemble, target: float, name: str) -> RawEnsemble:
    """Return an ensemble of several temperatures as weighted samples at one.

    One temperature, that of the reference, needs no weights. Another one, and no energies, is a
    note: the samples then are what they are.

    Args:
        raw: What a file holds.
        target: Temperature of the reference in K.
        name: What errors name.

    Raises:
        ValidationError: Several temperatures without energies, weights beside them, or numbers
            that cannot be used.
        SimulationError: Temperatures do not overlap.
    """
    temperatures = None if raw.temperatures is None else np.concatenate(raw.temperatures)
    if temperatures is None:
        stated = raw.temperature
        if stated is not None and abs(stated - target) > _SAME:
            raw.notes.append(_other_temperature(stated, target))
        return raw
    first = float(temperatures[0]) if len(temperatures) else target
    one = bool((np.abs(temperatures - first) <= _SAME).all())
    if one and (abs(first - target) <= _SAME or raw.energies is None):
        if abs(first - target) > _SAME:
            raw.notes.append(_other_temperature(first, target))
        return raw
    if raw.energies is None:
        raise ValidationError(
            f"{name}: several temperatures, and no energies to combine them by",
            expected="energy (n,) of each frame in kcal/mol",
            found=f"{temperatures.min():g} to {temperatures.max():g} K",
            fix="add energies, or keep the frames of the reference's temperature alone",
        )
    if raw.weights is not None:
        raise ValidationError(
            f"{name}: weights beside temperatures and energies, which give weights themselves",
            fix="leave out one or the other",
        )
    found = reweighted(temperatures, np.concatenate(raw.energies), target, name)
    raw.weights = divided(found.weights, raw.lengths)
    raw.frame_interval = None
    if not raw.grouped:
        raw = _mixed(raw, temperatures)
    raw.notes.append(
        f"{len(temperatures)} frames of {_listed(np.array(found.ladder))} were weighted to "
        f"{target:g} K by MBAR: {found.effective:.0f} effective frames, overlap "
        f"{found.overlap:.2g}. Weights are not solved again in the resamples."
    )
    return raw


def _mixed(raw: RawEnsemble, temperatures: Float) -> RawEnsemble:
    """Return a pool in an order in which every stretch has all temperatures in their shares.

    A pool is resampled in blocks, which must not be temperatures.
    """
    _, state, counts = np.unique(temperatures, return_inverse=True, return_counts=True)
    by_state = np.argsort(state, kind="stable")
    rank = np.empty(len(state))
    rank[by_state] = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return raw.reordered(np.argsort(rank, kind="stable"))


def _states(temperatures: Float, name: str) -> tuple[Float, NDArray[np.intp]]:
    """Return the sampled temperatures, ascending, and which of them each frame has."""
    values = np.unique(np.round(temperatures / _SAME)) * _SAME
    apart = np.concatenate([[True], np.diff(values) > 1.5 * _SAME])
    ladder = values[apart]
    if len(ladder) > _MOST_STATES:
        raise ValidationError(
            f"{name}: too many temperatures for replica exchange",
            expected=f"at most {_MOST_STATES}",
            found=len(ladder),
            fix="give the temperature of the thermostat, not the momentary one",
        )
    edges = 0.5 * (ladder[1:] + ladder[:-1])
    return ladder, np.searchsorted(edges, temperatures)


def _listed(ladder: Float) -> str:
    if len(ladder) == 1:
        return f"{ladder[0]:g} K"
    return f"{len(ladder)} temperatures from {ladder[0]:g} to {ladder[-1]:g} K"


def _other_temperature(found: float, target: float) -> str:
    return (
        f"Sampled at {found:g} K, and no energies to weight by: the reference is at {target:g} K, "
        "so that populations and free energies differ even for a perfect sampler."
    )
