"""Stage two of the mutants' test: variants that stayed, under the full protocol, and their rows."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.errors import ValidationError
from cgbench.evaluate import (
    Ensemble,
    ReferenceBundle,
    Scored,
    interval,
    multiplicities,
    read_reference,
    score,
)
from cgbench.evaluate.geometry import q_native, rmsd
from cgbench.ingest.variants import Variant
from cgbench.pipeline.mutant_screening import Member
from cgbench.pipeline.programs import AnyPotential
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results import MetricValue
from cgbench.simulation import SystemInput, simulate
from cgbench.store import TrajectorySet, find_reference, read_trajectories

#: Groups of metrics that a variant's own native structure decides. A variant has no reference
#: simulation: distributions are not compared with its parent's.
_OWN_GROUPS = ("structure", "stability")
_AGAINST = "against the variant's own native structure"


@dataclass(frozen=True)
class VariantRun:
    """A variant under the full protocol.

    Attributes:
        row: Its scored row; its drawings are on the parent's reference.
        reference: Fingerprint of the parent's reference and the variant's native structure.
        unfolded_starts: Trajectories that started unfolded.
        reached_native: How many of those reached the native state.
    """

    row: Scored
    reference: str
    unfolded_starts: int
    reached_native: int


def run_variant(
    potential: AnyPotential,
    variant: Variant,
    member: Member,
    protocol: Protocol,
    *,
    name: str,
    seed: int,
    model_hash: str,
    out: Path,
    force: bool = False,
    home: Path | None = None,
    progress: Progress = silent,
) -> VariantRun:
    """Simulate a variant from its parent's start frames and score it.

    Args:
        potential: The model.
        variant: What is simulated.
        member: Its native structure.
        protocol: The full protocol.
        name: Name of the row.
        seed: Seed of replicas and resamples.
        model_hash: Identity of the model.
        out: The ``trajectories.zarr``.
        force: Simulate again whatever is there.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: The parent's reference is not at hand, or another simulation is in the file.
        ValidationError: The variant has another number of beads than the parent's start frames.
    """
    bundle = read_reference(find_reference(variant.parent, home))
    starts = bundle.start_coordinates
    if len(variant.sequence) != starts.shape[1]:
        raise ValidationError(
            f"{variant.key}: has no start frames",
            expected=f"{starts.shape[1]} beads, as {variant.parent}",
            found=f"{len(variant.sequence)}",
        )
    types = torch.tensor(registry.bead_vocabulary().types(variant.sequence))
    simulate(
        potential,
        SystemInput(variant.key, types, torch.from_numpy(starts.copy()), variant.sequence),
        protocol,
        seed=seed,
        out=out,
        force=force,
        model_hash=model_hash,
        progress=progress,
    )
    stored = read_trajectories(out, variant.key)
    return scored_variant(
        stored, bundle, variant, member, protocol, name=name, seed=seed, progress=progress
    )


def scored_variant(
    stored: TrajectorySet,
    bundle: ReferenceBundle,
    variant: Variant,
    member: Member,
    protocol: Protocol,
    *,
    name: str,
    seed: int,
    progress: Progress = silent,
) -> VariantRun:
    """Score trajectories of a variant that started from its parent's start frames.

    Args:
        stored: The trajectories.
        bundle: The parent's reference.
        variant: What was simulated.
        member: Its native structure.
        protocol: The full protocol.
        name: Name of the row.
        seed: Seed of resamples.
        progress: Told how far it is.
    """
    starts = bundle.start_coordinates
    # The parent's reference gives weights and drawings.
    ensemble = Ensemble.from_trajectory_set(replace(stored, system=variant.parent), name=name)
    reference = config.fingerprint(
        [bundle.fingerprint, variant.sequence, member.native.tolist(), list(member.scored)]
    )
    row = _row(ensemble, bundle, variant, member, protocol, seed, progress)
    began = q_native(_scored(starts, member), _scored(member.native[None], member)[0])
    unfolded = began[np.arange(ensemble.n_trajectories) % len(starts)] < (
        registry.constants().unfolded_q
    )
    reached = [
        bool(begins_unfolded) and _reaches_native(ensemble, index, bundle, member)
        for index, begins_unfolded in enumerate(unfolded)
    ]
    return VariantRun(row, reference, int(unfolded.sum()), sum(reached))


def _scored(coordinates: NDArray[np.float32], member: Member) -> NDArray[np.float32]:
    return coordinates[:, member.scored[0] : member.scored[1]]


def _reaches_native(
    ensemble: Ensemble, index: int, bundle: ReferenceBundle, member: Member
) -> bool:
    """Return whether a trajectory is ever native: by contacts and by RMSD, as in the reference."""
    frames = ensemble.trajectories[index][: int(ensemble.alive_until[index])]
    if not len(frames):
        return False
    native = _scored(member.native[None], member)[0]
    frames = _scored(frames, member)
    basins = bundle.metadata.basins
    near = basins.folded(
        q_native(frames, native).astype(np.float32), rmsd(frames, native).astype(np.float32)
    )
    return bool(np.any(near))


def _row(
    ensemble: Ensemble,
    bundle: ReferenceBundle,
    variant: Variant,
    member: Member,
    protocol: Protocol,
    seed: int,
    progress: Progress,
) -> Scored:
    """Return the row of a variant: weights and drawings by the parent's reference."""
    own = replace(bundle, native=member.native.astype(np.float32))
    row = score(ensemble, own, protocol=protocol, seed=seed, progress=progress)
    kept = {
        spec.id
        for spec in registry.metrics()
        if spec.group in _OWN_GROUPS and spec.id in row.result.metrics
    }
    metrics = {
        metric: value.model_copy(update={"target": None})
        for metric, value in row.result.metrics.items()
        if metric in kept
    }
    resamples = {metric: values for metric, values in row.resamples.items() if metric in kept}
    notes = [*row.result.notes, f"Structure scores are {_AGAINST}."]
    if member.scored != (0, len(member.sequence)) and row.result.status == "ok":
        first, last = member.scored
        notes.append(
            f"Beads {first + 1} to {last} are scored; the others are not in the entry and were "
            "built on. Scores by superposition search are left out, and frames count the same."
        )
        metrics = {metric: value for metric, value in metrics.items() if metric == "replicas_alive"}
        narrow = _narrow_metrics(ensemble.kept(protocol.drop_fraction), member, seed, len(
            next(iter(row.resamples.values()), np.empty(0))
        ))  # fmt: skip
        metrics |= {metric: value for metric, (value, _) in narrow.items()}
        resamples = {metric: values for metric, (_, values) in narrow.items()}
    result = row.result.model_copy(
        update={
            "system": variant.key,
            "metrics": metrics,
            "gates": {},
            "converged": None,
            "notes": tuple(notes),
        }
    )
    return replace(row, result=result, resamples=resamples)


