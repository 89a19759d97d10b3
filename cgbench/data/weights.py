"""How often proteins and frames come: weights for sampling, not for the loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import FrameTensors
from cgbench.data.order import check_weights
from cgbench.errors import UsageError, ValidationError
from cgbench.progress import Progress, silent

#: ``frames``: each frame equally often. ``uniform``: each protein equally often. ``sqrt``: between
#: the two, by the square root of its number of frames. Else relative weights of the proteins.
ProteinWeights = Literal["frames", "uniform", "sqrt"] | Sequence[float] | Mapping[str, float]
#: Weights of a dataset's frames, or what computes those of some frames.
FrameWeights = NDArray[np.float64] | Callable[[FrameTensors], NDArray[np.float64]]


def protein_shares(
    datasets: Sequence[ProteinForcesDataset], weights: ProteinWeights
) -> NDArray[np.float64]:
    """Return the share of each dataset in an epoch (n_datasets,); they add up to 1.

    Raises:
        UsageError: An unknown word, or a mapping that does not name each system once.
        ValidationError: Another number of weights, or one that is not above zero.
    """
    lengths = np.array([len(dataset) for dataset in datasets], dtype=np.float64)
    powers = {"frames": 1.0, "sqrt": 0.5, "uniform": 0.0}
    if isinstance(weights, str):
        if weights not in powers:
            raise UsageError(
                f"weights of proteins: no rule {weights!r}", expected=" or ".join(powers)
            )
        found = lengths ** powers[weights]
    elif isinstance(weights, Mapping):
        systems = [dataset.system for dataset in datasets]
        if sorted(weights) != sorted(systems):
            raise UsageError(
                "weights of proteins: not one for each system",
                expected=", ".join(systems),
                found=", ".join(weights),
            )
        found = np.array([weights[system] for system in systems], dtype=np.float64)
    else:
        found = np.array(weights, dtype=np.float64)
    found = check_weights(found, len(datasets), "weights of proteins")
    if (found <= 0).any():
        raise ValidationError(
            "weights of proteins", expected="above zero; leave a protein out to have none of it"
        )
    shares: NDArray[np.float64] = found / found.sum()
    return shares


def weights_of_frames(
    dataset: ProteinForcesDataset, weights: FrameWeights, progress: Progress = silent
) -> NDArray[np.float64]:
    """Return the weights of a dataset's frames (n_frames,), from an array or a function of frames.

    A function gets a block of frames at a time, so that a dataset of any size will do. Frames are
    then drawn in proportion: divide the loss by the weights where its mean should stay what it is.

    Args:
        dataset: The frames.
        weights: Weights (n_frames,), or a function from ``FrameTensors`` to weights of these.
        progress: Told after every block.

    Raises:
        ValidationError: They are of another shape, negative, not finite or all zero.
    """
    what = f"weights of frames of {dataset.system}"
    if not callable(weights):
        return check_weights(weights, len(dataset), what)
    found = np.empty(len(dataset))
    # In the order of the store, so that each chunk is read once.
    order = np.argsort(dataset.frames, kind="stable")
    for start in range(0, len(order), dataset.block_frames):
        rows = order[start : start + dataset.block_frames]
        values = np.asarray(weights(dataset.read(rows)), dtype=np.float64)
        if values.shape != rows.shape:
            raise ValidationError(what, expected=rows.shape, found=values.shape)
        found[rows] = values
        progress(what, start + len(rows), len(order))
    return check_weights(found, len(dataset), what)


def inverse_density(
    values: NDArray[np.float64], bins: int = 50, power: float = 1.0
) -> NDArray[np.float64]:
    """Return weights (n,) that even out the distribution of a coordinate.

    The weight of a frame is h^−power, where h is the number of frames in its bin of a histogram of
    equal bins: with power 1 each bin that holds frames is drawn equally often, with 0 each frame.

    Args:
        values: A collective coordinate of each frame (n,), for instance a distance or a
            time-lagged independent component.
        bins: Number of bins between the least and the largest value.
        power: How far the distribution is evened out.

    Raises:
        ValidationError: A value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValidationError("inverse density", expected="finite values")
    edges = np.histogram_bin_edges(values, bins)
    member = np.clip(np.digitize(values, edges[1:-1]), 0, bins - 1)
    height = np.bincount(member, minlength=bins)[member].astype(np.float64)
    return np.asarray(height**-power, dtype=np.float64)
