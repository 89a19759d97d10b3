"""Everything that NEMO is trained on: frames of stores, or single structures of domains."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.models import TrainedOn
from cgbench.progress import Progress, silent
from cgbench.samplers import TrainedOnStructures, profile_hash
from cgbench.splits.cath_split import TRAIN, VALIDATION
from cgbench.splits.cath_structures import Structure, open_structures
from cgbench.train.material import open_material
from cgbench.train.nemo_config import NemoConfig
from cgbench.train.nemo_data import ChainData, read_chains
from cgbench.train.recurrent_data import profile_hashes, profile_of

#: Domains that validate: one simulation each.
_MOST_VALIDATED: Final = 32
#: Residues of the shortest stretch of a domain that trains.
_SHORTEST: Final = 16


@dataclass(frozen=True, eq=False)
class NemoMaterial:
    """What a run is trained on.

    Attributes:
        chains: Chains that train.
        validation: Chains that validate: those of the stores that have a validation part, or
            other domains. Nothing is validated on what was trained on.
        trained_on: What the sampler says of stores.
        structures: What it says of domains.
        temperature: Of the stores in K; None where they differ, and for domains.
        identity: What decides the weights beside the configuration, for the run's fingerprint.
    """

    chains: tuple[ChainData, ...]
    validation: tuple[ChainData, ...]
    trained_on: tuple[TrainedOn, ...]
    structures: TrainedOnStructures | None
    temperature: float | None
    identity: dict[str, object]


def read_material(
    settings: NemoConfig, home: Path | None = None, progress: Progress = silent
) -> NemoMaterial:
    """Read what a configuration names.

    Raises:
        UsageError: A system, its split, reference or profile, or the structures are not here.
        IntegrityError: A file is damaged.
        ValidationError: The data do not fit together, or hold too little.
    """
    if settings.structures is not None:
        return _domains(settings, settings.structures, settings.structure_profiles)
    material = open_material(settings.as_training(), home)
    chains = read_chains(settings, material, progress)
    temperatures = {item.store.metadata.temperature for item in material.training}
    profiles = {name: profile_hash(path) for name, path in sorted(settings.profiles.items())}
    return NemoMaterial(
        chains=chains,
        validation=tuple(chain for chain in chains if len(chain.validation)),
        trained_on=material.trained_on(),
        structures=None,
        temperature=temperatures.pop() if len(temperatures) == 1 else None,
        identity={"data": material.fingerprint, "profiles": profiles},
    )


def _domains(settings: NemoConfig, folder: Path, profiles: Path | None) -> NemoMaterial:
    split, structures = open_structures(folder)
    parts: dict[str, tuple[ChainData, ...]] = {}
    for part in (TRAIN, VALIDATION):
        found = (_domain(settings, structures[name], profiles) for name in split.parts[part])
        parts[part] = tuple(chain for chain in found if chain is not None)
        if not parts[part] and (part == TRAIN or split.parts[part]):
            raise ValidationError(
                f"{folder}: no domain of part {part} can be used",
                expected=f"a stretch of {_SHORTEST} residues without a gap",
                found=f"{len(split.parts[part])} domains without",
            )
    n_validated = len(parts[VALIDATION])
    rows = np.linspace(0, n_validated - 1, min(n_validated, _MOST_VALIDATED)).round().astype(int)
    return NemoMaterial(
        chains=parts[TRAIN],
        validation=tuple(parts[VALIDATION][row] for row in rows.tolist()),
        trained_on=(),
        structures=TrainedOnStructures.of(
            split.fingerprint,
            (structures[chain.system].sequence for one in parts.values() for chain in one),
            len(parts[TRAIN]),
        ),
        temperature=None,
        identity={
            "data": split.fingerprint,
            "profiles": profile_hashes(
                profiles, (chain.system for chain in parts[TRAIN] + parts[VALIDATION])
            ),
        },
    )


def _domain(settings: NemoConfig, structure: Structure, profiles: Path | None) -> ChainData | None:
    """Return the longest stretch of a domain without a gap, or None if it is too short.

    A gap is not a bond: the energy of bonds, angles and dihedrals has no meaning across it.
    """
    begin, end = longest_stretch(structure.intact)
    end = min(end, begin + settings.longest)
    if end - begin < _SHORTEST:
        return None
    profile = None
    if settings.network.features == "profile" and profiles is not None:
        profile = profile_of(profiles, structure.name, structure.sequence)[begin:end]
    x = torch.from_numpy(structure.coordinates[begin:end]).float()[None]
    return ChainData(
        system=structure.name,
        sequence=structure.sequence[begin:end],
        profile=profile,
        training=x,
        weights=np.ones(1),
        validation=x,
        labels=None,
    )


def longest_stretch(intact: NDArray[np.bool_]) -> tuple[int, int]:
    """Return the half-open range of residues of the first longest run of bonds."""
    best, begin = (0, 1), 0
    for place, there in enumerate([*intact.tolist(), False]):
        if not there:
            if place + 1 - begin > best[1] - best[0]:
                best = (begin, place + 1)
            begin = place + 1
    return best
