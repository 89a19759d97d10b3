"""Sets of nearly noise-free mean forces: their files, and the error of a potential on them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import pydantic
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from cgbench.config import Frozen, read_model, write_model
from cgbench.errors import UsageError, ValidationError
from cgbench.force_maps.arrays import read_arrays, write_arrays
from cgbench.generate.settings import DynamicsSettings

FloatArray = NDArray[np.float64]

ARRAYS_NAME: Final = "mean_forces.npz"
RECORD_NAME: Final = "mean_forces.json"

_DTYPES: Final[Mapping[str, type[np.generic]]] = {
    "frames": np.int64,
    "coordinates": np.float64,
    "mean_forces": np.float64,
    "standard_errors": np.float64,
    "block_errors": np.float64,
}


class MeanForceSettings(Frozen):
    """How the mean force at one frame is sampled.

    Attributes:
        dynamics: Temperature, friction, step, and the time between samples.
        copies: Independent simulations from each frame, with noise of their own.
        heating_temperature: Temperature in K of a first part that sends side chains and peptide
            planes of the copies apart; None for none. Without it all copies begin in one
            conformation, and their spread misses those that none of them reaches.
        heating: Length of that part in ps.
        equilibration: Time in ps that is thrown away after it.
        sampling: Time in ps that each copy is sampled for.
        blocks: Blocks that the samples of a copy are averaged in.
        seed: Seed of all noise.
    """

    model_config = pydantic.ConfigDict(allow_inf_nan=False)

    dynamics: DynamicsSettings = DynamicsSettings(friction=1.0, frame_interval=0.1)
    copies: int = Field(default=4, ge=1)
    heating_temperature: float | None = Field(default=500.0, gt=0)
    heating: float = Field(default=5.0, gt=0)
    equilibration: float = Field(default=10.0, ge=0)
    sampling: float = Field(default=50.0, gt=0)
    blocks: int = Field(default=5, ge=2)
    seed: int = Field(default=0, ge=0)

    @pydantic.model_validator(mode="after")
    def _enough_samples(self) -> Self:
        if self.samples_per_block < 1:
            raise ValueError(
                f"sampling {self.sampling} ps gives fewer samples than {self.blocks} blocks"
            )
        return self

    @property
    def samples_per_block(self) -> int:
        """Samples in each block of each copy."""
        # A hair more, so that 5 ps at 0.1 ps are 50 samples in spite of rounding.
        return int(self.sampling / self.dynamics.frame_interval / self.blocks + 1e-6)


class MeanForceRecord(Frozen):
    """What the ``.json`` of a set says.

    Attributes:
        format: Name of this format.
        version: Version of this format.
        description: What was simulated, in words.
        sequence: One-letter sequence, None where it is not stated.
        settings: How forces were sampled.
        force_map: Name of the force map whose mean was taken.
        n_frames: Frames of the set.
        n_beads: Beads of each.
        failed: Frames whose simulation diverged; they are not in the set.
        pending: Frames that are still to be simulated; the run was given too little time.
        drift: Furthest in Å that a held atom moved.
        plan: Identity of system, map, frames and settings.
        arrays_sha256: Hash of the ``.npz``.
    """

    format: Literal["cgbench-mean-forces"] = "cgbench-mean-forces"
    version: Literal[1] = 1
    description: str = ""
    sequence: str | None = None
    settings: MeanForceSettings
    force_map: str
    n_frames: int = Field(ge=1)
    n_beads: int = Field(ge=1)
    failed: tuple[int, ...] = ()
    pending: tuple[int, ...] = ()
    drift: float = Field(ge=0)
    plan: str
    arrays_sha256: str


@dataclass(frozen=True, eq=False)
class MeanForceSet:
    """Mean forces at fixed bead positions: the negative gradient of the potential of mean force.

    Attributes:
        frames: (n_frames,) numbers of the frames in what they were chosen from.
        coordinates: (n_frames, n_beads, 3) Å.
        mean_forces: (n_frames, n_beads, 3) kcal/mol/Å.
        standard_errors: The same shape: of the means, from the spread between copies where there
            are at least two, else between blocks.
        block_errors: The same shape: from the spread between all blocks. Smaller than the former
            where copies stay in different conformations longer than a block.
        record: Everything else.
    """

    frames: NDArray[np.int64]
    coordinates: FloatArray
    mean_forces: FloatArray
    standard_errors: FloatArray
    block_errors: FloatArray
    record: MeanForceRecord

    def __post_init__(self) -> None:
        shape = (self.record.n_frames, self.record.n_beads, 3)
        for name in ("coordinates", "mean_forces", "standard_errors", "block_errors"):
            values = getattr(self, name)
            if values.shape != shape:
                raise ValidationError(
                    f"mean forces: wrong shape of {name}", expected=shape, found=values.shape
                )
            if not np.isfinite(values).all():
                raise ValidationError(f"mean forces: {name} are not finite")
        if self.frames.shape != shape[:1]:
            raise ValidationError(
                "mean forces: wrong shape of frames", expected=shape[:1], found=self.frames.shape
            )

    def subset(self, frames: Iterable[int]) -> Self:
        """Return the part of the set whose frames are among some, as those of a split's part.

        Raises:
            UsageError: None is.
        """
        chosen = np.isin(self.frames, np.fromiter(frames, dtype=np.int64))
        if not chosen.any():
            raise UsageError("mean forces: not one frame of the set is among those named")
        arrays = {name: getattr(self, name)[chosen] for name in _DTYPES}
        record = self.record.model_copy(update={"n_frames": int(chosen.sum())})
        return type(self)(**arrays, record=record)

    @property
    def noise(self) -> float:
        """Mean square of the standard errors, (kcal/mol/Å)²."""
        return float((self.standard_errors**2).mean())


class MeanForceError(Frozen):
    """How far a potential's forces are from mean forces.

    Attributes:
        n_frames: Frames compared.
        mean_square: Mean square difference of a component, (kcal/mol/Å)².
        noise: What the error of the mean forces contributes to it.
        corrected: The former less the latter: unbiased for the error of the potential; can be
            below zero by chance when that is small.
        standard_error: Of ``corrected``, from the spread between frames.
        zero_force: The same as ``corrected`` for a potential without forces: the scale.
        explained: Fraction of the mean square mean force that the potential explains.
    """

    n_frames: int
    mean_square: float
    noise: float
    corrected: float
    standard_error: float | None
    zero_force: float
    explained: float | None


def mean_force_error(predicted: ArrayLike, dataset: MeanForceSet) -> MeanForceError:
    """Compare a potential's forces with mean forces.

    Args:
        predicted: (n_frames, n_beads, 3) forces of the whole potential at the set's coordinates,
            kcal/mol/Å.
        dataset: The mean forces.

    Raises:
        ValidationError: Forces are of another shape, or not finite.
    """
    forces = np.asarray(predicted, dtype=np.float64)
    if forces.shape != dataset.mean_forces.shape:
        raise ValidationError(
            "forces compared with mean forces: wrong shape",
            expected=dataset.mean_forces.shape,
            found=forces.shape,
        )
    if not np.isfinite(forces).all():
        raise ValidationError("forces compared with mean forces: not finite")
    squares = ((forces - dataset.mean_forces) ** 2).mean(axis=(1, 2))
    corrected = squares - (dataset.standard_errors**2).mean(axis=(1, 2))
    zero_force = float((dataset.mean_forces**2).mean()) - dataset.noise
    n = len(corrected)
    return MeanForceError(
        n_frames=n,
        mean_square=float(squares.mean()),
        noise=dataset.noise,
        corrected=float(corrected.mean()),
        standard_error=float(corrected.std(ddof=1) / np.sqrt(n)) if n > 1 else None,
        zero_force=zero_force,
        explained=1.0 - float(corrected.mean()) / zero_force if zero_force > 0 else None,
    )


def write_mean_forces(
    folder: Path, arrays: Mapping[str, NDArray[Any]], record: Mapping[str, Any]
) -> MeanForceSet:
    """Write a set into a folder as ``mean_forces.npz`` and ``mean_forces.json``.

    Args:
        folder: Where to.
        arrays: The arrays of ``MeanForceSet`` by name.
        record: The fields of ``MeanForceRecord`` but for the hash and the shape.

    Raises:
        ValidationError: Arrays and record do not fit.
    """
    typed = {name: np.asarray(arrays[name], dtype=dtype) for name, dtype in _DTYPES.items()}
    shape = typed["mean_forces"].shape
    digest = write_arrays(folder / ARRAYS_NAME, typed)
    whole = MeanForceRecord(**record, n_frames=shape[0], n_beads=shape[1], arrays_sha256=digest)
    made = MeanForceSet(**typed, record=whole)
    write_model(folder / RECORD_NAME, whole)
    return made


def read_mean_forces(folder: Path) -> MeanForceSet:
    """Read a set; nothing in its files is executed.

    Raises:
        UsageError: A file is missing.
        IntegrityError: A file is damaged, unsafe, or not the one that the other describes.
        ValidationError: Arrays and record do not fit.
    """
    record = read_model(MeanForceRecord, folder / RECORD_NAME)
    arrays = read_arrays(folder / ARRAYS_NAME, _DTYPES, record.arrays_sha256)
    return MeanForceSet(**arrays, record=record)
