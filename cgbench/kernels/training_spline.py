"""Spline coefficients of many functions at once, and the gradient back to their values.

The coefficients are those of :func:`cgbench.kernels.spline.spline_coefficients`: a linear function
of the values at the knots and the slopes at both ends. With its first and last row halved the
system of equations is symmetric, so that the same solution serves both ways.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.compiled import compiled


@compiled
def _solve(rows: Any) -> None:
    """Solve for rows (n, width) in place: 1, 4, 1 on three diagonals, 2 in the two corners."""
    n, width = rows.shape
    pivots = np.empty(n)
    pivots[0] = 2.0
    for i in range(1, n):
        pivots[i] = (2.0 if i == n - 1 else 4.0) - 1.0 / pivots[i - 1]
        factor = 1.0 / pivots[i - 1]
        for k in range(width):
            rows[i, k] -= factor * rows[i - 1, k]
    for k in range(width):
        rows[n - 1, k] /= pivots[n - 1]
    for i in range(n - 2, -1, -1):
        factor = 1.0 / pivots[i]
        for k in range(width):
            rows[i, k] = (rows[i, k] - rows[i + 1, k]) * factor


def coefficients_from(
    values: NDArray[np.float64], first_slope: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return coefficients (n + 3, width) of splines through values, flat at the last knot.

    Args:
        values: (n + 1, width) at equally distant knots.
        first_slope: (width,) change over one interval at the first knot.
    """
    rows = 6.0 * values
    rows[0] = 3.0 * values[0] + first_slope
    rows[-1] = 3.0 * values[-1]
    _solve(rows)
    return np.concatenate([rows[1:2] - 2.0 * first_slope, rows, rows[-2:-1]])


def gradient_to_values(
    gradient: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gradients by values (n + 1, width) and first slope (width,) from coefficients'.

    Args:
        gradient: (n + 3, width) by the coefficients.
    """
    rows = gradient[1:-1].copy()
    rows[1] += gradient[0]
    rows[-2] += gradient[-1]
    _solve(rows)
    first_slope = rows[0] - 2.0 * gradient[0]
    rows[1:-1] *= 6.0
    rows[0] *= 3.0
    rows[-1] *= 3.0
    return rows, first_slope
