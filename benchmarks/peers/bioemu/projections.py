"""Made-up projections on two slow coordinates, the same in every environment.

Points are quantiles of Gaussians along a sequence without chance, so that they depend on no random
generator and its version. Coordinates are in standard deviations of the reference, about.
"""

import numpy as np
import scipy.special

REFERENCE_POINTS, MODEL_POINTS = 20000, 5000

#: Weight, centre and width along both axes of each basin.
REFERENCE = (
    (0.55, (-0.9, 0.2), (0.35, 0.45)),
    (0.35, (1.0, -0.6), (0.40, 0.35)),
    (0.10, (0.4, 1.6), (0.25, 0.30)),
)
MODELS = {
    "same": REFERENCE,
    "shifted": tuple((weight, (x + 0.4, y - 0.2), width) for weight, (x, y), width in REFERENCE),
    "wrong populations": tuple(
        (weight, centre, width)
        for weight, (_, centre, width) in zip((0.15, 0.25, 0.60), REFERENCE, strict=True)
    ),
    "one basin missing": REFERENCE[:1],
    "too wide": ((1.0, (0.0, 0.0), (2.0, 2.0)),),
    "far away": ((1.0, (-6.0, -6.0), (0.3, 0.3)),),
}


def points(basins, number: int) -> np.ndarray:
    """Points of a mixture of Gaussians, (number, 2).

    Additive recurrence with powers of the inverse of the root of x⁴ = x + 1, whose points fill the
    cube evenly.
    """
    root = 1.2207440846057596
    steps = np.array([root**-1, root**-2, root**-3])
    places = (0.5 + np.arange(1, number + 1)[:, None] * steps) % 1.0
    bounds = np.cumsum([weight for weight, _, _ in basins])
    chosen = np.minimum(np.searchsorted(bounds, places[:, 0], side="right"), len(basins) - 1)
    centres = np.array([centre for _, centre, _ in basins])[chosen]
    widths = np.array([width for _, _, width in basins])[chosen]
    return centres + widths * scipy.special.ndtri(places[:, 1:])


def cases() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Projections of the model and of the reference by case."""
    reference = points(REFERENCE, REFERENCE_POINTS)
    return {name: (points(basins, MODEL_POINTS), reference) for name, basins in MODELS.items()}
