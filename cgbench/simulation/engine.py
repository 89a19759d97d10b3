"""Simulation of a potential under a protocol, restartable, into ``trajectories.zarr``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch

from cgbench import config, registry
from cgbench.errors import UsageError, ValidationError
from cgbench.models import Potential
from cgbench.progress import Progress, silent
from cgbench.simulation.checkpoint import RunRecord, SimulationOutcome
from cgbench.simulation.engines import EngineChoice, choose_engine
from cgbench.simulation.overlapped import OverlappedRun
from cgbench.simulation.plan import Plan
from cgbench.simulation.potentials import ChainPotential, parameters_hash
from cgbench.simulation.run import Run
from cgbench.simulation.system import SystemInput

#: Seconds between checkpoints: what a crash can cost.
CHECKPOINT_INTERVAL: Final[float] = 30.0


def simulate(
    potential: Potential | ChainPotential,
    system: SystemInput,
    protocol: registry.Protocol,
    *,
    seed: int,
    out: Path,
    force: bool = False,
    dtype: torch.dtype = torch.float32,
    replicas: Sequence[int] | None = None,
    model_hash: str | None = None,
    engine: EngineChoice = "auto",
    checkpoint_interval: float = CHECKPOINT_INTERVAL,
    progress: Progress = silent,
) -> SimulationOutcome:
    """Simulate replicas of one chain and write their frames.

    Frame f of a trajectory is the state after f + 1 output intervals; the start frame is not
    among them. A replica is dead from the first frame at which its positions, forces or energies
    are not finite or a bond is outside the registry's bounds; it is then held still, its frames
    hold its last finite positions and its energies are NaN. The others go on undisturbed; when
    none is left the run ends.

    A run of the same inputs that is finished is not done again, and one that was interrupted by
    anything, Ctrl-C and a killed process included, continues. With the same batch and number of
    threads the continued run is bitwise the uninterrupted one (on the CPU). The integrator and
    its noise are bitwise independent of the batch. With compiled loops on a processor so are whole
    paths, and of the number of threads; elsewhere it depends on how the potential's matrix products
    round.

    Under a protocol with a ladder, replicas stay continuous and exchange temperatures: each frame
    has the temperature that it was sampled at, and the outcome says how well they mixed.

    Args:
        potential: Computes on the device of its parameters, which the run then uses, and must be
            translation invariant: chains are moved back to the origin at every frame.
        system: The chain and its start frames.
        protocol: The constants of the run.
        seed: Seed of all replicas' streams.
        out: The ``trajectories.zarr``; the system's group in it is written. A record and, until
            the end, a checkpoint lie beside it.
        force: Start anew, whatever is there.
        dtype: Precision of the dynamics, which must be the potential's.
        replicas: Global indices of the replicas to run, for spreading a run over devices; all by
            default, and whole ladders where they exchange temperatures. Replica r starts from
            start frame r modulo their number.
        model_hash: Identity of the model; computed from a torch module's parameters by default.
        engine: Code that computes the forces; ``auto`` picks the fastest that fits, and the outcome
            says which and why.
        checkpoint_interval: Seconds between checkpoints.
        progress: Called with steps done; the task's text ends with the speed.

    Raises:
        UsageError: ``out`` holds this system from another model, seed or protocol, or the model's
            identity is not known, or the engine does not fit the potential.
        ValidationError: The potential's output has a wrong shape or precision, or replica indices
            are not distinct.
        IntegrityError: A checkpoint or record is damaged.
    """
    chosen = tuple(range(protocol.n_replicas) if replicas is None else replicas)
    if not chosen or len(set(chosen)) != len(chosen):
        raise ValidationError(
            f"{system.key}: replica indices must be distinct and at least one", found=list(chosen)
        )
    chosen_engine = choose_engine(potential, system.bead_types, dtype, engine, len(chosen))
    plan = Plan(
        potential=potential,
        system=system,
        protocol=protocol,
        seed=seed,
        out=out,
        dtype=dtype,
        replicas=chosen,
        model_hash=model_hash or parameters_hash(potential),
        engine=chosen_engine,
    )
    recorded = plan.record_path.is_file()
    if recorded and not force:
        previous = config.read_model(RunRecord, plan.record_path)
        _require_same(previous, plan)
        if previous.outcome is not None:
            return previous.outcome
    elif not force and (out / system.key).exists():
        # Nothing is known about these frames, so they are not overwritten unasked.
        raise UsageError(
            f"{out}: holds {system.key} already, without a record of how it was made",
            fix="use --force to replace it, or another --out",
        )
    # A ladder needs the energies of every attempt before the next step.
    overlaps = chosen_engine.device is not None and protocol.steps_per_exchange is None
    run = (OverlappedRun if overlaps else Run)(plan, resume=recorded and not force)
    outcome = run.finish(checkpoint_interval, progress)
    config.write_model(plan.record_path, plan.record(outcome))
    plan.checkpoint_path.unlink(missing_ok=True)
    return outcome


def _require_same(previous: RunRecord, plan: Plan) -> None:
    if previous.fingerprint == plan.fingerprint:
        return
    differing = sorted(
        name for name, value in plan.inputs.items() if previous.inputs.get(name) != value
    )
    raise UsageError(
        f"{plan.out}: holds another simulation of {plan.system.key}",
        expected=f"the same {', '.join(differing)}",
        fix="use --force to replace it, or another --out",
    )
