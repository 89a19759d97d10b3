"""Structures as a file gave them, before they are an ensemble: what each format is read into."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError

Array = NDArray[Any]

#: Samples that come as one array are resampled as so many blocks of neighbours; as many as the
#: start frames of a simulation.
SAMPLE_BLOCKS: Final = 32


@dataclass
class RawEnsemble:
    """Structures of one system from files of any format.

    Attributes:
        trajectories: (n_frames_i, n_beads, 3) each.
        grouped: Whether the division into trajectories means something; if not, samples are one
            pool in the order of their files.
        frame_interval: ps between frames in time order; None for samples.
        stated_interval: ps that the times in trajectory files are apart, which alone do not say
            that frames are in time order; None where they state none, or several.
        weights: (n_frames_i,) each, or None.
        temperatures: (n_frames_i,) K each, or None.
        energies: (n_frames_i,) kcal/mol each, or None.
        notes: What a reader of scores has to know.
        series: Further numbers per frame that an ensemble keeps, by name.
        alive_until: First bad frame of each as its maker says, or None.
        temperature: One temperature in K of all frames, or None.
    """

    trajectories: list[Array]
    grouped: bool = True
    frame_interval: float | None = None
    stated_interval: float | None = None
    weights: list[Array] | None = None
    temperatures: list[Array] | None = None
    energies: list[Array] | None = None
    notes: list[str] = field(default_factory=list)
    series: dict[str, list[Array]] = field(default_factory=dict)
    alive_until: Array | None = None
    temperature: float | None = None

    @property
    def lengths(self) -> list[int]:
        """Frames of each trajectory."""
        return [len(one) for one in self.trajectories]

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return sum(self.lengths)

    def divided(self, values: Array, what: str) -> list[Array]:
        """Divide numbers of all frames, one after the other, among the trajectories.

        Raises:
            ValidationError: There are not as many numbers as frames.
        """
        if values.shape != (self.n_frames,):
            raise ValidationError(
                f"{what}: not one number for each frame",
                expected=f"({self.n_frames},)",
                found=values.shape,
            )
        return divided(values, self.lengths)

    def in_blocks(self) -> "RawEnsemble":
        """Return a pool of samples as blocks of neighbours, which are what is resampled.

        Views of the same memory where the pool is one array.
        """
        if self.grouped or self.frame_interval is not None:
            return self
        n_blocks = min(SAMPLE_BLOCKS, self.n_frames)
        if len(self.trajectories) == n_blocks:
            return self
        edges = np.linspace(0, self.n_frames, n_blocks + 1).round().astype(int)
        lengths = np.diff(edges).tolist()

        def blocks(values: list[Array] | None) -> list[Array] | None:
            if values is None:
                return None
            pool = values[0] if len(values) == 1 else np.concatenate(values)
            return divided(pool, lengths)

        note = (
            f"{self.n_frames} samples without trajectories of their own were resampled as "
            f"{n_blocks} blocks in the order of the file."
        )
        return RawEnsemble(
            trajectories=blocks(self.trajectories) or [],
            weights=blocks(self.weights),
            temperatures=blocks(self.temperatures),
            energies=blocks(self.energies),
            notes=[*self.notes, note],
            series={name: blocks(values) or [] for name, values in self.series.items()},
            temperature=self.temperature,
        )

    def reordered(self, order: NDArray[np.intp]) -> "RawEnsemble":
        """Return a pool of samples in another order, as one array."""

        def taken(values: list[Array] | None) -> list[Array] | None:
            return None if values is None else [np.concatenate(values)[order]]

        return RawEnsemble(
            trajectories=taken(self.trajectories) or [],
            grouped=False,
            weights=taken(self.weights),
            temperatures=taken(self.temperatures),
            energies=taken(self.energies),
            notes=list(self.notes),
            series={name: taken(values) or [] for name, values in self.series.items()},
            temperature=self.temperature,
        )

    def without_start(self, fraction: float) -> "RawEnsemble":
        """Return trajectories in time order without the first part of each."""
        starts = [int(np.floor(length * fraction + 1e-9)) for length in self.lengths]

        def rest(values: list[Array] | None) -> list[Array] | None:
            if values is None:
                return None
            return [one[start:] for one, start in zip(values, starts, strict=True)]

        until = None
        if self.alive_until is not None:
            until = np.maximum(np.asarray(self.alive_until) - starts, 0)
        return RawEnsemble(
            trajectories=rest(self.trajectories) or [],
            grouped=self.grouped,
            frame_interval=self.frame_interval,
            weights=rest(self.weights),
            temperatures=rest(self.temperatures),
            energies=rest(self.energies),
            notes=list(self.notes),
            series={name: rest(values) or [] for name, values in self.series.items()},
            alive_until=until,
            temperature=self.temperature,
        )


def divided(values: Array, lengths: Sequence[int]) -> list[Array]:
    """Return consecutive parts of given lengths, as views."""
    ends = np.cumsum(lengths)
    return [values[end - length : end] for end, length in zip(ends.tolist(), lengths, strict=True)]
