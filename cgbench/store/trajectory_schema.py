"""Simulated ensembles, ``trajectories.zarr``: one group per system, version 1.

A group holds its frames flat and trajectory by trajectory: where all have ``n_output_frames``
frames, trajectory ``r`` is ``r * n_output_frames`` and on::

    coordinates          (frame, bead, xyz) float32  Å
    trajectory           (frame,)           int32
    frame_in_trajectory  (frame,)           int32
    network_energy       (frame,)           float32  kcal/mol (optional)
    prior_energy         (frame,)           float32  kcal/mol (optional)
    weight               (frame,)           float64  (optional, frames without time order)
    temperature          (frame,)           float64  K (optional, replica exchange: of each frame)
    alive_until          (replica,)         int64    first bad frame of each trajectory

Attributes: ``frame_interval_ps``, ``temperature_K``, ``protocol``, ``model_hash``, ``seeds``,
``sequence``, ``units``, ``n_output_frames``, ``frames_written``, ``complete`` and ``status``.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pydantic

from cgbench.config import Frozen, validate
from cgbench.errors import UsageError
from cgbench.store.schema import ArraySpec, FloatArray, IntArray

FORMAT: Final = "cgbench-trajectories"
SCHEMA_VERSION: Final = "v1"

#: There are thousands of chunks: one file each, without folders of their own.
CHUNK_SEPARATOR: Final = "."

COORDINATES: Final = ArraySpec(
    "coordinates",
    "float32",
    ("frame", "bead", "xyz"),
    float("nan"),
    {"units": "angstrom", "long_name": "bead position"},
)
_FRAME = ("frame",)
TRAJECTORY: Final = ArraySpec(
    "trajectory", "int32", _FRAME, -1, {"long_name": "number of the trajectory"}
)
FRAME_IN_TRAJECTORY: Final = ArraySpec(
    "frame_in_trajectory",
    "int32",
    _FRAME,
    -1,
    {"long_name": "number of the frame within its trajectory"},
)
NETWORK_ENERGY: Final = ArraySpec(
    "network_energy",
    "float32",
    _FRAME,
    float("nan"),
    {"units": "kcal/mol", "long_name": "energy of the network"},
)
PRIOR_ENERGY: Final = ArraySpec(
    "prior_energy",
    "float32",
    _FRAME,
    float("nan"),
    {"units": "kcal/mol", "long_name": "energy of the prior"},
)
WEIGHT: Final = ArraySpec(
    "weight", "float64", _FRAME, float("nan"), {"units": "1", "long_name": "statistical weight"}
)
TEMPERATURE: Final = ArraySpec(
    "temperature",
    "float64",
    _FRAME,
    float("nan"),
    {"units": "kelvin", "long_name": "temperature that the frame was sampled at"},
)
# Its dimension is not called trajectory, which is the name of a variable along the frames.
ALIVE_UNTIL: Final = ArraySpec(
    "alive_until", "int64", ("replica",), -1, {"long_name": "first bad frame of the trajectory"}
)

SYSTEM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class TrajectoryAttributes(Frozen):
    """Where an ensemble comes from.

    Attributes:
        sequence: One letter for each bead.
        temperature: In K.
        frame_interval: Time between frames in ps; None for frames without time order.
        protocol: Id of the simulation protocol.
        model_hash: ``sha256:…`` of the model file.
        seeds: Seeds by what they were used for.
    """

    sequence: str = pydantic.Field(min_length=1)
    temperature: float = pydantic.Field(gt=0, allow_inf_nan=False)
    frame_interval: float | None = pydantic.Field(gt=0, allow_inf_nan=False)
    protocol: str | None = None
    model_hash: str | None = None
    seeds: dict[str, int] = pydantic.Field(default_factory=dict)

    def on_disk(self) -> dict[str, Any]:
        """Return the attributes as they are stored, with units in their names."""
        data = self.model_dump(mode="json")
        data["temperature_K"] = data.pop("temperature")
        data["frame_interval_ps"] = data.pop("frame_interval")
        return data

    @classmethod
    def from_disk(cls, attributes: dict[str, Any], origin: object) -> "TrajectoryAttributes":
        """Return the attributes of a group; names that are not ours are left out.

        Raises:
            ValidationError: One is missing or of the wrong type.
        """
        names = {name: name for name in cls.model_fields}
        names |= {"temperature": "temperature_K", "frame_interval": "frame_interval_ps"}
        data = {name: attributes[key] for name, key in names.items() if key in attributes}
        return validate(cls, data, origin)


@dataclass(frozen=True)
class TrajectorySet:
    """An ensemble of one system, in memory.

    Attributes:
        system: Registry key.
        coordinates: (n_frames_i, n_beads, 3) float32 in Å per trajectory.
        network_energy: (n_frames_i,) float32 in kcal/mol per trajectory, or None.
        prior_energy: As ``network_energy``.
        weights: (n_frames_i,) float64 per trajectory, or None.
        alive_until: (n_trajectories,) int64, first bad frame of each.
        frame_interval: In ps; None for frames without time order.
        temperature: In K.
        attributes: Where it comes from.
        complete: False for a simulation that is still running or was interrupted.
        status: What the simulation ended with.
        temperatures: (n_frames_i,) float64 in K per trajectory where frames were sampled at several
            temperatures, as in replica exchange; else None.
    """

    system: str
    coordinates: list[FloatArray]
    network_energy: list[FloatArray] | None
    prior_energy: list[FloatArray] | None
    weights: list[npt.NDArray[np.float64]] | None
    alive_until: IntArray
    frame_interval: float | None
    temperature: float
    attributes: TrajectoryAttributes
    complete: bool = True
    status: str = "ok"
    temperatures: list[npt.NDArray[np.float64]] | None = None

    @property
    def sequence(self) -> str:
        """One letter for each bead."""
        return self.attributes.sequence


def check_system_name(system: str) -> None:
    """Refuse names of systems that are no plain folder names.

    Raises:
        UsageError: The name is empty, too long or has characters like ``/``.
    """
    if not SYSTEM_NAME.fullmatch(system):
        raise UsageError(f"{system!r}: not a name of a system")


def chunk_name(number: int, n_dimensions: int) -> str:
    """Return the file name of a chunk that holds whole frames, below its array's folder."""
    return CHUNK_SEPARATOR.join(["c", str(number), *["0"] * (n_dimensions - 1)])


def flat_index(
    lengths: Sequence[int],
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return trajectory and frame within it for flat frames of trajectories of given lengths."""
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    within = [np.arange(length, dtype=np.int32) for length in lengths]
    return numbers, np.concatenate([np.zeros(0, dtype=np.int32), *within])
