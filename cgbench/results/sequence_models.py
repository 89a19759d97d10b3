"""What a result says of the models that a sampler draws of one sequence."""

from typing import Annotated, Literal

import pydantic

from cgbench.config import Frozen
from cgbench.results.fields import Count, Fraction, NotNegative, Positive


class SequenceModels(Frozen):
    """Models of one sequence, clustered; few clusters say that a sampler is sure of itself.

    Attributes:
        n_models: Models drawn.
        n_finite: Those that are finite, which are clustered.
        n_clusters: Clusters of similar models.
        measure: What similarity is: the TM-score, or for short chains the RMSD.
        threshold: Where clusters end, in the measure's unit.
        largest: Share of the finite models in the largest cluster.
        representative_rmsd: RMSD to the native structure, in Å, of the model that stands for the
            largest cluster.
        representative_tm: Its TM-score; None for chains that are too short for one.
        mean_rmsd: Mean RMSD of all finite models.
        mean_tm: Their mean TM-score.
        best_tm: The highest TM-score of any, which no choice among them can surpass.
        seconds_per_sample: Wall time of one model.
    """

    n_models: Annotated[int, pydantic.Field(ge=1)]
    n_finite: Count
    n_clusters: Annotated[int, pydantic.Field(ge=1)]
    measure: Literal["tm_score", "rmsd"]
    threshold: Positive
    largest: Fraction
    representative_rmsd: NotNegative
    representative_tm: Fraction | None = None
    mean_rmsd: NotNegative
    mean_tm: Fraction | None = None
    best_tm: Fraction | None = None
    seconds_per_sample: NotNegative | None = None
