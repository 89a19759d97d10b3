"""What an interrupted simulation is continued from."""

import io
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench.config import Frozen, write_atomic
from cgbench.errors import IntegrityError
from cgbench.simulation.exchange import ExchangeOutcome, ExchangeState

Floats = NDArray[np.floating]

_FORMAT: Final = "cgbench-checkpoint-2"


class SimulationOutcome(Frozen):
    """What came of a simulation.

    Attributes:
        system: Registry key.
        status: ``failed`` if no replica lived to the end, else ``ok``.
        alive_until: First bad frame of each replica; ``n_output_frames`` where there is none.
        n_output_frames: Frames of each replica that the protocol asks for.
        steps: Integration steps done, the same for all replicas.
        energy_evaluations: Evaluations of the potential for the whole batch.
        wall_time: Seconds spent in the dynamics and in writing frames, over all restarts.
        steps_per_second: Steps of the whole batch a second.
        ns_per_day: Simulated time of each replica in ns a day; all replicas run at once, so
            together they make this many times their number.
        engine: Code that computed the forces; None in records of versions that had one only.
        engine_reason: Why that one.
        exchange: How well temperatures mixed; None where they were constant.
    """

    system: str
    status: Literal["ok", "failed"]
    alive_until: tuple[int, ...]
    n_output_frames: int
    steps: int
    energy_evaluations: int
    wall_time: float
    steps_per_second: float
    ns_per_day: float
    engine: str | None = None
    engine_reason: str | None = None
    exchange: ExchangeOutcome | None = None


class RunRecord(Frozen):
    """Which simulation a group of ``trajectories.zarr`` holds, beside it as JSON.

    Attributes:
        format: Always ``cgbench-run``.
        version: Version of this format.
        fingerprint: Over ``inputs``; a run is only continued or skipped under the same one.
        inputs: What determines the trajectories.
        outcome: None until the simulation is finished.
    """

    format: Literal["cgbench-run"] = "cgbench-run"
    version: Literal[1] = 1
    fingerprint: str
    inputs: dict[str, str | int | list[int]]
    outcome: SimulationOutcome | None


@dataclass(frozen=True)
class Checkpoint:
    """The state of a simulation right after an output frame.

    Attributes:
        fingerprint: Of the run it belongs to.
        step: Steps done.
        evaluations: Evaluations of the potential done.
        wall_time: Seconds spent.
        positions: (R, N, 3) in Å, in the precision of the run, as are the next two.
        velocities: (R, N, 3) in Å/ps.
        forces: (R, N, 3) in kcal/mol/Å.
        alive: (R,) bool.
        alive_until: (R,) int64.
        pending_start: Frames that were safe on disk when the pending ones began.
        pending_coordinates: (n, R, N, 3) float32, frames that were not yet safe on disk.
        pending_network_energy: (n, R) float32.
        pending_prior_energy: (n, R) float32.
        pending_temperature: (n, R) float64 in K; empty where temperatures are constant, as are the
            next ones.
        rungs: (R,) int64, with the next four the state of :class:`ExchangeState`.
        attempted: (n_temperatures − 1,) int64.
        accepted: (n_temperatures − 1,) int64.
        journeys: (R,) int64.
        round_trips: (R,) int64.
    """

    fingerprint: str
    step: int
    evaluations: int
    wall_time: float
    positions: Floats
    velocities: Floats
    forces: Floats
    alive: NDArray[np.bool_]
    alive_until: NDArray[np.int64]
    pending_start: int
    pending_coordinates: NDArray[np.float32]
    pending_network_energy: NDArray[np.float32]
    pending_prior_energy: NDArray[np.float32]
    pending_temperature: NDArray[np.float64]
    rungs: NDArray[np.int64]
    attempted: NDArray[np.int64]
    accepted: NDArray[np.int64]
    journeys: NDArray[np.int64]
    round_trips: NDArray[np.int64]

    @property
    def exchange(self) -> ExchangeState | None:
        """Where the exchange of temperatures goes on; None where they are constant."""
        if not len(self.rungs):
            return None
        return ExchangeState(
            self.rungs, self.attempted, self.accepted, self.journeys, self.round_trips
        )

    def write(self, path: Path) -> None:
        """Write the checkpoint; a crash leaves the one before whole."""
        arrays: dict[str, Any] = {
            field.name: np.asarray(getattr(self, field.name)) for field in fields(self)
        }
        buffer = io.BytesIO()
        np.savez(buffer, format=np.array(_FORMAT), **arrays)
        write_atomic(path, buffer.getvalue())

    @classmethod
    def read(cls, path: Path, fingerprint: str) -> "Checkpoint":
        """Read the checkpoint of the run with a fingerprint.

        Raises:
            IntegrityError: The file is damaged, of another format or of another run.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                values = {name: archive[name] for name in archive.files}
        except (OSError, EOFError, ValueError, zipfile.BadZipFile) as error:
            raise IntegrityError(
                f"{path}: the checkpoint is damaged", found=error, fix="start over with --force"
            ) from error
        found = str(values.pop("format", "no format"))
        if found != _FORMAT or set(values) != {field.name for field in fields(cls)}:
            raise IntegrityError(
                f"{path}: not a checkpoint of this version",
                expected=_FORMAT,
                found=found,
                fix="start over with --force",
            )
        if values["fingerprint"].item() != fingerprint:
            raise IntegrityError(
                f"{path}: the checkpoint is of another run than the record beside it",
                expected=fingerprint,
                found=values["fingerprint"].item(),
                fix="start over with --force",
            )
        scalars = {name: value.item() for name, value in values.items() if value.ndim == 0}
        return cls(**{**values, **scalars})
