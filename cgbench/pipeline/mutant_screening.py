"""Stage one of the mutants' test: variants and controls of a parent in one batched simulation."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench import config, registry
from cgbench.errors import CgbenchError, ValidationError
from cgbench.evaluate.geometry import q_native
from cgbench.evaluate.native import read_native
from cgbench.ingest.variants import Variant, read_variant
from cgbench.models import ChainResult, NetworkPotential
from cgbench.pipeline.programs import AnyPotential
from cgbench.priors import Prior
from cgbench.progress import Progress, silent
from cgbench.registry import Protocol
from cgbench.results.mutants import ScreeningStatus
from cgbench.simulation import SystemInput, simulate
from cgbench.simulation.checkpoint import RunRecord
from cgbench.store import TrajectorySet, find_native, read_trajectories

ControlName = Literal["wild-type", "shuffled", "poly-glycine"]


@dataclass(frozen=True)
class Member:
    """One chain of a batch.

    Attributes:
        key: Key of a variant, or name of a control.
        slot: Its place among all controls and variants of the parent, at hand or not, which
            decides its random numbers.
        sequence: One letter for each bead.
        native: (n_beads, 3) float32 structure it starts from and is compared with.
        scored: Half-open range of beads that are compared.
    """

    key: str
    slot: int
    sequence: str
    native: NDArray[np.float32]
    scored: tuple[int, int]


@dataclass(frozen=True)
class Screened:
    """What became of a member.

    Attributes:
        status: Whether it stays.
        median_q: Median Q over the window.
        reason: Why there is none.
    """

    status: ScreeningStatus
    median_q: float | None
    reason: str | None = None


class SequenceBatch(torch.nn.Module):
    """A potential for replicas with a sequence each, where one sequence for all is expected.

    Args:
        potential: Any potential.
        bead_types: (n_replicas, n_beads) int64, the sequence of each replica.
    """

    def __init__(self, potential: AnyPotential, bead_types: torch.Tensor) -> None:
        super().__init__()
        self.potential = potential
        self._bead_types = bead_types

    def chains(self, bead_types: torch.Tensor, pos: torch.Tensor) -> ChainResult:
        """Return energies and forces; all energy counts as the network's."""
        n_replicas, n_beads, _ = pos.shape
        batch = torch.arange(n_replicas, device=pos.device).repeat_interleave(n_beads)
        energy, forces = self.potential(
            self._bead_types.to(pos.device).reshape(-1), pos.reshape(-1, 3), batch
        )
        energy = energy.reshape(n_replicas)
        return ChainResult(energy, torch.zeros_like(energy), forces.reshape(pos.shape))


def control_sequences(parent: str) -> dict[ControlName, str]:
    """Return the sequences of a parent's controls: as it is, shuffled once, and all glycine."""
    sequence = registry.system(parent).sequence
    screening = registry.mutant_screening()
    entropy = [screening.shuffle_seed, *parent.encode()]
    order = np.random.default_rng(np.random.SeedSequence(entropy)).permutation(len(sequence))
    made: dict[ControlName, str] = {
        "wild-type": sequence,
        "shuffled": "".join(sequence[index] for index in order),
        "poly-glycine": "G" * len(sequence),
    }
    return {name: made[name] for name in screening.controls}


def controls_of(parent: str, home: Path | None) -> list[Member]:
    """Return the controls of a parent, started from its native structure.

    Raises:
        UsageError: The parent's native structure is not at hand.
    """
    entry = registry.system(parent)
    native = read_native(find_native(parent, home), entry.sequence)
    return [
        Member(name, slot, sequence, native, (0, entry.n_beads))
        for slot, (name, sequence) in enumerate(control_sequences(parent).items())
    ]


def member_of(key: str, home: Path | None) -> tuple[Variant, Member]:
    """Return a variant with its native structure.

    Raises:
        UsageError: Its entry was not downloaded.
        ValidationError: The structure is not that of its sequence.
    """
    variant = read_variant(key, home)
    family = [one.key for one in registry.mutants() if one.parent == variant.parent]
    slot = len(registry.mutant_screening().controls) + family.index(key)
    native = read_native(find_native_of(key, home), variant.sequence)
    return variant, Member(key, slot, variant.sequence, native, variant.scored_beads)


def find_native_of(key: str, home: Path | None) -> Path:
    """Return the native structure of a variant beside its description."""
    return config.data_home(home) / "native" / f"{key}.pdb"


def require_beads(potential: AnyPotential, sequence: str) -> None:
    """Check that a model can compute a sequence, as far as that can be told beforehand.

    Raises:
        ValidationError: Its prior has no terms for a bead or a pair of neighbours, or its network
            was trained on no protein with a bead.
    """
    if not isinstance(potential, NetworkPotential):
        return
    types = registry.bead_vocabulary().types(sequence)
    if potential.network is not None and potential.spec.trained_on:
        trained = {
            bead_type
            for item in potential.spec.trained_on
            for bead_type in registry.system(item.system).bead_types
        }
        _require(types, trained, f"{potential.spec.name}: trained on no protein with")
    if potential.prior is not None:
        covered = set(potential.prior.repulsion)
        _require(types, covered, f"{potential.spec.name}: its prior has no")
        Prior(potential.prior, types)


