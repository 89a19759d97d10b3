"""Ensembles of the toy hairpin with a known difference from its reference."""

import functools

import numpy as np
from toy_reference import COIL, NATIVE, hidden_states, toy_input

from cgbench import registry
from cgbench.evaluate import Ensemble, reference_statistics, score
from cgbench.evaluate.reference import build_from_trajectories

SYSTEM = "chignolin-sample"
SEED = 3
N_RESAMPLES = 40
PROTOCOL = registry.protocol("demo").model_copy(
    update={"drop_fraction": 0.0, "model_msm_lag": 3.0, "output_interval": 1.0}
)


@functools.cache
def bundle():
    return build_from_trajectories(toy_input()[0], n_resamples=20)


@functools.cache
def statistics():
    return reference_statistics(bundle(), seed=SEED, n_resamples=N_RESAMPLES)


def hairpins(folded, *, scale=0.12, seed=0, mirrored=False):
    """Coordinates (…, 10, 3) of chains that are folded where the mask says so."""
    noise = np.random.default_rng(seed).normal(scale=scale, size=(*folded.shape, 10, 3))
    frames = np.where(folded[..., None, None], NATIVE, COIL) + noise
    return (frames * ([-1.0, 1.0, 1.0] if mirrored else 1.0)).astype(np.float32)


def samples(population, *, n_trajectories=24, n_frames=50, seed=1, name="samples", **changes):
    """Independent samples with a given folded population."""
    generator = np.random.default_rng(seed)
    folded = generator.random((n_trajectories, n_frames)) < population
    frames = hairpins(folded, seed=seed + 1, **changes)
    return Ensemble.from_arrays(SYSTEM, list(frames), name=name)


def trajectories(*, n_trajectories=60, n_frames=100, seed=1, name="trajectories", **changes):
    """Trajectories of the reference's own kinetics, all started folded, 1 ps a frame."""
    folded = hidden_states(n_trajectories, n_frames, np.random.default_rng(seed))
    frames = hairpins(folded, seed=seed + 1, **changes)
    return Ensemble.from_arrays(SYSTEM, list(frames), frame_interval=1.0, name=name)


def scored(ensemble, **changes):
    return score(
        ensemble, bundle(), protocol=PROTOCOL, seed=SEED, reference=statistics(), **changes
    )


def values(row):
    return {name: metric.value for name, metric in row.result.metrics.items()}
