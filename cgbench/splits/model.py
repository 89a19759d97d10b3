"""What a split is: the file format, its invariants and its fingerprint."""

import hashlib
from pathlib import Path
from typing import Any, Literal, Protocol, Self

import numpy as np
import pydantic
from numpy.typing import NDArray

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError, ValidationError

#: A half-open range of flat frame numbers.
FrameRange = tuple[int, int]

_NAME = r"^[a-z0-9][a-z0-9._-]{0,127}$"


class FrameIndexMetadata(Protocol):
    """The part of a store's description that splits need."""

    @property
    def system(self) -> str:
        """Registry key of the system."""

    @property
    def sequence(self) -> str:
        """One letter for each bead."""

    @property
    def start_kind(self) -> tuple[str, ...] | None:
        """How each trajectory was started, or None where that is unknown."""


class FrameIndex(Protocol):
    """Which frames there are, and which trajectories they form; a system store is one."""

    @property
    def metadata(self) -> FrameIndexMetadata:
        """Description of the data set."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the data set's content."""

    @property
    def n_frames(self) -> int:
        """Number of frames."""

    @property
    def trajectory_bounds(self) -> NDArray[np.int64]:
        """First and one-past-last frame (n_trajectories, 2) of each trajectory."""

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Which frames (n_frames,) passed screening."""


class SplitRule(Frozen):
    """The rule that made a split, so that it can be made again and be checked.

    ``method`` is ``trajectories`` (whole trajectories), ``blocks`` (contiguous blocks with a gap
    of unused frames between parts), ``random-frames`` (a random permutation of all frames) or
    ``leave-one-out`` (all frames or none for testing, see ``Split``). ``excluded_because`` says why
    the data of another system than the left-out one are not trained on either.
    """

    method: Literal["trajectories", "blocks", "random-frames", "leave-one-out"]
    fractions: dict[str, float]
    gap_frames: int = pydantic.Field(default=0, ge=0)
    block_frames: int | None = pydantic.Field(default=None, ge=1)
    stratified_by: Literal["start_kind"] | None = None
    left_out: str | None = pydantic.Field(default=None, pattern=_NAME)
    permutation_sha256: str | None = None
    excluded_because: str | None = pydantic.Field(default=None, max_length=200)

    @pydantic.model_serializer(mode="wrap")
    def _without_later_fields(
        self, handler: pydantic.SerializerFunctionWrapHandler
    ) -> dict[str, Any]:
        # Files of splits that exclude nothing stay what they were, byte by byte.
        data: dict[str, Any] = handler(self)
        if data.get("excluded_because") is None:
            data.pop("excluded_because", None)
        return data

    @pydantic.model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.fractions or any(not 0.0 <= share <= 1.0 for share in self.fractions.values()):
            raise ValueError("every fraction must lie between 0 and 1")
        if abs(sum(self.fractions.values()) - 1.0) > 1e-6:
            raise ValueError(f"fractions must add up to 1, not {sum(self.fractions.values())}")
        if (self.method == "random-frames") != (self.permutation_sha256 is not None):
            raise ValueError("random-frames, and only it, needs permutation_sha256")
        if (self.method == "leave-one-out") != (self.left_out is not None):
            raise ValueError("leave-one-out, and only it, needs left_out")
        if self.excluded_because is not None and self.left_out is None:
            raise ValueError("only leave-one-out excludes a system")
        return self


class Split(Frozen):
    """A division of one system's frames into parts (usually ``train``, ``val`` and ``test``).

    ``parts`` holds half-open ranges of flat frame numbers: sorted, inside the store and never
    overlapping, within a part or between parts; a file that breaks this is not a split. A
    ``random-frames`` split keeps its rule, its seed and the hash of the permutation instead of
    millions of frame numbers. ``trajectories`` lists the trajectories of each part where parts
    are made of whole trajectories, else it is null.

    A split that leaves one protein out is one file per system under one id, as every split is:
    ``lopo-<left out>`` of the left-out system, and of every system whose sequence is the same or
    too much like it, has all frames in ``test``; that of another system has the ``val`` part of its
    canonical split, the rest in ``train`` and an empty ``test``. Parts of other names need no new
    version either. Fields that later versions add must default to null: nulls take no part in the
    fingerprint, so those that results quote stay as they are.
    """

    format: Literal["cgbench-split"] = "cgbench-split"
    version: Literal[1] = 1
    id: str = pydantic.Field(pattern=_NAME)
    system: str = pydantic.Field(pattern=_NAME)
    store_fingerprint: str
    n_frames: int = pydantic.Field(ge=1)
    seed: int = pydantic.Field(ge=0)
    settings: SplitRule
    parts: dict[str, tuple[FrameRange, ...]]
    trajectories: dict[str, tuple[int, ...]] | None = None

    @pydantic.model_validator(mode="after")
    def _disjoint(self) -> Self:
        names = set(self.settings.fractions)
        if self.settings.method == "random-frames":
            if self.parts or self.trajectories is not None:
                raise ValueError("a random-frames split holds a rule, not ranges")
            return self
        if set(self.parts) != names:
            raise ValueError(f"parts are {sorted(self.parts)}, fractions name {sorted(names)}")
        if self.trajectories is not None and set(self.trajectories) != names:
            raise ValueError(f"trajectories name {sorted(self.trajectories)}, not {sorted(names)}")
        for name, ranges in self.parts.items():
            if list(ranges) != sorted(ranges):
                raise ValueError(f"the ranges of part {name!r} are not in order")
        last_stop, last_name = 0, "the beginning"
        for start, stop, name in self.ordered_ranges():
            if not 0 <= start < stop <= self.n_frames:
                raise ValueError(f"{name}: [{start}, {stop}) is no range of {self.n_frames} frames")
            if start < last_stop:
                raise ValueError(f"[{start}, {stop}) of {name!r} overlaps with {last_name!r}")
            last_stop, last_name = stop, name
        return self

    @property
    def fingerprint(self) -> str:
        """Hash over everything in the file that is not null."""
        return config.fingerprint(self.model_dump(mode="json", exclude_none=True))

    @property
    def part_names(self) -> tuple[str, ...]:
        """Names of the parts."""
        return tuple(self.settings.fractions)

    def ordered_ranges(self) -> list[tuple[int, int, str]]:
        """Return (start, stop, part) of all ranges in the order of frames."""
        return sorted(
            (start, stop, name) for name, ranges in self.parts.items() for start, stop in ranges
        )

    def frames(self, part: str, valid: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
        """Return the flat frame numbers of a part in ascending order.

        Args:
            part: Name of the part.
            valid: Mask (n_frames,) of usable frames; the others are left out.

        Raises:
            UsageError: There is no such part.
            ValidationError: The mask is not of the split's number of frames.
            IntegrityError: The permutation of a random split is not the one it was made with.
        """
        if part not in self.settings.fractions:
            raise UsageError(
                f"split {self.id} of {self.system}: no part {part!r}",
                expected=", ".join(self.part_names),
            )
        if self.settings.method == "random-frames":
            frames = self._random_frames(part)
        else:
            pieces = [np.arange(start, stop, dtype=np.int64) for start, stop in self.parts[part]]
            frames = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int64)
        if valid is None:
            return frames
        if valid.shape != (self.n_frames,):
            raise ValidationError(
                f"split {self.id} of {self.system}: mask of usable frames has the wrong length",
                expected=(self.n_frames,),
                found=valid.shape,
            )
        return frames[valid[frames]]

    def _random_frames(self, part: str) -> NDArray[np.int64]:
        order = permutation(self.n_frames, self.seed)
        found = permutation_sha256(order)
        if found != self.settings.permutation_sha256:
            raise IntegrityError(
                f"split {self.id} of {self.system}: its permutation cannot be made again",
                expected=self.settings.permutation_sha256,
                found=found,
                fix="make the split again; results made with it cannot be compared",
            )
        shares = np.cumsum(list(self.settings.fractions.values()))
        edges = [0, *np.rint(shares * self.n_frames).astype(int).tolist()]
        position = self.part_names.index(part)
        return np.sort(order[edges[position] : edges[position + 1]])


def permutation(n: int, seed: int) -> NDArray[np.int64]:
    """Return a random order of n items that stays the same in every version of numpy.

    numpy promises this of a bit generator's raw stream, but not of ``Generator.permutation``.
    """
    keys = np.random.PCG64(seed).random_raw(n)
    return np.argsort(keys, kind="stable").astype(np.int64)


def permutation_sha256(order: NDArray[np.int64]) -> str:
    """Return the hexadecimal sha256 of an order as little-endian 64-bit integers."""
    return hashlib.sha256(order.astype("<i8").tobytes()).hexdigest()


def read_split(path: Path) -> Split:
    """Read a split file.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It cannot be parsed.
        ValidationError: It is not a split, or its parts overlap or leave the range of frames.
    """
    return config.read_model(Split, path)


def write_split(path: Path, split: Split) -> None:
    """Write a split as JSON, atomically."""
    config.write_model(path, split)
