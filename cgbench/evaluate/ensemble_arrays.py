"""Ensembles from ``.npz`` and ``.npy`` files, which may come from anyone.

An ``.npz`` holds, all but the coordinates optional:

- ``coordinates`` (n, n_beads, 3) in Å, or ``trajectories`` (m, n, n_beads, 3) of equal lengths;
- ``trajectory`` (n,): which trajectory a frame of ``coordinates`` belongs to;
- ``weights`` (n,): not negative, for frames without time order;
- ``temperature``: in K, one number, one for each trajectory, or one for each frame;
- ``energy`` (n,): potential energy of each frame in kcal/mol;
- ``frame_interval_ps``: one number; its presence says that frames are in time order;
- ``sequence``: one letter for each bead.

For ``trajectories``, arrays of one number for each frame have shape (m, n) or (m·n,). Nothing is
unpickled, and no array is read before its header was compared with its size.
"""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate.raw_ensemble import RawEnsemble, divided
from cgbench.ingest.npy import HEAD_BYTES, NpyHeader, parse_header, read_header

Array = NDArray[Any]

#: More than ten million frames of the longest protein.
MAX_ARRAY_BYTES: Final = 32 * 1024**3
#: What packs better than this is no set of structures.
_MOST_PACKED: Final = 200
_PACKED_BYTES: Final = 256 * 1024**2
_KNOWN: Final = (
    "coordinates",
    "trajectories",
    "trajectory",
    "weights",
    "temperature",
    "energy",
    "frame_interval_ps",
    "sequence",
)
_DAMAGE: Final = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    ValueError,
    RuntimeError,
    NotImplementedError,
    EOFError,
)


def npy_shape(path: Path) -> tuple[int, ...]:
    """Return the shape of an ``.npy`` file of structures, checked.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, cut off, or holding objects.
        ValidationError: Not (n, n_beads, 3) or (m, n, n_beads, 3) numbers.
    """
    header = read_header(path)
    _check_structures(header, str(path))
    return header.shape


def read_npy(path: Path) -> RawEnsemble:
    """Return structures of an ``.npy`` file, memory-mapped.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, cut off, or holding objects.
        ValidationError: Not structures.
    """
    npy_shape(path)
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    return _structures(values)


def read_weights(path: Path) -> NDArray[np.float64]:
    """Return the weights (n_frames,) of a file ``FILE.npy``.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, cut off, or holding objects.
        ValidationError: Not a list of numbers.
    """
    header = read_header(path)
    if header.dtype.kind not in "fiu" or len(header.shape) != 1:
        raise ValidationError(
            f"{path}: not a list of weights",
            expected="(n_frames,) numbers",
            found=f"{header.dtype} of shape {header.shape}",
        )
    weights: NDArray[np.float64] = np.load(path, allow_pickle=False).astype(np.float64)
    return weights


