"""The rotation that superposes best, from the covariance of two sets of points.

Imported inside functions, because it imports the compiler.
"""

from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from cgbench.kernels.compiled import compiled

#: Rows of a 3×3 matrix, one after the other.
Matrix: TypeAlias = tuple[Any, Any, Any, Any, Any, Any, Any, Any, Any]
Quaternion: TypeAlias = tuple[float, float, float, float]

_NEWTON_STEPS: Final = 50
_NEWTON_TOLERANCE: Final = 1e-11
#: An eigenvector is read off the adjugate where its column is at least this long, relative to the
#: cube of the eigenvalue; below, eigenvalues nearly coincide.
_SHORTEST_COLUMN: Final = 1e-3
_JACOBI_SWEEPS: Final = 30


@compiled
def best_rotation(covariance: Matrix) -> Matrix:
    """Return the rotation R for which Σ w |R x − y|² is least.

    It is the largest eigenvector of the quaternion matrix (Horn, J. Opt. Soc. Am. A 4, 629, 1987).
    The eigenvalue comes from its characteristic polynomial by Newton's method from above and the
    eigenvector from the adjugate matrix (Theobald, Acta Cryst. A61, 478, 2005; Liu, Agrafiotis and
    Theobald, J. Comput. Chem. 31, 1561, 2010); where eigenvalues nearly coincide, both come from
    Jacobi rotations.

    Args:
        covariance: Σ w x ⊗ y of centred points, the rows first, Å².

    Returns:
        The rows of R.
    """
    a, b, c, d, e, f, g, h, i = covariance
    cofactor_norm = (
        (e * i - f * h) ** 2 + (f * g - d * i) ** 2 + (d * h - e * g) ** 2
        + (c * h - b * i) ** 2 + (a * i - c * g) ** 2 + (b * g - a * h) ** 2
        + (b * f - c * e) ** 2 + (c * d - a * f) ** 2 + (a * e - b * d) ** 2
    )  # fmt: skip
    norm = a * a + b * b + c * c + d * d + e * e + f * f + g * g + h * h + i * i
    determinant = a * (e * i - f * h) + b * (f * g - d * i) + c * (d * h - e * g)
    root = np.sqrt(norm + 2.0 * np.sqrt(3.0 * cofactor_norm))
    constant = norm * norm - 4.0 * cofactor_norm
    for _ in range(_NEWTON_STEPS):
        square = root * root
        value = (square - 2.0 * norm) * square - 8.0 * determinant * root + constant
        slope = 4.0 * (square - norm) * root - 8.0 * determinant
        if slope <= 0.0:
            break
        step = value / slope
        root -= step
        if abs(step) <= _NEWTON_TOLERANCE * root:
            break
    n01, n02, n03 = f - h, g - c, b - d
    n12, n13, n23 = b + d, c + g, f + h
    n00, n11, n22, n33 = a + e + i, a - e - i, e - a - i, i - a - e
    q, found = _eigenvector(
        (n00 - root, n11 - root, n22 - root, n33 - root), (n01, n02, n03, n12, n13, n23), root
    )
    if not found:
        q = _jacobi((n00, n11, n22, n33), (n01, n02, n03, n12, n13, n23))
    w, x, y, z = q
    return (
        w * w + x * x - y * y - z * z, 2.0 * (x * y - w * z), 2.0 * (x * z + w * y),
        2.0 * (x * y + w * z), w * w - x * x + y * y - z * z, 2.0 * (y * z - w * x),
        2.0 * (x * z - w * y), 2.0 * (y * z + w * x), w * w - x * x - y * y + z * z,
    )  # fmt: skip


