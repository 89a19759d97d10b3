"""What a recurrent sampler is trained on: frames of stores, or single structures of domains."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cgbench.errors import ValidationError
from cgbench.models import TrainedOn
from cgbench.nemo.features import Profile
from cgbench.nemo.internal import InternalCoordinates, to_internal
from cgbench.progress import Progress, silent
from cgbench.samplers import TrainedOnStructures, profile_hash, read_profile
from cgbench.splits.cath_split import TRAIN, VALIDATION
from cgbench.splits.cath_structures import Structure, open_structures
from cgbench.train.config import TrainingConfig
from cgbench.train.fitting import training_weights
from cgbench.train.force_frames import frames_of
from cgbench.train.material import Material, SystemMaterial, open_material
from cgbench.train.nemo_data import coordinates_of


@dataclass(frozen=True, eq=False)
class ChainFrames:
    """Structures of one chain as internal coordinates.

    Attributes:
        name: Registry key of a system, or name of a domain.
        sequence: One letter a residue.
        profile: Its evolutionary profile, or None.
        training: (n, 3 N − 6) internal coordinates in a row, in Å and radians.
        weights: (n,) shares in which they are drawn.
        validation: (m, 3 N − 6).
        intact: (N − 1,) which bonds are there, or None for all.
    """

    name: str
    sequence: str
    profile: Profile | None
    training: Tensor
    weights: NDArray[np.float64]
    validation: Tensor
    intact: Tensor | None = None

    def batch(self, n: int, generator: np.random.Generator) -> InternalCoordinates:
        """Draw training structures by their weights."""
        rows = generator.choice(len(self.training), size=n, p=self.weights)
        return InternalCoordinates.from_flat(self.training[torch.from_numpy(rows)])


@dataclass(frozen=True, eq=False)
class SamplerMaterial:
    """Everything that a run is trained on.

    Attributes:
        chains: Chains that train, those of domains by name.
        validation: Chains that validate; the same ones for stores, others for domains.
        trained_on: What the sampler says of stores.
        structures: What it says of domains.
        temperature: Of the stores in K; None where they differ, and for domains.
        identity: What decides the weights beside the configuration, for the run's fingerprint.
    """

    chains: tuple[ChainFrames, ...]
    validation: tuple[ChainFrames, ...]
    trained_on: tuple[TrainedOn, ...]
    structures: TrainedOnStructures | None
    temperature: float | None
    identity: dict[str, object]


def read_systems(
    settings: TrainingConfig,
    profiles: dict[str, Path],
    maximum_frames: int,
    home: Path | None,
    progress: Progress = silent,
) -> SamplerMaterial:
    """Read frames of stores.

    Training frames are drawn with equilibrium weights where the split is of whole trajectories,
    as priors are fitted; validation frames all weigh the same.

    Args:
        settings: Systems, split and left-out protein.
        profiles: File of the profile of each system that has one.
        maximum_frames: Most training and most validation frames of each system, evenly spread.
        home: Data home.
        progress: Told of frames read.

    Raises:
        UsageError: A system, its split, reference or profile is not here.
        ValidationError: The data do not fit together, or hold too little.
    """
    material: Material = open_material(settings, home)
    chains = tuple(
        _read(item, profiles.get(item.system), maximum_frames, progress)
        for item in material.training
    )
    temperatures = {item.store.metadata.temperature for item in material.training}
    return SamplerMaterial(
        chains=chains,
        validation=chains,
        trained_on=material.trained_on(),
        structures=None,
        temperature=temperatures.pop() if len(temperatures) == 1 else None,
        identity={
            "data": material.fingerprint,
            "profiles": {key: profile_hash(path) for key, path in sorted(profiles.items())},
        },
    )


def read_domains(folder: Path, profiles: Path | None) -> SamplerMaterial:
    """Read the domains of a split of structures.

    Args:
        folder: Of ``cgbench splits make --cath``.
        profiles: Folder with a profile ``<domain>.npy`` or ``<domain>.txt`` of each, or None.

    Raises:
        UsageError: The split, or a profile, is not there.
        IntegrityError: A file is damaged.
        ValidationError: Split and structures do not belong together.
    """
    split, structures = open_structures(folder)
    parts = {
        part: tuple(_domain(structures[name], profiles) for name in split.parts[part])
        for part in (TRAIN, VALIDATION)
    }
    return SamplerMaterial(
        chains=parts[TRAIN],
        validation=parts[VALIDATION],
        trained_on=(),
        structures=TrainedOnStructures.of(
            split.fingerprint,
            (chain.sequence for chain in parts[TRAIN] + parts[VALIDATION]),
            len(parts[TRAIN]),
        ),
        temperature=None,
        identity={
            "data": split.fingerprint,
            "profiles": profile_hashes(
                profiles, (chain.name for chain in parts[TRAIN] + parts[VALIDATION])
            ),
        },
    )


def profile_of(folder: Path, name: str, sequence: str) -> Profile:
    """Return the profile of a domain from a folder of them.

    Raises:
        UsageError: There is none.
        IntegrityError: It cannot be parsed.
        ValidationError: It is of another sequence.
    """
    return read_profile(_profile_path(folder, name), sequence)


def profile_hashes(folder: Path | None, names: Iterable[str]) -> dict[str, str]:
    """Return the hash of the profile of each domain; of none where there is no folder."""
    if folder is None:
        return {}
    return {name: profile_hash(_profile_path(folder, name)) for name in names}


def _profile_path(folder: Path, name: str) -> Path:
    text = folder / f"{name}.txt"
    return text if text.is_file() else folder / f"{name}.npy"


def _read(
    item: SystemMaterial, profile: Path | None, maximum_frames: int, progress: Progress
) -> ChainFrames:
    frames, weights = training_weights(item.store, item.split, item.bundle, item.stride)
    if len(frames) > maximum_frames:
        rows = np.linspace(0, len(frames) - 1, maximum_frames).round().astype(np.int64)
        frames, weights = frames[rows], weights[rows]
    if not weights.sum() > 0.0:
        raise ValidationError(
            f"{item.system}: no training frame has weight",
            fix="more maximum_frames, or a split whose training trajectories are connected",
        )
    validation = frames_of(item, "val", maximum_frames)
    sequence = item.store.metadata.sequence
    return ChainFrames(
        name=item.system,
        sequence=sequence,
        profile=None if profile is None else read_profile(profile, sequence),
        training=to_internal(coordinates_of(item, frames, progress)).flat(),
        weights=weights / weights.sum(),
        validation=to_internal(coordinates_of(item, validation, progress)).flat(),
    )


def _domain(structure: Structure, profiles: Path | None) -> ChainFrames:
    flat = to_internal(torch.from_numpy(structure.coordinates)[None]).flat()
    sequence = structure.sequence
    profile = None if profiles is None else profile_of(profiles, structure.name, sequence)
    return ChainFrames(
        name=structure.name,
        sequence=sequence,
        profile=profile,
        training=flat,
        weights=np.ones(1),
        validation=flat,
        intact=torch.from_numpy(structure.intact),
    )
