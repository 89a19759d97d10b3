"""Graded corruptions of a simulation: what a metric must rank, from untouched to useless.

Every family starts from the same untouched ensemble, frames of a reference with their equilibrium
weights, and spoils it in one way, step by step.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cgbench.evaluate import Ensemble, ReferenceBundle

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Base:
    """The untouched ensemble.

    Attributes:
        system: Registry key.
        temperature: In K.
        frame_interval: Time between frames of the reference in ps; twice that between these frames.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å, one each.
        weights: (n_frames,) equilibrium weight of each frame, all trajectories after one another.
        population: (n_frames,) equilibrium population of the microstate that each frame is in.
        rg: (n_frames,) radius of gyration in Å.
        q: (n_frames,) fraction of native contacts.
    """

    system: str
    temperature: float
    frame_interval: float
    trajectories: Sequence[NDArray[np.float32]]
    weights: Float
    population: Float
    rg: Float
    q: Float

    def parts(self, values: Float) -> list[Float]:
        """Return per-frame values as one array for each trajectory."""
        ends = np.cumsum([len(trajectory) for trajectory in self.trajectories])
        return np.split(values, ends[:-1])

    def weighted(self, name: str, weights: Float) -> Ensemble:
        """Return the same frames with other weights."""
        return Ensemble.from_arrays(
            self.system, list(self.trajectories), weights=self.parts(weights), name=name
        )


@dataclass(frozen=True)
class Graded:
    """One step of a family.

    Attributes:
        family: Name of the family.
        setting: What was changed, and how far, in words.
        ensemble: The spoilt ensemble.
    """

    family: str
    setting: str
    ensemble: Ensemble


def base_ensemble(
    bundle: ReferenceBundle,
    trajectories: Sequence[NDArray[np.float32]],
    frames: NDArray[np.int64],
    weights: Float,
) -> Base:
    """Return frames of a reference with their equilibrium weights.

    Args:
        bundle: The reference.
        trajectories: Coordinates (n_frames_i, n_beads, 3) in Å of sound frames.
        frames: (n_frames,) their places in the reference, all trajectories after one another.
        weights: Equilibrium weight of every frame of the reference.
    """
    seen = bundle.observables
    return Base(
        system=bundle.system,
        temperature=bundle.temperature,
        frame_interval=bundle.frame_interval,
        trajectories=trajectories,
        weights=weights[frames],
        population=bundle.stationary[seen.microstate[frames]],
        rg=seen.rg[frames].astype(np.float64),
        q=seen.q[frames].astype(np.float64),
    )


def temperatures(base: Base, family: str, kelvin: Sequence[float]) -> Iterator[Graded]:
    """Spread or sharpen the populations of microstates as another temperature would.

    Populations p become p^(T/T'), as if no free energy depended on temperature.
    """
    for wrong in kelvin:
        shift = base.temperature / wrong - 1.0
        known = np.where(base.population > 0, base.population, 1.0)
        yield Graded(family, f"{wrong:g} K", base.weighted(family, base.weights * known**shift))


def collapsed(base: Base) -> Iterator[Graded]:
    """Favour compact frames by a force on the radius of gyration."""
    total = base.weights.sum()
    mean = base.weights @ base.rg / total
    sigma = np.sqrt(base.weights @ (base.rg - mean) ** 2 / total)
    for strength in (0.0, 0.5, 1.0, 2.0, 4.0):
        # Shifted by the smallest radius, so that the exponent never overflows.
        factor = np.exp(-strength * (base.rg - base.rg.min()) / sigma)
        yield Graded(
            "collapsed",
            f"{strength:g} kT per σ of the radius of gyration",
            base.weighted("collapsed", base.weights * factor),
        )


def mixed_with_unfolded(base: Base, unfolded_q: float) -> Iterator[Graded]:
    """Add unfolded frames of the same simulation."""
    share = base.weights / base.weights.sum()
    unfolded = np.where(base.q < unfolded_q, share, 0.0)
    for fraction in (0.0, 0.1, 0.25, 0.5, 1.0):
        mixed = (1.0 - fraction) * share + fraction * unfolded / unfolded.sum()
        yield Graded(
            "mixed with unfolded",
            f"{100 * fraction:g} % more unfolded frames",
            base.weighted("mixed", mixed),
        )


def lost_state(base: Base, folded_q: float) -> Iterator[Graded]:
    """Take the folded frames away."""
    for fraction in (0.0, 0.25, 0.5, 0.75, 1.0):
        kept = np.where(base.q >= folded_q, 1.0 - fraction, 1.0)
        yield Graded(
            "lost folded state",
            f"{100 * fraction:g} % of the folded frames lost",
            base.weighted("lost", base.weights * kept),
        )


def mirrored(base: Base) -> Iterator[Graded]:
    """Turn a share of every frame's weight over to its mirror image."""
    image = np.array([1.0, 1.0, -1.0], dtype=np.float32)
    for fraction in (0.0, 0.1, 0.25, 0.5, 1.0):
        both, weights = [], []
        for frames, weight in zip(base.trajectories, base.parts(base.weights), strict=True):
            both.append(np.concatenate([frames, frames * image]))
            weights.append(np.concatenate([(1.0 - fraction) * weight, fraction * weight]))
        yield Graded(
            "mirror image",
            f"{100 * fraction:g} % mirrored",
            Ensemble.from_arrays(base.system, both, weights=weights, name="mirrored"),
        )


def noisy(base: Base, seed: int) -> Iterator[Graded]:
    """Shake every bead."""
    for sigma in (0.0, 0.1, 0.2, 0.4, 0.8):
        random = np.random.default_rng([seed, 0])
        shaken = [
            frames + (sigma * random.standard_normal(frames.shape)).astype(np.float32)
            for frames in base.trajectories
        ]
        yield Graded(
            "noise",
            f"σ = {sigma:g} Å on every coordinate",
            Ensemble.from_arrays(
                base.system, shaken, weights=base.parts(base.weights), name="noise"
            ),
        )


def truncated(base: Base) -> Iterator[Graded]:
    """Let every trajectory break off: the frames after that are lost."""
    for fraction in (1.0, 0.75, 0.5, 0.25, 0.05):
        ends = [max(1, int(fraction * len(frames))) for frames in base.trajectories]
        yield Graded(
            "truncated",
            f"broken off after {100 * fraction:g} % of every trajectory",
            Ensemble.from_arrays(
                base.system,
                list(base.trajectories),
                weights=base.parts(base.weights),
                alive_until=ends,
                name="truncated",
            ),
        )


def shortened(base: Base) -> Iterator[Graded]:
    """Stop every trajectory early, keeping the order of time: less sampling, nothing false."""
    for fraction in (1.0, 0.5, 0.25, 0.1, 0.05):
        yield Graded(
            "shortened",
            f"first {100 * fraction:g} % of every trajectory",
            Ensemble.from_arrays(
                base.system,
                [frames[: max(2, int(fraction * len(frames)))] for frames in base.trajectories],
                frame_interval=2.0 * base.frame_interval,
                name="shortened",
            ),
        )


def families(
    base: Base, *, folded_q: float, unfolded_q: float, seed: int
) -> dict[str, Callable[[], Iterator[Graded]]]:
    """Return every family by name; each yields its steps from untouched to useless."""
    return {
        "hotter": lambda: temperatures(base, "hotter", (350.0, 400.0, 475.0, 600.0, 900.0)),
        "colder": lambda: temperatures(base, "colder", (350.0, 300.0, 250.0, 200.0, 150.0)),
        "collapsed": lambda: collapsed(base),
        "mixed with unfolded": lambda: mixed_with_unfolded(base, unfolded_q),
        "lost folded state": lambda: lost_state(base, folded_q),
        "mirror image": lambda: mirrored(base),
        "noise": lambda: noisy(base, seed),
        "truncated": lambda: truncated(base),
        "shortened": lambda: shortened(base),
    }
