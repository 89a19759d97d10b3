"""Cubic B-splines on equal intervals, for functions of one distance that are looked up.

A spline of n intervals is kept as n + 3 coefficients for each function, four of which are mixed for
each value. That is a quarter of what piecewise polynomials take, so that a table stays in the
processor's cache. C. de Boor, A Practical Guide to Splines, Springer (1978), chapters IX and XIII.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_banded


def spline_coefficients(
    values: NDArray[np.float64], first_slope: NDArray[np.float64], last_slope: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the coefficients of the splines through values at equally distant knots.

    Args:
        values: (n + 1, n_functions) at the knots.
        first_slope: (n_functions,) change over one interval at the first knot.
        last_slope: (n_functions,) the same at the last knot.

    Returns:
        (n + 3, n_functions). Between knots k and k + 1, rows k to k + 3 are mixed with
        :func:`spline_weights`.
    """
    n = len(values) - 1
    # Values are (c_k + 4 c_{k+1} + c_{k+2}) / 6; slopes (c_{k+2} - c_k) / 2 remove the two
    # coefficients outside, so that what is left is tridiagonal.
    right = 6.0 * values.copy()
    right[0] += 2.0 * first_slope
    right[n] -= 2.0 * last_slope
    bands = np.ones((3, n + 1))
    bands[1] = 4.0
    bands[0, 1] = bands[2, n - 1] = 2.0
    inner = solve_banded((1, 1), bands, right)
    return np.concatenate(
        [inner[1:2] - 2.0 * first_slope, inner, inner[n - 1 : n] + 2.0 * last_slope]
    )


def spline_weights(t: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the four weights of values and of slopes per interval, (n, 4) each.

    Args:
        t: (n,) place within an interval, from 0 to 1.
    """
    s = 1.0 - t
    value = [s**3, 3.0 * t**3 - 6.0 * t**2 + 4.0, 3.0 * s**3 - 6.0 * s**2 + 4.0, t**3]
    slope = [-3.0 * s**2, 9.0 * t**2 - 12.0 * t, 12.0 * s - 9.0 * s**2, 3.0 * t**2]
    return np.stack(value, axis=1) / 6.0, np.stack(slope, axis=1) / 6.0


def spline_values(
    coefficients: NDArray[np.float64], scaled: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return values and slopes per interval, (n, n_functions) each.

    Args:
        coefficients: (n_intervals + 3, n_functions).
        scaled: (n,) distances from the first knot in intervals.
    """
    interval = np.clip(scaled.astype(np.int64), 0, len(coefficients) - 4)
    value, slope = spline_weights(scaled - interval)
    rows = coefficients[interval[:, None] + np.arange(4)]
    return np.einsum("nk,nkf->nf", value, rows), np.einsum("nk,nkf->nf", slope, rows)
