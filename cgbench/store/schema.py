"""The store's format, version 1: names, units, types, layout and metadata.

A store is one folder, ``<system>.zarr``, a zarr v3 group::

    bead_type            (bead,)            int64    the published bead vocabulary
    coordinates          (frame, bead, xyz) float32  Å
    trajectory           (frame,)           int32    number of the trajectory
    frame_in_trajectory  (frame,)           int32    number of the frame within it
    valid                (frame,)           bool     false where screening found damage
    forces/<map>         (frame, bead, xyz) float32  kcal/mol/Å
    manifest.json                                    hashes of every file and of the decoded data

All arrays along ``frame`` share one layout, so that shard ``k`` of each holds the same frames.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pydantic

from cgbench.config import Frozen
from cgbench.errors import ValidationError

FORMAT: Final = "cgbench-store"
SCHEMA_VERSION: Final = "v1"

MANIFEST_NAME: Final = "manifest.json"
JOURNAL_NAME: Final = "journal.jsonl"
FORCES_GROUP: Final = "forces"

#: Uncompressed size of a chunk at most: a single frame then costs about a millisecond to read.
CHUNK_BYTES: Final = 1024 * 1024
#: A shard is one file; 64 chunks keep it below 64 MiB.
CHUNKS_PER_SHARD: Final = 64
BYTES_PER_BEAD: Final = 12

UNITS: Final[Mapping[str, str]] = {
    "coordinates": "angstrom",
    "forces": "kcal/mol/angstrom",
    "temperature": "kelvin",
    "frame_interval": "picosecond",
}

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

Consistency = Literal["yes", "no", "unknown"]
#: Compressors of the arrays, all lossless (``cgbench.store.arrays.compressors``).
CodecName = Literal["zstd", "lz4", "none"]
#: The 16-bit integer that stands for frames which failed screening; it decodes to NaN.
INVALID_COUNT: Final = -32768


def chunk_frames(n_beads: int) -> int:
    """Return the frames of a chunk: the largest power of two of at most 1 MiB (8192 at 10)."""
    if n_beads < 1:
        raise ValidationError("number of beads", expected="at least 1", found=n_beads)
    return int(2 ** int(np.log2(max(1, CHUNK_BYTES // (n_beads * BYTES_PER_BEAD)))))


class Layout(Frozen):
    """How many frames make a chunk and how many chunks a shard."""

    chunk: int = pydantic.Field(gt=0)
    chunks_per_shard: int = pydantic.Field(gt=0)

    @property
    def shard(self) -> int:
        """Frames of a shard, the unit of writing and of verification."""
        return self.chunk * self.chunks_per_shard

    @classmethod
    def standard(cls, n_frames: int, n_beads: int) -> "Layout":
        """Return the layout that every published store uses, no larger than the frames need."""
        chunk = min(chunk_frames(n_beads), max(1, n_frames))
        return cls(chunk=chunk, chunks_per_shard=min(CHUNKS_PER_SHARD, -(-n_frames // chunk)))

    def shard_ranges(self, n_frames: int) -> list[tuple[int, int]]:
        """Return the flat frame range of each shard."""
        return [
            (start, min(start + self.shard, n_frames)) for start in range(0, n_frames, self.shard)
        ]


class SourceFile(Frozen):
    """One raw file that a store was made from."""

    role: str
    name: str
    sha256: str
    size: int


class Quantisation(Frozen):
    """How numbers are kept as 16-bit integers: value = scale × integer.

    Coordinates are centred frame by frame first, so translations are lost. An error is at most
    half a scale (the ``bounds``).

    Attributes:
        dtype: The type on disk.
        scales: Per array name (``coordinates``, ``forces/<map>``) the value of one count, in Å or
            kcal/mol/Å.
        bounds: Per array name the largest error of a component.
        centred: Whether the mean of each frame's coordinates was subtracted.
    """

    dtype: Literal["int16"] = "int16"
    scales: dict[str, float]
    bounds: dict[str, float]
    centred: bool = True


#: ``stated`` by the raw data's own index, ``verified`` against trajectories with times.
IntervalSource = Literal["stated", "verified"]
#: ``stated`` by an index file, ``files`` one file each, ``archive`` matched frame by frame.
BoundariesSource = Literal["stated", "files", "archive"]

_LATER: Final = frozenset(
    {"quantisation", "frame_interval_source", "boundaries_source", "synthetic"}
)


class StoreMetadata(Frozen):
    """What a store knows about its system, besides the arrays.

    Temperatures are in K and the frame interval in ps. ``start_kind`` holds one word per
    trajectory. ``trajectories_known`` is false where the raw data carry no trajectory index: the
    frames then count as one trajectory whose time order must not be used. ``quantisation`` is
    given where numbers are stored as integers. ``frame_interval_source`` says how the interval
    is known, ``boundaries_source`` how the trajectories are.
    ``synthetic`` marks frames of a model made to have known answers: they are no reference data.
    """

    system: str
    name: str
    sequence: str
    temperature: float
    frame_interval: float | None
    force_maps: tuple[str, ...]
    default_force_map: str | None
    force_map_consistent: dict[str, Consistency]
    constraints: str | None
    licence: str | None
    trajectories_known: bool
    start_kind: tuple[str, ...] | None
    sources: tuple[SourceFile, ...]
    description: str | None = None
    quantisation: Quantisation | None = None
    frame_interval_source: IntervalSource | None = None
    boundaries_source: BoundariesSource | None = None
    synthetic: bool = False

    @pydantic.model_serializer(mode="wrap")
    def _without_later_fields(
        self, handler: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # Fields that came after the first stores are left out where they say nothing, so that the
        # fingerprints of those stores stay what they are.
        data: dict[str, Any] = handler(self)
        return {name: value for name, value in data.items() if name not in _LATER or value}

    @pydantic.model_validator(mode="after")
    def _force_maps_agree(self) -> "StoreMetadata":
        if len(set(self.force_maps)) != len(self.force_maps):
            raise ValueError("force_maps holds a name twice")
        for name in self.force_maps:
            if not name.isidentifier():
                raise ValueError(f"force map {name!r} is not a plain name")
        if set(self.force_map_consistent) != set(self.force_maps):
            raise ValueError("force_map_consistent must name exactly the force_maps")
        if (self.default_force_map is None) != (not self.force_maps):
            raise ValueError("default_force_map is missing")
        if self.default_force_map is not None and self.default_force_map not in self.force_maps:
            raise ValueError(f"default_force_map {self.default_force_map!r} is not in force_maps")
        return self

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the zarr group, with units in their names."""
        data = self.model_dump(mode="json")
        data["temperature_K"] = data.pop("temperature")
        data["frame_interval_ps"] = data.pop("frame_interval")
        return {
            "format": FORMAT,
            "schema_version": SCHEMA_VERSION,
            **data,
            "units": dict(UNITS),
            # The CF convention: xarray shows these variables as coordinates of the dimensions.
            "coordinates": "bead_type trajectory frame_in_trajectory valid",
        }


