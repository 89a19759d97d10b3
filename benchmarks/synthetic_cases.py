"""What the benchmark of synthetic systems trains and scores, in three sizes."""

from typing import Final, Literal

from cgbench import registry
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
        screening_length: ps of the first stage of the variants' test.
        second_stage: Protocol of its second stage; None leaves it out.
        n_resamples: Resamples of the scores.
    """

    systems: tuple[str, ...] = PROTEINS
    variants: tuple[str, ...] = tuple(VARIANTS)
    data: SyntheticSettings = SyntheticSettings(
        length=64.0, skipped=24.0, n_microstates=50, n_resamples=50
    )
    network: GraphNetworkSettings = GraphNetworkSettings(
        embedding_dimension=16, num_filters=16, num_layers=1, num_rbf=12, max_bead_type=23
    )
    optimiser: OptimiserSettings = OptimiserSettings(
        learning_rate=5e-3, factor=0.5, patience=1, batch_size=32, maximum_epochs=6
    )
    frame_stride: int = 4
    screening_length: float = 32.0
    second_stage: str | None = "smoke"
    n_resamples: int = 50

    @property
    def protocol(self) -> Protocol:
        """How rows are simulated: as the data that were kept, so that only the potential differs.

        From the same frames, and nothing is dropped: frames of the generating potential are then
        distributed as the data at every time, in equilibrium or not.
        """
        return self.data.protocol(length=self.data.length, drop_fraction=0.0)

    @property
    def screening(self) -> Protocol:
        """First stage of the variants' test: shorter than the registry's, with larger steps."""
        registered = registry.protocol(registry.mutant_screening().protocol)
        changed = {
            "id": "synthetic-mutants",
            "description": "Variants of synthetic systems, from their native structures.",
            "length": self.screening_length,
            "timestep": self.data.timestep,
            "output_interval": self.data.interval,
        }
        return Protocol.model_validate(registered.model_dump() | changed)

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
            maximum_frames=200,
            spline=PairSplineSettings(),
            threads=1,
        )


CASES: Final[dict[Size, Case]] = {
    "full": Case(),
    "quick": Case(
        systems=("chignolin", "trpcage", "bba"),
        variants=(),
        data=SyntheticSettings(
            n_trajectories=16, length=32.0, skipped=16.0, n_microstates=20, n_resamples=20
        ),
        frame_stride=2,
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
        n_resamples=5,
    ),
}
