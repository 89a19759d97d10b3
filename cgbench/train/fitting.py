"""The prior of one or several systems, fitted on the training parts with equilibrium weights."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cgbench.data.module import frames_of_stride
from cgbench.errors import ValidationError
from cgbench.evaluate import ReferenceBundle, frame_weights
from cgbench.priors import (
    PriorData,
    PriorFitSettings,
    PriorParameters,
    fit_priors,
    fit_transferable_prior,
    plot_priors,
    plot_transferable_prior,
    pooled_histograms,
)
from cgbench.progress import Progress, silent
from cgbench.splits import Split
from cgbench.store import SystemStore
from cgbench.train.material import Material

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def training_weights(
    store: SystemStore, split: Split, bundle: ReferenceBundle | None, stride: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the training frames and their weights from an MSM of the training part alone.

    The reference bundle's microstates are kept, but its transition counts of validation and test
    trajectories are not used: they must not leak into the prior. Where the split does not hold
    whole trajectories, all frames weigh the same and no bundle is needed.

    Args:
        store: The store.
        split: Its split.
        bundle: Its reference; None where the split is not of whole trajectories.
        stride: Every so many frames of each trajectory.

    Raises:
        ValidationError: The bundle is of other frames, or no training frame has weight.
    """
    frames = split.frames("train")
    frames = frames[store.valid[frames]]
    frames = frames[frames_of_stride(store, frames, stride)]
    if split.trajectories is None or bundle is None:
        weights = np.ones(len(frames))
    elif bundle.metadata.n_frames != store.n_frames:
        raise ValidationError(
            f"{store.path}: the reference bundle of {bundle.system} is of another store",
            expected=f"{store.n_frames} frames",
            found=f"{bundle.metadata.n_frames} frames",
            fix="build the reference of the store that is trained on",
        )
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
    store: SystemStore,
    split: Split,
    bundle: ReferenceBundle | None,
    settings: PriorFitSettings,
    stride: int = 1,
) -> PriorParameters:
    """Fit bonds, repulsion and dihedrals of one system by weighted Boltzmann inversion."""
    frames, weights = training_weights(store, split, bundle, stride)
    return fit_priors(
        store.coordinates()[frames],
        weights,
        np.asarray(store.bead_types),
        store.metadata.temperature,
        settings,
    )


def fit_material_prior(
    material: Material, progress: Progress = silent
) -> tuple[PriorParameters, "Figure"]:
    """Fit the prior of a run, and draw what each of its terms was fitted to.

    Of several systems, or without a left-out one, it is common to all sequences of the vocabulary.

    Raises:
        ValidationError: Temperatures differ, or frames do not determine a term.
    """
    run = material.settings
    if not material.together:
        (only,) = material.systems
        prior = fit_system_prior(only.store, only.split, only.bundle, run.prior, only.stride)
        frames, weights = training_weights(only.store, only.split, only.bundle, only.stride)
        types = np.asarray(only.store.bead_types)
        return prior, plot_priors(
            prior, only.store.coordinates()[frames], weights, types, run.prior
        )
    parts = []
    for item in material.training:
        frames, weights = training_weights(item.store, item.split, item.bundle, item.stride)
        parts.append(PriorData.from_store(item.store, item.split, frames, weights))
    pooled = pooled_histograms(parts, run.prior, balance=run.balance, progress=progress)
    prior = fit_transferable_prior(
        pooled, run.prior, balance=run.balance, left_out=run.left_out, progress=progress
    )
    return prior, plot_transferable_prior(prior, pooled, run.prior)