@dataclass(frozen=True)
class FrameBlock:
    """Consecutive frames of a source, ready to be written.

    ``coordinates`` (n, beads, 3) float32 Å; ``forces`` per map (n, beads, 3) float32
    kcal/mol/Å; ``valid`` (n,) bool; ``counts`` frames masked, by reason.
    """

    coordinates: FloatArray
    forces: Mapping[str, FloatArray]
    valid: BoolArray
    counts: Mapping[str, int] = field(default_factory=dict)


class FrameSource(Protocol):
    """What the writer consumes: random access to blocks of frames, safe from several threads."""

    @property
    def n_frames(self) -> int:
        """Number of frames."""

    @property
    def n_beads(self) -> int:
        """Number of beads of each frame."""

    @property
    def force_maps(self) -> tuple[str, ...]:
        """Names of the force maps."""

    @property
    def bead_types(self) -> IntArray:
        """Bead types (n_beads,) in the published vocabulary."""

    @property
    def trajectory_lengths(self) -> IntArray | None:
        """Frames of each trajectory, in order, or None where the source does not say."""

    def read(self, start: int, stop: int) -> FrameBlock:
        """Return the frames of a half-open range."""


@dataclass(frozen=True)
class ArraySpec:
    """Type, dimensions and description of one array of the store."""

    name: str
    dtype: str
    dims: tuple[str, ...]
    fill: float | int | bool
    attributes: Mapping[str, str | float]


def array_specs(
    force_maps: tuple[str, ...], quantisation: Quantisation | None = None
) -> tuple[ArraySpec, ...]:
    """Return every array of a store, in the order in which a shard is written.

    With a quantisation, coordinates and forces are integers with the attributes of the CF
    convention (``scale_factor``, ``_FillValue``), so that xarray decodes them.
    """
    frame = ("frame",)
    return (
        _vectors("coordinates", "coordinates", "bead position", quantisation),
        *(
            _vectors(f"{FORCES_GROUP}/{name}", "forces", f"bead force, map {name}", quantisation)
            for name in force_maps
        ),
        # Integers are filled with −1, so that frames never written cannot look like trajectory 0.
        ArraySpec("trajectory", "int32", frame, -1, {"long_name": "number of the trajectory"}),
        ArraySpec(
            "frame_in_trajectory",
            "int32",
            frame,
            -1,
            {"long_name": "number of the frame within its trajectory"},
        ),
        ArraySpec("valid", "bool", frame, False, {"long_name": "frame passed screening"}),
    )


def _vectors(
    name: str, quantity: str, long_name: str, quantisation: Quantisation | None
) -> ArraySpec:
    dims = ("frame", "bead", "xyz")
    attributes: dict[str, str | float] = {"units": UNITS[quantity], "long_name": long_name}
    if quantisation is None:
        return ArraySpec(name, "float32", dims, float("nan"), attributes)
    attributes |= {
        "scale_factor": quantisation.scales[name],
        "_FillValue": INVALID_COUNT,
        "error_bound": quantisation.bounds[name],
    }
    return ArraySpec(name, quantisation.dtype, dims, INVALID_COUNT, attributes)


BEAD_TYPE_SPEC: Final = ArraySpec(
    "bead_type", "int64", ("bead",), -1, {"long_name": "bead type, published vocabulary"}
)
