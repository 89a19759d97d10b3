"""What the benchmark of synthetic systems trains and scores, in three sizes."""

from typing import Final, Literal

from cgbench.config import Frozen
from cgbench.models import GraphNetworkSettings, PairSplineSettings
from cgbench.registry import Protocol
from cgbench.testing.synthetic import SyntheticSettings
from cgbench.testing.synthetic_natives import PROTEINS, VARIANTS
from cgbench.train import OptimiserSettings, TrainingConfig
from cgbench.train.pair_spline import PairSplineConfig

Size = Literal["full", "quick", "least"]

MULTI_PROTEIN: Final = "multi-protein"
PAIR_SPLINE: Final = "pair-spline"


class Case(Frozen):
    """One size of the benchmark.

    Attributes:
        systems: Proteins to train on together, and each to leave out once.
        variants: Variants to test on.
        data: How large the stores are.
        network: Shape of all networks; far smaller than the reference architecture.
        optimiser: How they are trained.
        frame_stride: Every how many frames train.
        length: ps of each replica that is scored.
        n_resamples: Resamples of the scores.
    """

    systems: tuple[str, ...] = PROTEINS
    variants: tuple[str, ...] = tuple(VARIANTS)
    data: SyntheticSettings = SyntheticSettings()
    network: GraphNetworkSettings = GraphNetworkSettings(
        embedding_dimension=32, num_filters=32, num_layers=2, num_rbf=12, max_bead_type=23
    )
    optimiser: OptimiserSettings = OptimiserSettings(
        learning_rate=2e-3, factor=0.5, patience=2, batch_size=128, maximum_epochs=15
    )
    frame_stride: int = 4
    length: float = 240.0
    n_resamples: int = 100

    @property
    def protocol(self) -> Protocol:
        """How rows are simulated: as the data were, so that only the potential differs."""
        return self.data.protocol(length=self.length, drop_fraction=0.1)

    def training(self, left_out: str | None) -> TrainingConfig:
        """Return the training on all proteins, or on all but one."""
        systems = tuple(key for key in self.systems if key != left_out)
        name = MULTI_PROTEIN if left_out is None else f"lopo-{left_out}"
        return TrainingConfig(
            name=f"synthetic/{name}",
            description="Trained on synthetic data; it says nothing about proteins.",
            systems=systems,
            left_out=left_out,
            split="block-v1" if left_out is None else f"lopo-{left_out}",
            balance="systems",
            frame_stride=self.frame_stride,
            network=self.network,
            optimiser=self.optimiser,
            seed=self.data.seed,
            threads=1,
        )

    def pair_spline(self) -> PairSplineConfig:
        """Return the fit of a pairwise potential to all proteins."""
        return PairSplineConfig(
            name=f"synthetic/{PAIR_SPLINE}",
            description="Fitted to synthetic data; it says nothing about proteins.",
            systems=self.systems,
            balance="systems",
            maximum_frames=1000,
            spline=PairSplineSettings(),
            threads=1,
        )


CASES: Final[dict[Size, Case]] = {
    "full": Case(),
    "quick": Case(
        systems=("chignolin", "trpcage", "bba"),
        variants=(),
        data=SyntheticSettings(n_trajectories=16, length=80.0, skipped=16.0, n_microstates=40),
        frame_stride=1,
        length=80.0,
        n_resamples=20,
    ),
    # For tests: whether every stage runs, not whether the answers come out.
    "least": Case(
        systems=("chignolin", "trpcage"),
        variants=(),
        data=SyntheticSettings(
            n_trajectories=16, length=24.0, skipped=4.0, n_microstates=10, n_resamples=5
        ),
        network=GraphNetworkSettings(
            embedding_dimension=8, num_filters=8, num_layers=1, num_rbf=4, max_bead_type=23
        ),
        optimiser=OptimiserSettings(learning_rate=5e-3, batch_size=32, maximum_epochs=2),
        frame_stride=1,
        length=24.0,
        n_resamples=5,
    ),
}
