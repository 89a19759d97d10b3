"""The small files beside the raw arrays: the index of trajectories and the recipe."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from cgbench import registry
from cgbench.config import write_atomic
from cgbench.force_maps import ForceMap
from cgbench.generate.settings import FORCE_FIELDS, GenerationSettings

#: The file name of each force map.
SUFFIXES: Final = {
    "slice": "_ca_forces.npy",
    "hydrogens": "_ca_forces_hydrogens.npy",
    "optimal": "_ca_forces_optimal.npy",
}
#: How a set without settings of its own is split.
SPLIT: Final = registry.SplitSettings(
    unit="trajectory", train=0.8, val=0.1, test=0.1, gap_frames=0, seed=1
)


def split_settings(sequence: str) -> registry.SplitSettings:
    """Return how a set is split: by whole trajectories, as the sample of its sequence if any."""
    for system in registry.systems():
        if system.sequence == sequence and system.split.unit == "trajectory":
            return system.split
    return SPLIT


def write_index(
    path: Path,
    settings: GenerationSettings,
    lengths: Sequence[int],
    kinds: Sequence[str],
    facts: Sequence[dict[str, Any]],
) -> None:
    """Write ``trajectories.json``: what preprocessing needs, and where each trajectory is from.

    Args:
        path: Folder of the raw files.
        settings: Of the run.
        lengths: Frames of each trajectory.
        kinds: What each started from.
        facts: What else is known, of the last trajectories; null for those before.
    """
    unknown = [None] * (len(lengths) - len(facts))
    index = {
        "protein": settings.name,
        "n_trajectories": len(lengths),
        "frame_interval_ps": settings.dynamics.frame_interval,
        "lengths": list(lengths),
        "started_from": list(kinds),
    }
    for name in facts[0]:
        index[name] = [*unknown, *(one[name] for one in facts)]
    _write_lines(path / "trajectories.json", index)


def _write_lines(path: Path, index: dict[str, Any]) -> None:
    """Write one line for each list, so that the file can be read and compared."""
    lines = [f" {json.dumps(name)}: {json.dumps(value)}" for name, value in index.items()]
    write_atomic(path, "{\n" + ",\n".join(lines) + "\n}\n")


def write_recipe(
    path: Path,
    settings: GenerationSettings,
    kinds: Sequence[str],
    maps: Sequence[ForceMap],
) -> None:
    """Write ``recipe.yaml``, with which ``cgbench preprocess --recipe`` makes a store.

    Args:
        path: Folder of the raw files.
        settings: Of the run.
        kinds: What each trajectory started from.
        maps: The force maps.
    """
    dynamics = settings.dynamics
    how = "adaptively started, so starting frames are not Boltzmann distributed"
    if settings.ladder:
        how = (
            f"replicas exchanged between {settings.ladder[0]:g} and {settings.ladder[-1]:g} K, "
            f"whose frames are of all these temperatures: weights.npy holds their weights at "
            f"{dynamics.temperature:g} K"
        )
    force_field = FORCE_FIELDS[settings.system.force_field].description
    recipe: dict[str, Any] = {
        "key": settings.name,
        "sequence": settings.sequence,
        "temperature": dynamics.temperature,
        # A replica changes temperature, so the order of its frames tells no kinetics.
        "frame_interval": None if settings.ladder else dynamics.frame_interval,
        "description": (
            f"All-atom molecular dynamics generated with cgbench: {force_field}, "
            f"{dynamics.temperature:g} K, {len(kinds)} trajectories, {how}."
        ),
        "constraints": "bonds to hydrogen",
        "force_maps": {one.name: one.consistency for one in maps},
        "default_force_map": "optimal",
        "start_kind": list(kinds),
        "npy": {
            "coordinates": f"{settings.name}_ca_coords.npy",
            "forces": {one.name: f"{settings.name}{SUFFIXES[one.name]}" for one in maps},
            "bead_types": f"{settings.name}_ca_embeddings.npy",
            "lengths": "trajectories.json",
        },
        "split": split_settings(settings.sequence).model_dump(mode="json"),
    }
    if (path / "native.pdb").is_file():
        recipe["native"] = "native.pdb"
    text = "# cgbench preprocess --recipe recipe.yaml\n"
    write_atomic(
        path / "recipe.yaml",
        text + yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=100),
    )