def _require(types: Sequence[int], covered: set[int], what: str) -> None:
    names = {bead.type: bead.residues[0] for bead in registry.bead_vocabulary().beads}

    def told(numbers: set[int]) -> str:
        return ", ".join(names[one] for one in sorted(numbers & set(names)))

    if without := set(types) - covered:
        raise ValidationError(
            f"{what} {told(without)}", expected=told(set(types)), found=told(covered)
        )


def screen(
    potential: AnyPotential,
    parent: str,
    members: Sequence[Member],
    protocol: Protocol,
    *,
    seed: int,
    model_hash: str,
    out: Path,
    force: bool = False,
    progress: Progress = silent,
) -> dict[str, Screened]:
    """Simulate members of one length together from their native structures, and look at the end.

    Args:
        potential: The model; it must cover the members' beads.
        parent: Registry key of the parent; the group's name with the length.
        members: Chains of the same number of beads.
        protocol: Of stage one; its last part is looked at (:func:`window_of`).
        seed: Seed of all streams.
        model_hash: Identity of the model.
        out: The ``trajectories.zarr`` of stage one.
        force: Simulate again whatever is there.
        progress: Told how far it is.

    Returns:
        What became of each, by key.

    Raises:
        SimulationError: The simulation cannot be made.
    """
    group = group_of(parent, members[0])
    slots = tuple(member.slot for member in members)
    starts = np.repeat(members[0].native[None], max(slots) + 1, axis=0)
    for member in members:
        starts[member.slot] = member.native
    vocabulary = registry.bead_vocabulary()
    types = torch.tensor([vocabulary.types(member.sequence) for member in members])
    identity = batch_identity(model_hash, [member.sequence for member in members])
    system = SystemInput(
        key=group,
        bead_types=types[0].clone(),
        starts=torch.from_numpy(starts.astype(np.float32)),
        sequence=members[0].sequence,
    )
    record = out.with_name(f"{out.stem}.{group}.run.json")
    others = force
    if not force and record.is_file():
        # More variants at hand than before: the batch is another, and short.
        inputs = config.read_model(RunRecord, record).inputs
        others = inputs.get("model") != identity or inputs.get("replicas") != list(slots)
    simulate(
        SequenceBatch(potential, types),
        system,
        protocol,
        seed=seed,
        out=out,
        force=others,
        replicas=slots,
        model_hash=identity,
        progress=progress,
    )
    return looked_at(read_trajectories(out, group), members, protocol)


def group_of(parent: str, member: Member) -> str:
    """Return what stage one's file calls the chains of a parent with as many beads as a member."""
    return f"{parent}-{len(member.sequence)}-beads"


def batch_identity(model_hash: str, sequences: Sequence[str]) -> str:
    """Return what decides the trajectories of a batch: the model, and every chain's sequence."""
    return config.fingerprint([model_hash, list(sequences)])


def looked_at(
    stored: TrajectorySet, members: Sequence[Member], protocol: Protocol
) -> dict[str, Screened]:
    """Return what became of the members of a batch, by key.

    Args:
        stored: Their trajectories, in the same order.
        members: Chains of the same number of beads.
        protocol: Of stage one.
    """
    window = round(window_of(protocol) / protocol.output_interval)
    n_frames = protocol.n_frames(stored.system)
    return {
        member.key: _looked_at(member, frames, int(alive), n_frames, window)
        for member, frames, alive in zip(
            members, stored.coordinates, stored.alive_until, strict=True
        )
    }


def window_of(protocol: Protocol) -> float:
    """Return the length in ps of the end of a trajectory that is looked at: at most half of it."""
    return min(registry.mutant_screening().window_ps, protocol.length / 2.0)


def _looked_at(
    member: Member, frames: NDArray[np.float32], alive: int, n_frames: int, window: int
) -> Screened:
    if alive < n_frames:
        return Screened("lost", None, f"the chain is broken from frame {alive} of {n_frames} on")
    first, last = member.scored
    q = q_native(frames[-window:, first:last], member.native[first:last])
    median = float(np.clip(np.median(q), 0.0, 1.0))
    least = registry.mutant_screening().least_q
    return Screened("stays" if median >= least else "unfolds", median)


def screened_or_reason(
    potential: AnyPotential, members: Sequence[Member]
) -> tuple[list[Member], dict[str, Screened]]:
    """Divide members into those that a model can simulate and those it cannot, with the reason."""
    able, not_able = [], {}
    for member in members:
        try:
            require_beads(potential, member.sequence)
        except CgbenchError as error:
            not_able[member.key] = Screened("failed", None, error.message)
        else:
            able.append(member)
    return able, not_able