def _narrow_metrics(
    kept: Ensemble, member: Member, seed: int, n_resamples: int
) -> dict[str, tuple[MetricValue, NDArray[np.float64]]]:
    """Return structure scores of the beads that the entry shows, every frame counting the same."""
    native = _scored(member.native[None], member)[0]
    distances, contacts = [], []
    for frames, until in zip(kept.trajectories, kept.alive_until, strict=True):
        alive = _scored(frames[: int(until)], member)
        distances.append(np.asarray(rmsd(alive, native), dtype=np.float64))
        contacts.append(np.asarray(q_native(alive, native), dtype=np.float64))
    taken = multiplicities(seed, kept.n_trajectories, n_resamples)
    percentile = registry.constants().rmsd_percentile
    order = np.argsort(np.concatenate(distances))
    ordered = np.concatenate(distances)[order]
    owner = np.repeat(np.arange(len(distances)), [len(item) for item in distances])[order]
    values: dict[str, list[float]] = {"rmsd_p1": [], "rmsd_below_2p5": [], "q_native": []}
    sums = np.array([item.sum() for item in contacts])
    close = np.array([(item < 2.5).sum() for item in distances])
    counts = np.array([len(item) for item in contacts])
    for column in taken.T:
        mass = np.cumsum(column[owner])
        total = float(column @ counts)
        if total <= 0:
            for series in values.values():
                series.append(float("nan"))
            continue
        place = int(np.searchsorted(mass, percentile / 100.0 * total))
        values["rmsd_p1"].append(float(ordered[min(place, len(ordered) - 1)]))
        values["rmsd_below_2p5"].append(float(column @ close) / total)
        values["q_native"].append(float(column @ sums) / total)
    made = {}
    for metric, series in values.items():
        found = interval(series[0], np.array(series[1:]))
        value = MetricValue(
            value=series[0],
            lo=None if found is None else max(0.0, found[0]),
            hi=None if found is None else found[1],
            note="sampling, not equilibrium",
        )
        made[metric] = (value, np.array(series[1:]))
    return made