@compiled
def _eigenvector(
    diagonal: Quaternion, others: tuple[float, float, float, float, float, float], root: float
) -> tuple[Quaternion, bool]:
    """Return a long enough column of the adjugate of a singular symmetric 4×4 matrix, as a unit."""
    a, b, c, d = diagonal
    ab, ac, ad, bc, bd, cd = others
    shortest = (_SHORTEST_COLUMN * root * root * root) ** 2
    for column in range(4):
        # Minors of rows two by two; the matrix is permuted so that `column` comes first.
        if column == 0:
            q, r, s, pq, pr, ps, qr, qs, rs = b, c, d, ab, ac, ad, bc, bd, cd
        elif column == 1:
            q, r, s, pq, pr, ps, qr, qs, rs = a, c, d, ab, bc, bd, ac, ad, cd
        elif column == 2:
            q, r, s, pq, pr, ps, qr, qs, rs = b, a, d, bc, ac, cd, ab, bd, ad
        else:
            q, r, s, pq, pr, ps, qr, qs, rs = b, c, a, bd, cd, ad, bc, ab, ac
        first = q * (r * s - rs * rs) - qr * (qr * s - rs * qs) + qs * (qr * rs - r * qs)
        second = -(pq * (r * s - rs * rs) - qr * (pr * s - rs * ps) + qs * (pr * rs - r * ps))
        third = pq * (qr * s - rs * qs) - q * (pr * s - rs * ps) + qs * (pr * qs - qr * ps)
        fourth = -(pq * (qr * rs - r * qs) - q * (pr * rs - r * ps) + qr * (pr * qs - qr * ps))
        length = first * first + second * second + third * third + fourth * fourth
        if length > shortest:
            scale = 1.0 / np.sqrt(length)
            first, second, third, fourth = (
                first * scale, second * scale, third * scale, fourth * scale,
            )  # fmt: skip
            if column == 0:
                return (first, second, third, fourth), True
            if column == 1:
                return (second, first, third, fourth), True
            if column == 2:
                return (third, second, first, fourth), True
            return (fourth, second, third, first), True
    return (1.0, 0.0, 0.0, 0.0), False


@compiled
def _jacobi(
    diagonal: Quaternion, others: tuple[float, float, float, float, float, float]
) -> Quaternion:
    """Return the unit eigenvector of the largest eigenvalue of a symmetric 4×4 matrix."""
    matrix = np.zeros((4, 4))
    vectors = np.eye(4)
    position = 0
    for row in range(4):
        matrix[row, row] = diagonal[row]
        for column in range(row + 1, 4):
            matrix[row, column] = matrix[column, row] = others[position]
            position += 1
    for _ in range(_JACOBI_SWEEPS):
        rest = 0.0
        for row in range(4):
            for column in range(row + 1, 4):
                rest += matrix[row, column] ** 2
        if rest == 0.0:
            break
        for row in range(4):
            for column in range(row + 1, 4):
                _turn(matrix, vectors, row, column)
    largest = 0
    for row in range(4):
        if matrix[row, row] > matrix[largest, largest]:
            largest = row
    return (
        vectors[0, largest], vectors[1, largest], vectors[2, largest], vectors[3, largest],
    )  # fmt: skip


@compiled
def _turn(matrix: NDArray[Any], vectors: NDArray[Any], p: int, q: int) -> None:
    """Zero one element off the diagonal by a plane rotation (Golub and Van Loan, §8.5)."""
    if matrix[p, q] == 0.0:
        return
    theta = 0.5 * (matrix[q, q] - matrix[p, p]) / matrix[p, q]
    tangent = 1.0 / (abs(theta) + np.sqrt(theta * theta + 1.0))
    if theta < 0.0:
        tangent = -tangent
    cosine = 1.0 / np.sqrt(tangent * tangent + 1.0)
    sine = tangent * cosine
    for k in range(4):
        first, second = matrix[k, p], matrix[k, q]
        matrix[k, p], matrix[k, q] = cosine * first - sine * second, sine * first + cosine * second
    for k in range(4):
        first, second = matrix[p, k], matrix[q, k]
        matrix[p, k], matrix[q, k] = cosine * first - sine * second, sine * first + cosine * second
        first, second = vectors[k, p], vectors[k, q]
        vectors[k, p], vectors[k, q] = (
            cosine * first - sine * second,
            sine * first + cosine * second,
        )
