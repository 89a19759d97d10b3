"""Shape of a NEMO model: everything about it that is no weight."""

from typing import Literal, Self

import pydantic

from cgbench.config import Frozen
from cgbench.nemo.features import AMINO_ACIDS

Integrator = Literal["direct", "transform"]


class EnergySettings(Frozen):
    """Shape of the energy.

    Attributes:
        cutoff: Å beyond which two beads do not interact.
        n_radial: Radial functions of a distance.
        hidden: Width of the networks that turn geometry into features.
        n_features: Features of a pair, each weighted by the sequence.
        n_motif_features: Features of two angles and the dihedral between them.
        harmonics: Multiples of a dihedral, and of an angle, with a weight of their own.
        bond_stiffness: k of ½ k (b − b₀)² at the start, kT/Å².
        contact_distance: Å below which two beads that are not neighbours repel each other.
        contact_stiffness: k of ½ k (r − r₀)² below it, kT/Å².
    """

    cutoff: float = pydantic.Field(default=14.0, gt=4, le=100)
    n_radial: int = pydantic.Field(default=12, ge=2, le=256)
    hidden: int = pydantic.Field(default=32, ge=1, le=4096)
    n_features: int = pydantic.Field(default=16, ge=1, le=1024)
    n_motif_features: int = pydantic.Field(default=8, ge=1, le=1024)
    harmonics: int = pydantic.Field(default=3, ge=1, le=16)
    bond_stiffness: float = pydantic.Field(default=300.0, gt=0, le=1e5)
    contact_distance: float = pydantic.Field(default=4.4, gt=0, le=10)
    contact_stiffness: float = pydantic.Field(default=20.0, ge=0, le=1e4)


class SimulatorSettings(Frozen):
    """How a chain is simulated.

    Attributes:
        n_steps: Unrolled steps T; about 250 as published.
        integrator: ``direct`` rebuilds the chain from its internal coordinates in each step,
            ``transform`` moves its beads by the Jacobian.
        step_size: ε at the start; it is learned.
        length_variance: Scale of C for bond lengths, Å²: the variance of a step's noise at ε = 1.
        angle_variance: The same for angles, radian².
        dihedral_variance: The same for dihedrals, radian².
        learned_range: C is learned within this factor of its scale in either direction.
        largest_drift: Bound of a step's drift ½ ε C f, in standard deviations of a step's noise at
            ε = 1; the tangent hyperbolic takes it there smoothly. None for no bound.
    """

    n_steps: int = pydantic.Field(default=250, ge=1, le=100_000)
    integrator: Integrator = "transform"
    step_size: float = pydantic.Field(default=1.0, gt=0, le=100)
    length_variance: float = pydantic.Field(default=1e-3, gt=0, le=1)
    angle_variance: float = pydantic.Field(default=2e-3, gt=0, le=1)
    dihedral_variance: float = pydantic.Field(default=4e-3, gt=0, le=10)
    learned_range: float = pydantic.Field(default=3.0, ge=1, le=100)
    largest_drift: float | None = pydantic.Field(default=None, gt=0, le=1e3)


class NemoSettings(Frozen):
    """Shape of a model.

    Attributes:
        features: What it sees: the ``sequence`` (L × 20), or with a ``profile`` (L × 40).
        width: Channels of the sequence network.
        n_blocks: Its residual convolutions; the reach doubles from one to the next up to eight.
        kernel: Residues that a convolution looks at.
        energy: Shape of the energy.
        simulator: How chains are simulated.
        temperature: Temperature in K at which the energy is in units of kT: that of the training
            data; None where they have none.
    """

    features: Literal["sequence", "profile"] = "sequence"
    width: int = pydantic.Field(default=64, ge=4, le=4096)
    n_blocks: int = pydantic.Field(default=4, ge=0, le=64)
    kernel: int = pydantic.Field(default=5, ge=1, le=31)
    energy: EnergySettings = EnergySettings()
    simulator: SimulatorSettings = SimulatorSettings()
    temperature: float | None = pydantic.Field(default=None, gt=0, le=2000)

    @pydantic.model_validator(mode="after")
    def _odd_kernel(self) -> Self:
        if self.kernel % 2 == 0:
            raise ValueError("kernel must be odd, so that a residue sees as far in both directions")
        return self

    @property
    def n_features(self) -> int:
        """Numbers that come with each residue."""
        return len(AMINO_ACIDS) * (2 if self.features == "profile" else 1)
