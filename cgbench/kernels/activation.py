"""The hyperbolic tangent of arrays, in loops that use vector instructions."""

import math
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike

from cgbench.kernels.compiled import compiled

#: tanh x = x P(x²)/Q(x²) for |x| up to 9, where single precision rounds it to ±1; P and Q from the
#: constant term on. A minimax fit of the relative error, 2e-8; evaluated in single precision the
#: relative error is below 4e-7.
NUMERATOR: Final = (
    0.9999999794512008, 0.13381025560734555, 0.0034955880602060233, 2.0609081977155447e-05,
    1.3354662081557156e-08,
)  # fmt: skip
DENOMINATOR: Final = (
    1.0, 0.4671434115205389, 0.02587698187951553, 0.000328563474465426, 7.776558335271978e-07,
)  # fmt: skip
LARGEST: Final = 9.0

#: Constants of the rational function in the precision of the arrays; None for the library's tanh.
Rational = tuple[Any, ...] | None


def rational(dtype: DTypeLike) -> Rational:
    """Return what the loops of this module take for arrays of a precision.

    In double precision the fit would be the largest error of all, so the library's function is
    used there.
    """
    if np.dtype(dtype) != np.float32:
        return None
    return tuple(np.float32(value) for value in (*NUMERATOR, *DENOMINATOR, LARGEST))


@compiled
def add_bias_tanh(rows: Any, bias: Any, constants: Any) -> None:
    """Replace rows (n, width) by tanh(rows + bias), with bias (width,)."""
    for i in range(rows.shape[0]):
        row = rows[i]
        if constants is None:
            for k in range(row.shape[0]):
                row[k] = math.tanh(row[k] + bias[k])
        else:
            p0, p1, p2, p3, p4, q0, q1, q2, q3, q4, largest = constants
            for k in range(row.shape[0]):
                x = row[k] + bias[k]
                # Written so that what is not a number stays so.
                x = largest if x > largest else x
                x = -largest if x < -largest else x
                u = x * x
                top = p0 + u * (p1 + u * (p2 + u * (p3 + u * p4)))
                bottom = q0 + u * (q1 + u * (q2 + u * (q3 + u * q4)))
                row[k] = x * top / bottom


@compiled
def times_tanh_slope(rows: Any, active: Any) -> None:
    """Multiply rows (n, width) by 1 − active², the slope of tanh where it is ``active``."""
    for i in range(rows.shape[0]):
        row, value = rows[i], active[i]
        for k in range(row.shape[0]):
            row[k] -= row[k] * value[k] * value[k]
