"""The compiled loops behind histograms of many resamples at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.compiled import compiled


@compiled
def add_weights(
    first: NDArray[Any], steps: NDArray[Any], weights: NDArray[Any], result: NDArray[Any]
) -> None:
    """Add each frame's weights to the rows of the bins that it is counted in.

    Args:
        first: (k,) the lowest bin of each count.
        steps: (k, m) one more than the bins above it, 0 for none.
        weights: (m, n_columns).
        result: (n_bins, n_columns), added to.
    """
    n_columns = weights.shape[1]
    for count in range(steps.shape[0]):
        for frame in range(steps.shape[1]):
            step = steps[count, frame]
            if step > 0:
                row = first[count] + np.int64(step) - 1
                for column in range(n_columns):
                    result[row, column] += weights[frame, column]


@compiled
def add_cells(
    bounds: NDArray[Any],
    rows: NDArray[Any],
    values: NDArray[Any],
    trajectory: NDArray[Any],
    microstate: NDArray[Any],
    taken: NDArray[Any],
    weights: NDArray[Any],
    result: NDArray[Any],
) -> None:
    """Add the counts of every cell, times the weight of its frames, to rows of the result.

    The weights of all cells are never held together: there are as many as frames.

    Args:
        bounds: (n_cells + 1,) where the entries of each cell begin.
        rows: (n_entries,) row that an entry is added to.
        values: (n_entries,) counts or sums.
        trajectory: (n_cells,) trajectory of each cell.
        microstate: (n_cells,) microstate of each cell.
        taken: (n_trajectories, n_columns) multiplicities.
        weights: (n_states, n_columns) weight of a frame in each microstate.
        result: (n_rows, n_columns), added to.
    """
    n_columns = taken.shape[1]
    own = np.empty(n_columns)
    for cell in range(len(trajectory)):
        for column in range(n_columns):
            own[column] = taken[trajectory[cell], column] * weights[microstate[cell], column]
        for entry in range(bounds[cell], bounds[cell + 1]):
            value = values[entry]
            # Most sums of most cells are zero: few frames lie outside the edges.
            if value == 0:
                continue
            for column in range(n_columns):
                result[rows[entry], column] += value * own[column]
