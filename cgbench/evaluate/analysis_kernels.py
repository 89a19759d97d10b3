"""Compiled loops of the analysis: the nearest of many centres.

Importing this module takes half a second: import it inside functions.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.compiled import compiled


@compiled
def nearest_centres(
    points: NDArray[Any],
    centres: NDArray[np.float64],
    order: NDArray[np.int64],
    labels: NDArray[np.int32],
    distances: NDArray[np.float32],
) -> None:
    """Find the nearest centre of each point, the lowest label among equals.

    Centres come in ascending order of their first coordinate: from the place of a point in it the
    search goes both ways until the first coordinate alone is further off than the best.

    Args:
        points: (n, d) finite points.
        centres: (k, d) in ascending order of the first coordinate.
        order: (k,) labels of the centres in that order.
        labels: (n,) filled.
        distances: (n,) filled.
    """
    n_centres, dimensions = centres.shape
    for index in range(len(points)):
        position = float(points[index, 0])
        low, high = 0, n_centres
        while low < high:
            middle = (low + high) // 2
            if centres[middle, 0] < position:
                low = middle + 1
            else:
                high = middle
        best, label = np.inf, 0
        down, up = low - 1, low
        while True:
            below = position - centres[down, 0] if down >= 0 else np.inf
            above = centres[up, 0] - position if up < n_centres else np.inf
            nearer = min(below, above)
            if not nearer * nearer <= best:
                break
            if below <= above:
                place = down
                down -= 1
            else:
                place = up
                up += 1
            squared = 0.0
            for axis in range(dimensions):
                gap = float(points[index, axis]) - centres[place, axis]
                squared += gap * gap
            if squared < best or (squared == best and order[place] < label):
                best, label = squared, order[place]
            if down < 0 and up >= n_centres:
                break
        labels[index] = label
        distances[index] = np.sqrt(best)
