"""The prior of a system, fitted on the training part with equilibrium weights."""

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate import ReferenceBundle, frame_weights
from cgbench.priors import PriorFitSettings, PriorParameters, fit_priors
from cgbench.splits import Split
from cgbench.store import SystemStore


def training_weights(
    store: SystemStore, split: Split, bundle: ReferenceBundle
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the training frames and their weights from an MSM of the training part alone.

    The reference bundle's microstates are kept, but its transition counts of validation and test
    trajectories are not used: they must not leak into the prior.

    Raises:
        ValidationError: The split does not hold whole trajectories, or none has weight.
    """
    frames = split.frames("train")
    frames = frames[store.valid[frames]]
    if split.trajectories is None:
        weights = np.ones(len(frames))
    else:
        weights = frame_weights(bundle, split.trajectories["train"])[frames]
    total = float(weights.sum())
    if not total > 0.0:
        raise ValidationError(
            f"{store.path}: no training frame has equilibrium weight",
            fix="use a split whose training trajectories are connected with the reference",
        )
    return frames, weights / total


def fit_system_prior(
    store: SystemStore, split: Split, bundle: ReferenceBundle, settings: PriorFitSettings
) -> PriorParameters:
    """Fit bonds, repulsion and dihedrals of one system by weighted Boltzmann inversion."""
    frames, weights = training_weights(store, split, bundle)
    return fit_priors(
        store.coordinates()[frames],
        weights,
        np.asarray(store.bead_types),
        store.metadata.temperature,
        settings,
    )
