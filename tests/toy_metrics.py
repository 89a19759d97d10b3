"""Comparisons for metrics: of ensembles of frames, and of distributions that are made by hand."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import scipy.stats
from toy_rows import SYSTEM, bundle

from cgbench import registry
from cgbench.evaluate import Ensemble
from cgbench.evaluate.distributions import Distributions, distributions
from cgbench.evaluate.metrics import STATISTICS, Comparison
from cgbench.evaluate.metrics.divergence import smoothed_free_energy
from cgbench.evaluate.sampled import sample
from cgbench.evaluate.survey import survey_ensemble
from cgbench.evaluate.tally import tally

TEMPERATURE = 350.0


def frames_of(ensemble):
    """Living frames of an ensemble, (n, n_beads, 3)."""
    return np.concatenate(
        [
            frames[:alive]
            for frames, alive in zip(ensemble.trajectories, ensemble.alive_until, strict=True)
        ]
    )


def distributions_of(ensemble, taken=None):
    """The distributions of an ensemble, every frame alike, and its observables.

    ``taken`` says how often each trajectory is; once each if not given.
    """
    surveyed = survey_ensemble(ensemble, bundle(), seed=0)
    ones = np.ones((bundle().n_microstates, 1))
    if taken is None:
        taken = np.ones(ensemble.n_trajectories)
    taken = np.asarray(taken, np.float64)[:, None]
    return distributions(surveyed.tally, taken, ones), surveyed.observables


def reference_distributions():
    """The distributions of the toy reference's kept frames, every frame alike."""
    seen, chosen = bundle().observables, bundle().subset_frames
    subset = sample(
        bundle().subset_coordinates,
        seen.trajectory[chosen],
        seen.microstate[chosen],
        np.ones(len(chosen)),
        bundle().definition,
        list(STATISTICS.values()),
    )
    counted = replace(tally(seen, bundle().definition), subset=subset)
    ones = np.ones((bundle().n_microstates, 1))
    return distributions(counted, np.ones((seen.n_trajectories, 1)), ones)


def compared(ensemble, reference=None, taken=None):
    """A comparison of an ensemble with the toy reference, or with another ensemble."""
    model, observables = distributions_of(ensemble, taken)
    other = reference_distributions() if reference is None else distributions_of(reference)[0]
    return Comparison(model, other, bundle(), np.ones(1)), observables


def ensemble_of(frames, **changes):
    """An ensemble of one trajectory for each entry."""
    return Ensemble.from_arrays(SYSTEM, list(np.asarray(frames, np.float32)), **changes)


def side(masses, *, means=None, dead=0.0):
    """Distributions of one column from histograms without columns."""
    return Distributions(
        masses={name: np.asarray(table, float)[:, None] for name, table in masses.items()},
        means={name: np.array([value]) for name, value in (means or {}).items()},
        state_mass=np.zeros((1, 1)),
        state_rmsd=np.zeros((1, 1)),
        dead=np.array([dead]),
        native_macrostate=np.zeros(1, dtype=np.int64),
    )


def plane(mean, *, sigma=1.0, n=80, reach=4.5, dead=0.0, outside=0.0):
    """A Gaussian along the first axis times a standard one along the second, on a grid."""
    edges = np.linspace(-reach, reach, n + 1)
    first = np.diff(scipy.stats.norm.cdf(edges, mean, sigma))
    second = np.diff(scipy.stats.norm.cdf(edges))
    grid = np.outer(first / first.sum(), second / second.sum()).ravel()
    return np.append(grid * (1.0 - dead - outside), outside), np.stack([edges, edges])


def plane_bundle(reference, edges, *, n_states=1, populations=(1.0,), unfolded_q=0.3):
    """What metrics ask of a bundle, with the free energy of a given distribution."""
    fake = SimpleNamespace(
        fes_edges=edges,
        edges={"q": np.linspace(0.0, 1.0, 101)},
        tic_sigma=np.ones(2),
        temperature=TEMPERATURE,
        stationary=np.asarray(populations),
        metadata=SimpleNamespace(smoothing=registry.constants().fes_smoothing),
        definition=SimpleNamespace(
            macrostate=np.arange(n_states),
            n_macrostates=n_states,
            basins=SimpleNamespace(unfolded_q=unfolded_q),
        ),
    )
    widths = fake.metadata.smoothing * fake.tic_sigma
    fake.fes = smoothed_free_energy(reference[:, None], edges, widths, TEMPERATURE)[:, :, 0]
    return fake


def plane_comparison(model, reference, edges, *, dead=0.0, **changes):
    """A comparison of two distributions over the grid."""
    sides = [side({"plane": table}, dead=lost) for table, lost in ((model, dead), (reference, 0.0))]
    return Comparison(*sides, plane_bundle(reference, edges, **changes), np.ones(1))


def gaussian_comparison(**changes):
    """A Gaussian against a standard one."""
    reference, edges = plane(0.0)
    return plane_comparison(plane(**changes)[0], reference, edges, dead=changes.get("dead", 0.0))
