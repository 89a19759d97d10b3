"""A small reference simulation with known answers: a hairpin that folds as a two-state chain."""

import numpy as np

from cgbench import registry
from cgbench.evaluate.reference import ReferenceInput

#: A hairpin of ten beads with bonds of 3.8 Å.
NATIVE = np.array(
    [
        [5.471, 1.010, 3.534],
        [3.164, 0.717, 0.442],
        [0.529, -2.140, 0.282],
        [0.755, -3.718, -3.237],
        [-3.077, -4.675, -3.573],
        [-4.573, -1.273, -2.736],
        [-1.627, 1.227, -3.404],
        [-2.218, 2.789, 0.161],
        [0.661, 3.853, 2.508],
        [0.915, 2.210, 6.023],
    ],
    dtype=np.float32,
)
#: A stretched chain.
COIL = np.stack(
    [3.3 * np.arange(10), 1.9 * (np.arange(10) % 2), 0.3 * (np.arange(10) % 3)], axis=1
).astype(np.float32)

#: Probabilities a frame of folding and of unfolding.
FOLDING, UNFOLDING = 0.01, 0.02
FOLDED_POPULATION = FOLDING / (FOLDING + UNFOLDING)
TIMESCALE = -1.0 / np.log(1.0 - FOLDING - UNFOLDING)


def hidden_states(n_trajectories, n_frames, generator):
    """Whether each frame is folded; all trajectories start folded, far from equilibrium."""
    folded = np.ones((n_trajectories, n_frames), dtype=bool)
    for frame in range(1, n_frames):
        draw = generator.random(n_trajectories)
        before = folded[:, frame - 1]
        folded[:, frame] = np.where(before, draw >= UNFOLDING, draw < FOLDING)
    return folded


def toy_input(seed=0, n_trajectories=250, n_frames=40, **settings):
    """Trajectories of the chain, with small settings, and the hidden states."""
    generator = np.random.default_rng(seed)
    folded = hidden_states(n_trajectories, n_frames, generator)
    frames = np.where(folded[..., None, None], NATIVE, COIL)
    frames = frames + generator.normal(scale=0.12, size=frames.shape)
    sample = registry.system("chignolin-sample")
    analysis = sample.analysis.model_copy(
        update={
            "tica_lag_ps": 3.0,
            "msm_lag_ps": 3.0,
            "tica_dimensions": 2,
            "n_microstates": 8,
            "n_macrostates": 2,
            **settings,
        }
    )
    source = ReferenceInput(
        system=sample.model_copy(update={"analysis": analysis}),
        trajectories=list(frames.astype(np.float32)),
        valid=np.ones(n_trajectories * n_frames, dtype=bool),
        native=NATIVE,
        frame_interval=1.0,
        store_fingerprint="sha256:" + "0" * 64,
    )
    return source, folded
