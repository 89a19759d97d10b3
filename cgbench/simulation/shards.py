"""A simulation whose replicas are shared among processes, machines or devices, and joined again.

Every replica has a random stream of its own, so where it runs does not matter to its noise. A part
is a run like any other, of some of the replicas, in a folder of its own; it is resumed by itself.
"""

import asyncio
import itertools
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import config
from cgbench.errors import UsageError
from cgbench.fetch.lock import hold
from cgbench.simulation.checkpoint import RunRecord, SimulationOutcome
from cgbench.store import TrajectoryAttributes, TrajectoryWriter
from cgbench.store.arrays import open_array
from cgbench.store.trajectory_schema import COORDINATES, NETWORK_ENERGY, PRIOR_ENERGY
from cgbench.store.untrusted import read_group_attributes

#: Frames of all replicas that are in memory at once.
_FRAMES: Final = 256


@dataclass(frozen=True)
class Shard:
    """One of several parts of the replicas.

    Args:
        index: Which, from 0.
        count: How many there are.

    Raises:
        UsageError: The index is not below the count.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise UsageError(
                f"shard {self.index}/{self.count}: there is no such part",
                expected="I/N with I from 0 to N - 1, as 0/4",
            )

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Return the part that ``I/N`` names.

        Raises:
            UsageError: It names none.
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise UsageError(
                f"shard {text!r}: not a part", expected="I/N with I from 0 to N - 1, as 0/4"
            )
        return cls(int(index), int(count))

    def replicas(self, n_replicas: int) -> range:
        """Return the global indices of its replicas, consecutive ones.

        Raises:
            UsageError: There are fewer replicas than parts.
        """
        if n_replicas < self.count:
            raise UsageError(
                f"{self.count} parts: more than there are replicas",
                expected=f"up to {n_replicas}",
            )
        return range(
            self.index * n_replicas // self.count, (self.index + 1) * n_replicas // self.count
        )

    def path(self, out: Path) -> Path:
        """Return where its ``trajectories.zarr`` lies, given that of all."""
        return out.parent / "parts" / f"{self.index}-of-{self.count}" / out.name


def record_path(trajectories: Path, system: str) -> Path:
    """Return where the record of a run lies, beside its trajectories."""
    return trajectories.with_name(f"{trajectories.stem}.{system}.run.json")


def finished_parts(out: Path, system: str, count: int) -> list[Path] | None:
    """Return the parts of a simulation; None if one is missing, unfinished or of another run."""
    parts = [Shard(index, count).path(out) for index in range(count)]
    inputs = []
    for part in parts:
        path = record_path(part, system)
        if not path.is_file():
            return None
        record = config.read_model(RunRecord, path)
        if record.outcome is None:
            return None
        inputs.append({name: value for name, value in record.inputs.items() if name != "replicas"})
    return parts if all(one == inputs[0] for one in inputs) else None


def join_parts(
    parts: Sequence[Path], out: Path, system: str, *, force: bool = False
) -> SimulationOutcome:
    """Write the replicas of finished parts as one run, as one process would have.

    Frames, lengths and records are those of one process, so the joined run is neither done again
    nor joined again. Whether the numbers are the same to the last bit depends on how the
    potential's matrix products round with fewer replicas in a batch; the noise is the same.

    Args:
        parts: The ``trajectories.zarr`` of each part, by replica.
        out: The ``trajectories.zarr`` to write the system's group of.
        system: Registry key.
        force: Replace what is there.

    Raises:
        UsageError: A part is missing or unfinished, parts do not belong together, or ``out`` holds
            another simulation.
        IntegrityError: A record is damaged.
    """

    async def alone() -> SimulationOutcome:
        # The parts that end last may all find that they can join.
        async with hold(record_path(out, system), lambda owner: None):
            return _join(parts, out, system, force)

    # In a thread of its own, because notebooks have a loop running in theirs.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(alone())).result()


def _join(parts: Sequence[Path], out: Path, system: str, force: bool) -> SimulationOutcome:
    records = [_finished(part, system) for part in parts]
    outcomes = [outcome for _, outcome in records]
    inputs = _common_inputs([record for record, _ in records], parts, system)
    target = record_path(out, system)
    fingerprint = config.fingerprint(inputs)
    if target.is_file() and not force:
        previous = config.read_model(RunRecord, target)
        if previous.fingerprint != fingerprint:
            raise UsageError(
                f"{out}: holds another simulation of {system} than its parts",
                fix="use --force to replace it, or another --out",
            )
        if previous.outcome is not None:
            return previous.outcome
    elif not force and (out / system).exists():
        raise UsageError(
            f"{out}: holds {system} already, without a record of how it was made",
            fix="use --force to replace it, or another --out",
        )
    record = RunRecord(fingerprint=fingerprint, inputs=inputs, outcome=None)
    config.write_model(target, record)
    alive_until = np.concatenate([outcome.alive_until for outcome in outcomes]).astype(np.int64)
    status = "ok" if any(outcome.status == "ok" for outcome in outcomes) else "failed"
    _write([part / system for part in parts], out, outcomes, alive_until, status)
    slowest = min(outcomes, key=lambda outcome: outcome.steps_per_second)
    outcome = slowest.model_copy(
        update={
            "status": status,
            "alive_until": tuple(alive_until.tolist()),
            "steps": max(outcome.steps for outcome in outcomes),
            "energy_evaluations": max(outcome.energy_evaluations for outcome in outcomes),
            "wall_time": max(outcome.wall_time for outcome in outcomes),
        }
    )
    config.write_model(target, record.model_copy(update={"outcome": outcome}))
    return outcome


def _finished(part: Path, system: str) -> tuple[RunRecord, SimulationOutcome]:
    path = record_path(part, system)
    if not path.is_file():
        raise UsageError(f"{part}: no simulation of {system}", fix="run this part")
    record = config.read_model(RunRecord, path)
    if record.outcome is None:
        raise UsageError(
            f"{part}: the simulation of {system} is not finished",
            fix="run this part again; it resumes",
        )
    return record, record.outcome


def _common_inputs(
    records: Sequence[RunRecord], parts: Sequence[Path], system: str
) -> dict[str, str | int | list[int]]:
    """Return the inputs of all parts together."""
    first = records[0].inputs
    replicas: list[int] = []
    for record, part in zip(records, parts, strict=True):
        differing = sorted(
            name for name, value in first.items()
            if name != "replicas" and record.inputs.get(name) != value
        )  # fmt: skip
        if differing:
            raise UsageError(
                f"{part}: another simulation of {system} than {parts[0]}",
                expected=f"the same {', '.join(differing)}",
                fix="run this part again with --force",
            )
        own = record.inputs["replicas"]
        replicas += own if isinstance(own, list) else []
    if replicas != list(range(len(replicas))):
        raise UsageError(
            f"{parts[0].parent.parent}: the parts do not make up the replicas",
            expected="replicas 0, 1, … in order",
            found=replicas,
        )
    return {**first, "replicas": list(replicas)}


def _write(
    folders: Sequence[Path],
    out: Path,
    outcomes: Sequence[SimulationOutcome],
    alive_until: NDArray[np.int64],
    status: str,
) -> None:
    stored = [read_group_attributes(folder) for folder in folders]
    attributes = TrajectoryAttributes.from_disk(stored[0], folders[0])
    written = [int(one["frames_written"]) for one in stored]
    n_frames, n_beads = outcomes[0].n_output_frames, len(attributes.sequence)
    writer = TrajectoryWriter(
        out,
        outcomes[0].system,
        n_replicas=len(alive_until),
        n_beads=n_beads,
        n_output_frames=n_frames,
        attributes=attributes,
        resume=False,
    )
    edges = [*range(0, max(written), _FRAMES), max(written)]
    for start, stop in itertools.pairwise(edges):
        arrays = []
        for spec in (COORDINATES, NETWORK_ENERGY, PRIOR_ENERGY):
            held = spec is COORDINATES
            blocks = [
                _frames(folder / spec.name, len(outcome.alive_until), start, stop, end, held)
                for folder, outcome, end in zip(folders, outcomes, written, strict=True)
            ]
            arrays.append(np.concatenate(blocks, axis=1))
        writer.append(*arrays)
    writer.finish(alive_until, status)


def _frames(
    path: Path, n_replicas: int, start: int, stop: int, written: int, held: bool
) -> NDArray[Any]:
    """Return frames (stop − start, n_replicas, …) of an array.

    A part whose replicas all failed ended early. In one process they would have been held still
    while others went on: at their last positions, without an energy.
    """
    array = open_array(path)
    length = array.shape[0] // n_replicas
    taken = np.minimum(np.arange(start, stop), written - 1)
    first, last = int(taken[0]), int(taken[-1]) + 1
    found = np.stack(
        [array[r * length + first : r * length + last][taken - first] for r in range(n_replicas)],
        axis=1,
    )
    if not held:
        found[np.arange(start, stop) >= written] = np.nan
    return found
