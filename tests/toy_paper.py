"""Markov chains of known populations, passages and fluxes, embedded in chains of beads."""

from functools import cache

import numpy as np
from toy_reference import COIL, NATIVE

from cgbench import registry
from cgbench.evaluate import Ensemble
from cgbench.evaluate.reference_analysis import ReferenceInput
from cgbench.evaluate.reference_build import build_from_trajectories

#: A helix of ten beads with bonds of 3.8 Å.
_TURNS = np.radians(100.0) * np.arange(10)
HELIX = np.stack([2.3 * np.cos(_TURNS), 2.3 * np.sin(_TURNS), 1.5 * np.arange(10)], axis=1).astype(
    np.float32
)
#: Unfolded, intermediate, native.
SHAPES = np.stack([COIL, HELIX, NATIVE])
NATIVE_STATE = 2

#: Reversible three-state chain at one frame: no passage between the outer states.
THREE = np.array([[0.96, 0.04, 0.0], [0.02, 0.94, 0.04], [0.0, 0.02, 0.98]])


def stationary(transition):
    """Probabilities of a chain that each state leaves and enters only by its neighbours."""
    values, vectors = np.linalg.eig(transition.T)
    found = np.real(vectors[:, np.argmax(np.real(values))])
    return found / found.sum()


def hidden(transition, n_trajectories, n_frames, seed, start=0):
    """(n_trajectories, n_frames) states of the chain, all trajectories starting in one state."""
    generator = np.random.default_rng(seed)
    edges = np.cumsum(transition, axis=1)
    states = np.full((n_trajectories, n_frames), start)
    for frame in range(1, n_frames):
        draw = generator.random(n_trajectories)
        states[:, frame] = (draw[:, None] >= edges[states[:, frame - 1]]).sum(axis=1)
    return states


def embedded(states, shapes, seed, scale=0.1):
    """Coordinates of the states: a shape for each, and noise."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(scale=scale, size=(*states.shape, *shapes.shape[1:]))
    return (shapes[states] + noise).astype(np.float32)


def bundle_of(system, shapes, states, native, seed=0, **settings):
    """A reference bundle of a chain, frames 1 ps apart."""
    entry = registry.system(system)
    analysis = entry.analysis.model_copy(
        update={
            "tica_lag_ps": 2.0,
            "tica_dimensions": 3,
            "msm_lag_ps": 2.0,
            "n_microstates": 12,
            "n_macrostates": len(shapes),
            **settings,
        }
    )
    source = ReferenceInput(
        system=entry.model_copy(update={"analysis": analysis}),
        trajectories=list(embedded(states, shapes, seed)),
        valid=np.ones(states.size, dtype=bool),
        native=native,
        frame_interval=1.0,
        store_fingerprint="sha256:" + "0" * 64,
    )
    return build_from_trajectories(source, n_resamples=4)


@cache
def three_state_bundle():
    """A bundle of the three-state chain in the embedded sample's place."""
    return bundle_of("chignolin-sample", SHAPES, hidden(THREE, 80, 150, seed=11), NATIVE)


def three_state_ensemble(n_trajectories=32, n_frames=600, seed=5, energy=None, interval=2.0):
    """The hidden states and an ensemble of the three-state chain, with energies by state."""
    states = hidden(THREE, n_trajectories, n_frames, seed)
    energies = None
    if energy is not None:
        noise = np.random.default_rng(seed).normal(scale=0.3, size=states.shape)
        energies = list((np.asarray(energy)[states] + noise).astype(np.float32))
    return states, Ensemble.from_arrays(
        "chignolin-sample",
        list(embedded(states, SHAPES, seed)),
        frame_interval=interval,
        network_energy=energies,
        name="chain",
    )
