"""Submitted trajectories: which file they are, what is in it, and whose they are."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cgbench import registry
from cgbench.config import canonical_json
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.leaderboard.records import Submission
from cgbench.results import Result
from cgbench.store import TrajectorySet, read_trajectories, stored_systems

#: Name of the file in a run folder.
FILE = "trajectories.zarr"
#: The same of stage one of a test of variants.
STAGE_ONE = "screening.zarr"


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


def read_submitted(
    path: Path, system: str, result: Result, *, sequence: str | None = None
) -> TrajectorySet:
    """Read the trajectories of one system and refuse those of something else.

    Args:
        path: A ``trajectories.zarr``, not trusted.
        system: Registry key.
        result: The result that they are said to be behind.
        sequence: One letter for each bead; that of the registry's protein if None.

    Raises:
        UsageError: The file does not have the system.
        IntegrityError: The file is damaged or could do harm.
        ValidationError: They are of another model, protocol, seed or protein.
    """
    if system not in stored_systems(path):
        raise UsageError(f"{path}: no trajectories of {system}")
    found = read_trajectories(path, system)
    stored = found.attributes
    expected: dict[str, object] = {
        "sequence": registry.system(system).sequence if sequence is None else sequence
    }
    actual: dict[str, object] = {"sequence": found.sequence}
    if result.model.hash is not None:
        expected["model hash"], actual["model hash"] = result.model.hash, stored.model_hash
    if result.protocol is not None:
        expected["protocol"], actual["protocol"] = result.protocol.id, stored.protocol
        chosen = registry.protocol(result.protocol.id)
        expected["temperature"], actual["temperature"] = chosen.temperature, found.temperature
        expected["frame interval"] = chosen.output_interval
        actual["frame interval"] = found.frame_interval
    if result.model.kind == "sampler":
        # Samples have no order; one that is claimed would give them kinetics.
        expected["frame interval"], actual["frame interval"] = None, found.frame_interval
    for name in ("simulation", "sampling"):
        if name in result.seeds:
            expected["seed"], actual["seed"] = result.seeds[name], stored.seeds.get(name)
    _require_same(path, system, expected, actual)
    return found


def stage_one_file(path: Path) -> Path:
    """Return the file of stage one of a test of variants, in its run folder.

    Raises:
        UsageError: There is none.
        IntegrityError: It is a link.
    """
    found = (path.parent if path.name == FILE else path) / STAGE_ONE
    if found.is_symlink():
        raise IntegrityError(f"{found}: a symbolic link", expected="a plain folder")
    if not found.is_dir():
        raise UsageError(
            f"{path}: no trajectories of stage one here",
            expected=f"the run folder of 'cgbench mutants', with {STAGE_ONE}",
        )
    return found


def read_stage_one(
    path: Path, group: str, result: Result, sequences: Sequence[str]
) -> TrajectorySet:
    """Read a batch of stage one of a test of variants and refuse those of something else.

    Args:
        path: The file of stage one, not trusted.
        group: Name of the batch.
        result: The result that it is said to be behind.
        sequences: One of each chain, in order; they are part of the batch's identity.

    Raises:
        UsageError: The file does not have the batch.
        IntegrityError: The file is damaged or could do harm.
        ValidationError: It is of another model, protocol, seed, or of other chains.
    """
    from cgbench.pipeline.mutant_screening import batch_identity

    if group not in stored_systems(path):
        raise UsageError(f"{path}: no trajectories of {group}")
    found = read_trajectories(path, group)
    stored = found.attributes
    chosen = registry.protocol(registry.mutant_screening().protocol)
    expected: dict[str, object] = {
        "model or sequences": batch_identity(result.model.hash or "", sequences),
        "protocol": chosen.id,
        "temperature": chosen.temperature,
        "frame interval": chosen.output_interval,
        "seed": result.seeds.get("simulation"),
        "number": len(sequences),
    }
    actual: dict[str, object] = {
        "model or sequences": stored.model_hash,
        "protocol": stored.protocol,
        "temperature": found.temperature,
        "frame interval": found.frame_interval,
        "seed": stored.seeds.get("simulation"),
        "number": len(found.coordinates),
    }
    _require_same(path, group, expected, actual)
    return found


def require_digest(submission: Submission, path: Path, group: str, stored: TrajectorySet) -> str:
    """Return the content of trajectories, which is what the submission says where it says it.

    Raises:
        IntegrityError: It is not.
    """
    found = digest(stored)
    source = submission.trajectories
    stated = None if source is None else source.digests.get(group)
    if stated is not None and stated != found:
        raise IntegrityError(
            f"{path}: other trajectories of {group} than those submitted",
            expected=stated,
            found=found,
        )
    return found


def _require_same(
    path: Path, system: str, expected: Mapping[str, object], actual: Mapping[str, object]
) -> None:
    differing = [name for name in expected if expected[name] != actual[name]]
    if differing:
        raise ValidationError(
            f"{path}: trajectories of {system} of another {', '.join(differing)}",
            expected="; ".join(f"{name} {expected[name]}" for name in differing),
            found="; ".join(f"{name} {actual[name]!r:.120}" for name in differing),
            fix="give the trajectories that the result was scored from",
        )
