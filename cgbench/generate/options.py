"""From the words of a command to the settings of a run, with errors that name the option."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cgbench.config import file_sha256, validate
from cgbench.errors import UsageError, ValidationError
from cgbench.generate.campaign import Budget, Source
from cgbench.generate.earlier import coordinates_file
from cgbench.generate.exchange import geometric_ladder
from cgbench.generate.settings import DEFAULT_FORCE_FIELD, FORCE_FIELDS, GenerationSettings
from cgbench.generate.target import find_target, make_source
from cgbench.units import PICOSECONDS_PER_NANOSECOND


@dataclass(frozen=True)
class Options:
    """The options of ``cgbench generate`` as they were given; see its help.

    Attributes:
        protein: Key of a system or a sequence.
        home: Data home.
        structure: PDB file of the native structure.
        chain: Chain of that file.
        solvent: ``implicit`` or ``explicit``; by the force field for None.
        force_field: Name of a force field; by the solvent for None.
        temperature: In K.
        timestep: In ps.
        trajectory_length: In ns.
        frame_interval: In ps.
        coil_length: Time in ps that a coil is kept hot.
        per_round: Trajectories of an adaptive round.
        copies: Trajectories in one system.
        seed: Of everything random.
        from_raw: Raw folder that is continued.
        trajectories: Number at which to stop.
        nanoseconds: Total length at which to stop.
        hours: Wall time after which to stop.
        replica_exchange: Temperatures in K, in words that hold one or several.
        ladder: Number, lowest and highest of a geometric ladder.
        mean_force: Number of frames at which mean forces are computed.
        sampling: Time in ps that each copy at such a frame is sampled for.
        include_raw: Write the frames of the earlier set before the run's own.
        discard_all_atom: Remove the all-atom frames at the end.
        out: Folder of the run.
        platform: OpenMM platform.
        threads: Threads of the CPU platform.
        workers: Trajectories or replicas at a time.
    """

    protein: str
    home: Path
    structure: Path | None = None
    chain: str | None = None
    solvent: str | None = None
    force_field: str | None = None
    temperature: float = 350.0
    timestep: float = 0.004
    trajectory_length: float = 0.5
    frame_interval: float = 1.0
    per_round: int | None = None
    coil_length: float = 50.0
    copies: int = 1
    seed: int = 1
    from_raw: Path | None = None
    trajectories: int | None = None
    nanoseconds: float | None = None
    hours: float | None = None
    replica_exchange: tuple[str, ...] = ()
    ladder: tuple[int, float, float] | None = None
    mean_force: int | None = None
    sampling: float | None = None
    include_raw: bool = False
    discard_all_atom: bool = False
    out: Path | None = None
    platform: str | None = None
    threads: int | None = None
    workers: int = 1


@dataclass(frozen=True)
class ResolvedRun:
    """A run as it will be made.

    Attributes:
        settings: What to simulate.
        source: What a new run starts from.
        budget: When to stop; None where only mean forces are wanted.
    """

    settings: GenerationSettings
    source: Source
    budget: Budget | None


def resolve(options: Options) -> ResolvedRun:
    """Check the options and build the start structures.

    Raises:
        UsageError: An option is wrong, or nothing says when to stop.
        ValidationError: The structure is of another chain.
    """
    ladder = _ladder(options)
    budget = _budget(options, max(1, len(ladder)))
    if options.include_raw and options.from_raw is None:
        raise UsageError("--include-raw: of which folder?", fix="name it with --from-raw")
    target = find_target(
        options.protein, options.home, structure=options.structure, chain=options.chain
    )
    per_round = options.per_round or max(8, options.copies)
    values: dict[str, Any] = {
        "name": target.name,
        "sequence": target.sequence,
        "system": {"force_field": _force_field(options)},
        "dynamics": {
            "temperature": options.temperature,
            "timestep": options.timestep,
            "frame_interval": options.frame_interval,
        },
        # Rounded, since 0.1 ns is not exactly 100 ps in binary.
        "trajectory_length": round(options.trajectory_length * PICOSECONDS_PER_NANOSECOND, 6),
        "trajectories_per_round": per_round,
        "coil_length": options.coil_length,
        "n_copies": options.copies,
        "structure_sha256": None if target.structure is None else _hash(target.structure),
        "raw_sha256": (
            None if options.from_raw is None else _hash(coordinates_file(options.from_raw))
        ),
        "ladder": ladder,
        "exchange_interval": options.frame_interval,
        "seed": options.seed,
    }
    try:
        settings = validate(GenerationSettings, values, "options")
    except ValidationError as error:
        raise UsageError("cgbench generate: a wrong option", found=error.found) from error
    return ResolvedRun(settings, make_source(target, settings.system, seed=options.seed), budget)


def _budget(options: Options, n_replicas: int) -> Budget | None:
    numbers = [] if options.trajectories is None else [options.trajectories]
    if options.nanoseconds is not None:
        if options.trajectory_length <= 0:
            raise UsageError("--trajectory-length: must be above 0")
        if not math.isfinite(options.nanoseconds):
            raise UsageError("--nanoseconds: must be finite", found=options.nanoseconds)
        each = options.trajectory_length * n_replicas
        # A hair less, so that 0.3 ns in trajectories of 0.1 ns are three in spite of rounding.
        numbers.append(max(1, math.ceil(options.nanoseconds / each - 1e-9)))
    if not numbers and options.hours is None:
        if options.mean_force is not None:
            return None
        raise UsageError(
            "cgbench generate: nothing says when to stop",
            fix="give --hours, --nanoseconds or --trajectories",
        )
    return Budget(trajectories=min(numbers) if numbers else None, hours=options.hours)


def _ladder(options: Options) -> tuple[float, ...]:
    if options.ladder is not None:
        if options.replica_exchange:
            raise UsageError("--ladder and --replica-exchange: only one of them")
        return geometric_ladder(*options.ladder)
    words = [
        word for text in options.replica_exchange for word in re.split(r"[,\s]+", text.strip())
    ]
    try:
        return tuple(float(word) for word in words)
    except ValueError as error:
        raise UsageError(
            "--replica-exchange", expected="temperatures in K, as 350,380,410", found=error
        ) from error


def _force_field(options: Options) -> str:
    solvents = tuple(DEFAULT_FORCE_FIELD)
    if options.solvent is not None and options.solvent not in solvents:
        raise UsageError("--solvent", expected=" or ".join(solvents), found=options.solvent)
    chosen: Any = options.force_field
    if chosen is None:
        return DEFAULT_FORCE_FIELD["explicit" if options.solvent == "explicit" else "implicit"]
    if chosen not in FORCE_FIELDS:
        raise UsageError("--force-field", expected=", ".join(FORCE_FIELDS), found=chosen)
    solvent = FORCE_FIELDS[chosen].solvent
    if options.solvent not in (None, solvent):
        raise UsageError(
            f"--force-field {chosen} is for {solvent} solvent", found=f"--solvent {options.solvent}"
        )
    return str(chosen)


def _hash(path: Path) -> str:
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    return file_sha256(path)
