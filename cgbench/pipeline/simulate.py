"""The arrow from ``model.pt`` to ``trajectories.zarr``."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from cgbench import registry
from cgbench.errors import UsageError
from cgbench.evaluate import (
    Ensemble,
    ForceErrors,
    ReferenceBundle,
    ReferenceStatistics,
    Scored,
    read_reference,
    score,
)
from cgbench.pipeline.check import systems_of
from cgbench.pipeline.programs import open_potential
from cgbench.pipeline.results import noted
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.simulation import EngineChoice, SimulationOutcome, SystemInput, export_xtc
from cgbench.simulation import simulate as run
from cgbench.simulation.shards import Shard
from cgbench.store import find_reference, read_trajectories

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice


def default_run_folder(model: str, protocol: str) -> Path:
    """Return ``cgbench-runs/<model>-<protocol>`` with characters that any file system takes."""
    path = Path(model)
    inside = path.name in ("model.pt", "model.ckpt", "trajectories.zarr")
    name = path.parent.name if inside else path.stem
    clean = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "model"
    return Path("cgbench-runs") / f"{clean}-{protocol}"


def system_input(
    key: str, home: Path | None = None, bundle: ReferenceBundle | None = None
) -> SystemInput:
    """Return a system with the 32 start frames of its reference bundle, read if not given."""
    entry = registry.system(key)
    bundle = bundle or read_reference(find_reference(key, home))
    return SystemInput(
        key=entry.key,
        bead_types=torch.tensor(entry.bead_types, dtype=torch.int64),
        starts=torch.from_numpy(bundle.start_coordinates.copy()),
        sequence=entry.sequence,
    )


def simulate_model(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    protocol: str = "standard",
    out: Path,
    seed: int = 1,
    threads: int | None = None,
    xtc: bool = False,
    engine: EngineChoice = "auto",
    shard: Shard | None = None,
    device: str | None = None,
    trust: bool = False,
    adapter: "AdapterChoice | None" = None,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> dict[str, SimulationOutcome]:
    """Simulate a model under a protocol for each system into one ``trajectories.zarr``.

    A finished simulation of the same model, protocol and seed is kept; an unfinished one resumes.
    With ``shard`` only its part of the replicas is run, with ``device`` the model is moved there.

    Raises:
        UsageError: Model, system, reference or protocol is not there, or the folder holds another
            simulation.
    """
    opened = open_potential(model, home, trust=trust, adapter=adapter)
    potential = opened.potential
    chosen = registry.protocol(protocol)
    if threads is not None:
        torch.set_num_threads(threads)
    if shard is not None and chosen.steps_per_exchange is not None:
        raise UsageError(
            f"protocol {protocol}: replicas that exchange temperatures stay in one process",
            fix="use --threads, or a protocol of one temperature",
        )
    if device is not None:
        potential.to(device)
    replicas = None if shard is None else shard.replicas(chosen.n_replicas)
    target = out / "trajectories.zarr"
    outcomes = {}
    for key in systems_of(potential, systems, model):
        outcomes[key] = run(
            potential,
            system_input(key, home),
            chosen,
            seed=seed,
            out=target,
            force=force,
            model_hash=opened.hash,
            engine=engine,
            replicas=replicas,
            progress=progress,
        )
        if xtc:
            export_xtc(target, out / "xtc", system=key)
    return outcomes


def told_of_mass(protocol: Protocol) -> list[str]:
    """Return the label of simulations whose beads have another mass than in the reference work."""
    usual = registry.constants().bead_mass
    if protocol.bead_mass == usual:
        return []
    return [
        f"Repartitioned mass: {protocol.bead_mass:g} amu a bead instead of {usual:g} amu as in the "
        "reference work. Populations do not depend on it, times do."
    ]


def told_of_temperature(protocol: Protocol, reference: float) -> list[str]:
    """Return what comparing a simulation with a reference at another temperature means.

    Args:
        protocol: Protocol of the simulation.
        reference: Temperature of the reference in K.
    """
    if abs(protocol.temperature - reference) < 1e-3:
        return []
    return [
        f"Simulated at {protocol.temperature:g} K, the reference is at {reference:g} K: free "
        "energies, populations and distributions are those of two temperatures, so their "
        "differences are no error of the model. Structures of the native state can be compared."
    ]


def score_simulation(
    trajectories: Path,
    bundle: ReferenceBundle,
    protocol: Protocol,
    *,
    name: str,
    errors: ForceErrors | None,
    seed: int,
    reference: ReferenceStatistics | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Scored:
    """Score one system of a ``trajectories.zarr`` that a simulation wrote."""
    ensemble = Ensemble.from_trajectory_set(
        read_trajectories(trajectories, bundle.system), name=name
    )
    row = score(
        ensemble,
        bundle,
        protocol=protocol,
        force_errors=errors,
        seed=seed,
        reference=reference,
        workers=workers,
        progress=progress,
    )
    told = [*told_of_temperature(protocol, bundle.temperature), *told_of_mass(protocol)]
    return noted(row, [*told, *ensemble.notes])