class NpzEnsemble:
    """An ``.npz`` file whose headers were checked and whose arrays are read on demand.

    Args:
        path: The file.

    Raises:
        UsageError: No such file.
        IntegrityError: Damaged, cut off, oversized, or holding objects.
        ValidationError: No coordinates, or of a wrong shape or type.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise UsageError(f"{path}: no such file")
        self.path = path
        self.headers = self._headers()
        given = [name for name in ("coordinates", "trajectories") if name in self.headers]
        if len(given) != 1:
            raise ValidationError(
                f"{path}: {'coordinates and trajectories' if given else 'no coordinates'}",
                expected="coordinates (n, n_beads, 3) or trajectories (m, n, n_beads, 3)",
                found=", ".join(self.headers) or "no array of a known name",
            )
        self._name = given[0]
        header = self.headers[self._name]
        _check_structures(header, f"{path}: {self._name}")
        if len(header.shape) != (3 if self._name == "coordinates" else 4):
            raise ValidationError(
                f"{path}: {self._name} has the wrong shape",
                expected="(n, n_beads, 3)" if self._name == "coordinates" else "(m, n, n_beads, 3)",
                found=header.shape,
            )

    @property
    def n_beads(self) -> int:
        """Beads, or atoms, of each frame."""
        return self.headers[self._name].shape[-2]

    @property
    def sequence(self) -> str | None:
        """The sequence that the file states, or None."""
        if "sequence" not in self.headers:
            return None
        value = self._read("sequence")
        if value.dtype.kind not in "US" or value.size > 10_000:
            raise ValidationError(
                f"{self.path}: sequence", expected="one letter for each bead", found=value.dtype
            )
        letters = value.astype(str).reshape(-1).tolist()
        return "".join(letters)

    def read(self) -> RawEnsemble:
        """Return everything that the file holds.

        Raises:
            IntegrityError: An array is damaged.
            ValidationError: Arrays do not fit one another.
        """
        raw = _structures(self._read(self._name))
        order: NDArray[np.intp] | None = None
        if "trajectory" in self.headers:
            raw, order = self._grouped(raw)
        numbers = {
            name: self._numbers(name, raw, order)
            for name in ("weights", "energy", "temperature")
            if name in self.headers
        }
        raw.weights, raw.energies = numbers.get("weights"), numbers.get("energy")
        raw.temperatures = numbers.get("temperature")
        if "frame_interval_ps" in self.headers:
            raw.frame_interval = self._interval()
        return raw

    def _grouped(self, raw: RawEnsemble) -> tuple[RawEnsemble, NDArray[np.intp] | None]:
        """Divide frames by their trajectory; frames of one keep their order."""
        index = self._read("trajectory")
        frames = raw.trajectories[0]
        if self._name != "coordinates" or index.dtype.kind not in "iu":
            raise ValidationError(
                f"{self.path}: trajectory",
                expected="whole numbers, beside coordinates (n, n_beads, 3)",
                found=f"{index.dtype} beside {self._name}",
            )
        if index.shape != (len(frames),):
            raise ValidationError(
                f"{self.path}: trajectory has not one number for each frame",
                expected=f"({len(frames)},)",
                found=index.shape,
            )
        order = None
        if (np.diff(index) < 0).any():
            order = np.argsort(index, kind="stable")
            frames, index = frames[order], index[order]
        _, lengths = np.unique(index, return_counts=True)
        return RawEnsemble(divided(frames, lengths.tolist()), grouped=len(lengths) > 1), order

    def _numbers(self, name: str, raw: RawEnsemble, order: NDArray[np.intp] | None) -> list[Array]:
        values = self._read(name)
        if values.dtype.kind not in "fiu":
            raise ValidationError(
                f"{self.path}: {name} holds no numbers", expected="float64", found=values.dtype
            )
        values = values.astype(np.float64, copy=False)
        n_frames, n_trajectories = raw.n_frames, len(raw.trajectories)
        if name == "temperature" and values.size in (1, n_trajectories) and n_frames > values.size:
            each = np.broadcast_to(values.reshape(-1), (n_trajectories,))
            return [np.full(length, value) for length, value in zip(raw.lengths, each, strict=True)]
        per_frame = values.shape == (n_frames,) or (
            self._name == "trajectories" and values.shape == self.headers[self._name].shape[:2]
        )
        if not per_frame:
            raise ValidationError(
                f"{self.path}: {name} has not one number for each frame",
                expected=f"({n_frames},)",
                found=values.shape,
            )
        values = values.reshape(-1)
        return divided(values if order is None else values[order], raw.lengths)

    def _interval(self) -> float:
        value = self._read("frame_interval_ps")
        if value.size != 1 or value.dtype.kind not in "fiu":
            raise ValidationError(
                f"{self.path}: frame_interval_ps",
                expected="one number of ps",
                found=f"{value.dtype} of shape {value.shape}",
            )
        return float(value.reshape(-1)[0])

    def _headers(self) -> Mapping[str, NpyHeader]:
        headers = {}
        try:
            with zipfile.ZipFile(self.path) as archive:
                for name in _KNOWN:
                    try:
                        member = archive.getinfo(f"{name}.npy")
                    except KeyError:
                        continue
                    headers[name] = self._header(archive, member, f"{self.path}: {name}")
        except CgbenchError:
            raise
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return headers

    def _header(self, archive: zipfile.ZipFile, member: zipfile.ZipInfo, origin: str) -> NpyHeader:
        packed = member.file_size > _MOST_PACKED * max(1, member.compress_size)
        if member.file_size > MAX_ARRAY_BYTES or (packed and member.file_size > _PACKED_BYTES):
            raise IntegrityError(
                f"{origin} unpacks to too much",
                expected=f"at most {MAX_ARRAY_BYTES} bytes, packed less than {_MOST_PACKED} times",
                found=f"{member.file_size} bytes from {member.compress_size}",
            )
        with archive.open(member) as handle:
            return parse_header(handle.read(HEAD_BYTES), member.file_size, origin)

    def _read(self, name: str) -> Array:
        """Read an array whose header was checked."""
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(f"{name}.npy") as handle:
                values = np.lib.format.read_array(handle, allow_pickle=False)
                # Only at its end is a member compared with its checksum.
                handle.read(1)
        except _DAMAGE as error:
            raise self._damaged(error) from error
        return np.asarray(values)

    def _damaged(self, error: Exception) -> IntegrityError:
        return IntegrityError(
            f"{self.path}: damaged, cut off, or no .npz file",
            found=(str(error).splitlines() or [type(error).__name__])[0][:200],
            fix="get the file again",
        )


def _check_structures(header: NpyHeader, origin: str) -> None:
    if header.dtype.kind != "f":
        raise ValidationError(
            f"{origin}: coordinates are not floating-point numbers",
            expected="float32",
            found=header.dtype,
        )
    if len(header.shape) not in (3, 4) or header.shape[-1] != 3:
        raise ValidationError(
            f"{origin}: coordinates have the wrong shape",
            expected="(n, n_beads, 3) or (m, n, n_beads, 3)",
            found=header.shape,
        )
    if 0 in header.shape:
        raise ValidationError(f"{origin}: holds no structure", found=header.shape)
    if header.size > MAX_ARRAY_BYTES:
        raise IntegrityError(
            f"{origin}: too large", expected=f"at most {MAX_ARRAY_BYTES} bytes", found=header.size
        )


def _structures(values: Array) -> RawEnsemble:
    if values.ndim == 4:
        return RawEnsemble(list(values), grouped=len(values) > 1)
    return RawEnsemble([values], grouped=False)
