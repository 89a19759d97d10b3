"""Structures of each system in memory, and the batches that training takes of them."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.evaluate.alignment_search import tm_scale
from cgbench.nemo.features import Profile
from cgbench.nemo.risk import Target
from cgbench.progress import Progress, silent
from cgbench.samplers.profiles import read_profile
from cgbench.train.fitting import training_weights
from cgbench.train.force_frames import frames_of
from cgbench.train.material import Material, SystemMaterial
from cgbench.train.nemo_config import NemoConfig

#: Secondary structure by letter, as ``Target`` has it.
_LABELS = {"H": 0, "E": 1, "C": 2, "-": -1}
#: Frames that are read at once.
_BLOCK = 8192


@dataclass(frozen=True, eq=False)
class ChainData:
    """Structures of one system.

    Attributes:
        system: Registry key.
        sequence: One letter a residue.
        profile: Its evolutionary profile, or None.
        training: (n, L, 3) float32 in Å.
        weights: (n,) equilibrium weights of them, adding up to one.
        validation: (m, L, 3) float32 in Å; none where the split has no validation part of it.
        labels: Secondary structure (L,) where it is known.
    """

    system: str
    sequence: str
    profile: Profile | None
    training: Tensor
    weights: NDArray[np.float64]
    validation: Tensor
    labels: Tensor | None

    def target(self, x: Tensor, diversity: float, least_scale: float) -> Target:
        """Return structures as what the terms of the risk compare with."""
        scale = max(least_scale, tm_scale(x.shape[1]))
        return Target(x, self.labels, diversity, scale)

    def batch(self, n: int, generator: np.random.Generator) -> Tensor:
        """Draw training structures (n, L, 3) by their weights."""
        rows = generator.choice(len(self.training), size=n, p=self.weights)
        return self.training[torch.from_numpy(rows)]

    def validated(self, n: int) -> Tensor:
        """Return validation structures, no more than n, evenly spread."""
        rows = np.linspace(0, len(self.validation) - 1, min(n, len(self.validation)))
        return self.validation[torch.from_numpy(rows.round().astype(np.int64))]


def read_chains(
    settings: NemoConfig, material: Material, progress: Progress = silent
) -> tuple[ChainData, ...]:
    """Read the structures of all systems that train.

    Raises:
        UsageError: A profile is not there.
        ValidationError: A profile or the secondary structure is of another chain, or a system has
            too few training frames.
    """
    return tuple(_read(settings, item, progress) for item in material.training)


def _read(settings: NemoConfig, item: SystemMaterial, progress: Progress) -> ChainData:
    store, system = item.store, item.system
    sequence = store.metadata.sequence
    frames, weights = training_weights(store, item.split, item.bundle, item.stride)
    if len(frames) > settings.maximum_frames:
        rows = np.linspace(0, len(frames) - 1, settings.maximum_frames).round().astype(np.int64)
        frames, weights = frames[rows], weights[rows]
    validation = frames_of(item, "val", settings.maximum_frames)
    if len(frames) < 2:
        raise ValidationError(
            f"{system}: too few training frames in split {item.split.id}",
            expected="two or more",
            found=len(frames),
        )
    profile = None
    if settings.network.features == "profile":
        profile = read_profile(settings.profiles[system], sequence)
    return ChainData(
        system=system,
        sequence=sequence,
        profile=profile,
        training=coordinates_of(item, frames, progress),
        weights=weights / weights.sum(),
        validation=coordinates_of(item, validation, progress),
        labels=_labels(settings, system, sequence),
    )


def _labels(settings: NemoConfig, system: str, sequence: str) -> Tensor | None:
    letters = settings.secondary.get(system)
    if letters is None:
        return None
    if len(letters) != len(sequence):
        raise ValidationError(
            f"{settings.name}: secondary: {system} has another length",
            expected=f"{len(sequence)} letters",
            found=letters[:200],
        )
    return torch.tensor([_LABELS[letter] for letter in letters])


def coordinates_of(item: SystemMaterial, frames: NDArray[np.int64], progress: Progress) -> Tensor:
    """Return chosen frames (n, L, 3), reading the store from its beginning to its end."""
    order = np.argsort(frames, kind="stable")
    found = np.empty((len(frames), item.store.n_beads, 3), dtype=np.float32)
    place, ahead = 0, frames[order]
    while place < len(ahead):
        first = int(ahead[place])
        end = int(np.searchsorted(ahead, first + _BLOCK))
        block = item.store.coordinates(first, int(ahead[end - 1]) + 1)
        found[order[place:end]] = block[ahead[place:end] - first]
        place = end
        progress(f"structures of {item.system}", place, len(ahead))
    return torch.from_numpy(found)
