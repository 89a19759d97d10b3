"""Submitted trajectories: which file they are, what is in it, and whose they are."""

import hashlib
from pathlib import Path

import numpy as np

from cgbench import registry
from cgbench.config import canonical_json
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.results import Result
from cgbench.store import TrajectorySet, read_trajectories, stored_systems

#: Name of the file in a run folder.
FILE = "trajectories.zarr"


def trajectories_file(path: Path) -> Path:
    """Return the ``trajectories.zarr`` that a path names: itself, or the one in a run folder.

    Raises:
        UsageError: There is none.
        IntegrityError: It is a link.
    """
    found = path / FILE if (path / FILE).exists() or (path / FILE).is_symlink() else path
    if found.is_symlink():
        raise IntegrityError(f"{found}: a symbolic link", expected="a plain folder")
    if not found.is_dir():
        raise UsageError(
            f"{path}: no trajectories here", expected=f"a {FILE}, or a run folder that holds one"
        )
    return found


def digest(trajectories: TrajectorySet) -> str:
    """Return ``sha256:…`` over what of trajectories decides their scores.

    It does not depend on how the file was packed: frames, energies, weights and temperatures in
    a fixed byte order, where each trajectory broke, and the attributes that scoring reads.
    """
    header = {
        "system": trajectories.system,
        "sequence": trajectories.sequence,
        "frame_interval": trajectories.frame_interval,
        "temperature": trajectories.temperature,
        "lengths": [len(frames) for frames in trajectories.coordinates],
        "alive_until": [int(frame) for frame in trajectories.alive_until],
        "complete": trajectories.complete,
    }
    made = hashlib.sha256(canonical_json(header).encode())
    for frames in trajectories.coordinates:
        made.update(np.ascontiguousarray(frames, dtype="<f4").tobytes())
    for name in ("network_energy", "prior_energy", "weights", "temperatures"):
        made.update(f"\n{name}\n".encode())
        for values in getattr(trajectories, name) or ():
            made.update(np.ascontiguousarray(values, dtype="<f8").tobytes())
    return "sha256:" + made.hexdigest()


def scored_keys(result: Result) -> list[str]:
    """Return the systems of a result that have trajectories: those that are not missing."""
    return [item.system for item in result.systems if item.status != "missing"]


def read_submitted(path: Path, system: str, result: Result) -> TrajectorySet:
    """Read the trajectories of one system and refuse those of something else.

    Args:
        path: A ``trajectories.zarr``, not trusted.
        system: Registry key.
        result: The result that they are said to be behind.

    Raises:
        UsageError: The file does not have the system.
        IntegrityError: The file is damaged or could do harm.
        ValidationError: They are of another model, protocol, seed or protein.
    """
    if system not in stored_systems(path):
        raise UsageError(f"{path}: no trajectories of {system}")
    found = read_trajectories(path, system)
    stored = found.attributes
    expected: dict[str, object] = {"sequence": registry.system(system).sequence}
    actual: dict[str, object] = {"sequence": found.sequence}
    if result.model.hash is not None:
        expected["model hash"], actual["model hash"] = result.model.hash, stored.model_hash
    if result.protocol is not None:
        expected["protocol"], actual["protocol"] = result.protocol.id, stored.protocol
        chosen = registry.protocol(result.protocol.id)
        expected["temperature"], actual["temperature"] = chosen.temperature, found.temperature
        expected["frame interval"] = chosen.output_interval
        actual["frame interval"] = found.frame_interval
    if "simulation" in result.seeds:
        expected["seed"], actual["seed"] = (
            result.seeds["simulation"],
            stored.seeds.get("simulation"),
        )
    differing = [name for name in expected if expected[name] != actual[name]]
    if differing:
        raise ValidationError(
            f"{path}: trajectories of {system} of another {', '.join(differing)}",
            expected="; ".join(f"{name} {expected[name]}" for name in differing),
            found="; ".join(f"{name} {actual[name]!r:.120}" for name in differing),
            fix="give the trajectories that the result was scored from",
        )
    return found
