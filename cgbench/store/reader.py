"""Reading stores, local or remote: a cheap handle, lazy arrays, labelled views."""

import itertools
import os
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from cgbench.config import data_home
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store.arrays import Pipeline, choose_pipeline, joined, open_array
from cgbench.store.cache import Cache
from cgbench.store.local import open_manifest
from cgbench.store.locate import find_store
from cgbench.store.manifest import Manifest
from cgbench.store.quantise import CountArray, decode
from cgbench.store.remote import RemoteFolder, is_url
from cgbench.store.schema import (
    BEAD_TYPE_SPEC,
    FORCES_GROUP,
    BoolArray,
    FloatArray,
    IntArray,
    StoreMetadata,
)

if TYPE_CHECKING:
    import xarray

#: What zarr, its codecs and zarrs raise on damaged files.
READ_ERRORS: Final = (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError)


class SystemStore:
    """A finished store. Arrays are opened when first read, so a handle may be sent to a worker.

    A handle may be shared by threads. In a forked process it opens its arrays anew.

    Args:
        path: The store's folder, on this machine or on a server.
        pipeline: What decodes whole shards of local files (``cgbench.store.arrays.Pipeline``).

    Raises:
        UsageError: There is no such folder, or the pipeline is not installed.
        IntegrityError: It is no store, unfinished, or files are missing.
    """

    def __init__(self, path: Path | RemoteFolder, pipeline: Pipeline = "auto") -> None:
        choose_pipeline(pipeline)
        self.path = path
        self.pipeline = pipeline
        self._manifest = path.manifest if isinstance(path, RemoteFolder) else open_manifest(path)
        self._arrays: dict[tuple[str, Pipeline], Any] = {}
        self._process = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        # Open arrays belong to the threads of this process.
        return self.__dict__ | {"_arrays": {}}

    def __repr__(self) -> str:
        return f"SystemStore({self.metadata.system}, {self.n_frames} frames, {self.path})"

    @property
    def manifest(self) -> Manifest:
        """Hashes and layout of everything in the store."""
        return self._manifest

    @property
    def metadata(self) -> StoreMetadata:
        """What the store says about its system."""
        return self._manifest.metadata

    @property
    def n_frames(self) -> int:
        """Number of frames, valid or not."""
        return self._manifest.n_frames

    @property
    def n_beads(self) -> int:
        """Number of beads."""
        return self._manifest.n_beads

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories; 1 where they are not known."""
        return self._manifest.n_trajectories

    @property
    def fingerprint(self) -> str:
        """Hash over metadata and decoded data."""
        return self._manifest.fingerprint

    @cached_property
    def bead_types(self) -> IntArray:
        """Bead types (n_beads,) int64 in the published vocabulary."""
        return self._read("bead_type", 0, self.n_beads).astype(np.int64)

    @cached_property
    def trajectory(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Number of the trajectory of each frame, (n_frames,) int32."""
        return self._read("trajectory", 0, self.n_frames)

    @cached_property
    def frame_in_trajectory(self) -> np.ndarray[Any, np.dtype[np.int32]]:
        """Number of each frame within its trajectory, (n_frames,) int32."""
        return self._read("frame_in_trajectory", 0, self.n_frames)

    @cached_property
    def valid(self) -> BoolArray:
        """Which frames passed screening, (n_frames,) bool."""
        return self._read("valid", 0, self.n_frames)

    @cached_property
    def trajectory_bounds(self) -> IntArray:
        """Flat half-open frame range of each trajectory, (n_trajectories, 2) int64."""
        starts = np.flatnonzero(np.diff(self.trajectory, prepend=-1)).astype(np.int64)
        return np.stack([starts, np.append(starts[1:], self.n_frames)], axis=1)

    def coordinates(self, start: int = 0, stop: int | None = None) -> FloatArray:
        """Return the coordinates (n, n_beads, 3) float32 in Å of a half-open frame range.

        Only the chunks that hold the range are read. Read hundreds of frames at a time: one frame
        costs as much as its chunk of about 1 MiB.

        Raises:
            ValidationError: The range is not within the store.
            IntegrityError: A shard is damaged.
        """
        return self._decoded("coordinates", *self._range(start, stop))

    def forces(
        self, start: int = 0, stop: int | None = None, force_map: str | None = None
    ) -> FloatArray:
        """Return the forces (n, n_beads, 3) float32 in kcal/mol/Å of a half-open frame range.

        Args:
            start: First frame.
            stop: One past the last frame; all of them by default.
            force_map: Name of the map; the store's default by default.

        Raises:
            UsageError: The store has no such force map.
            ValidationError: The range is not within the store.
            IntegrityError: A shard is damaged.
        """
        name = f"{FORCES_GROUP}/{self.force_map(force_map)}"
        return self._decoded(name, *self._range(start, stop))

    def encoded(
        self, name: str, start: int = 0, stop: int | None = None
    ) -> tuple[CountArray, float]:
        """Return the integers of a quantised store and their scale, for readers that decode late.

        A number is scale × integer, exact in float32; ``INVALID_COUNT`` stands for the numbers of
        frames that failed screening. Coordinates are relative to the mean of each frame.

        Args:
            name: ``coordinates`` or ``forces/<map>``.
            start: First frame.
            stop: One past the last frame; all of them by default.

        Returns:
            Integers (n, n_beads, 3) int16, and the scale in Å or kcal/mol/Å.

        Raises:
            UsageError: The store is not quantised, or has no such array.
            ValidationError: The range is not within the store.
            IntegrityError: A shard is damaged.
        """
        quantisation = self.metadata.quantisation
        if quantisation is None or name not in quantisation.scales:
            raise UsageError(
                f"{self.path}: no integers of {name}",
                expected="a store without quantisation is read by coordinates() and forces()"
                if quantisation is None
                else " or ".join(quantisation.scales),
            )
        return self._read(name, *self._range(start, stop)), quantisation.scales[name]

    def force_map(self, name: str | None = None) -> str:
        """Return the name of a force map, the default's for None.

        Raises:
            UsageError: The store has no such force map.
        """
        chosen = name or self.metadata.default_force_map
        if chosen is None or chosen not in self.metadata.force_maps:
            raise UsageError(
                f"{self.path}: no force map {chosen or 'at all'}",
                expected=" or ".join(self.metadata.force_maps) or "a store with forces",
            )
        return chosen

    def dataset(self) -> "xarray.Dataset":
        """Return a lazy, labelled view: ``coordinates`` and one ``forces_<map>`` per force map.

        Dimensions frame, bead and xyz; every variable carries its units. The coordinates
        ``residue`` and ``bead_type`` name the beads, ``trajectory``, ``frame_in_trajectory`` and
        ``valid`` the frames.
        """
        import xarray

        local = isinstance(self.path, Path)
        place = self.path if isinstance(self.path, Path) else self.path.zarr_store()
        # Consolidated metadata of a server are not used: each array's own are checked.
        dataset = xarray.open_zarr(place, zarr_format=3, consolidated=local)
        if self.metadata.force_maps:
            forces = xarray.open_zarr(place, group=FORCES_GROUP, zarr_format=3, consolidated=False)
            for name in self.metadata.force_maps:
                dataset[f"forces_{name}"] = forces[name]
        for name, variable in dataset.data_vars.items():
            if variable.dtype == np.float64:
                # xarray decodes integers in double precision; scales make single precision exact.
                dataset[name] = variable.astype(np.float32, keep_attrs=True)
        dataset.attrs["fingerprint"] = self.fingerprint
        labelled: xarray.Dataset = dataset.assign_coords(
            residue=("bead", list(self.metadata.sequence), {"long_name": "residue, one letter"}),
            xyz=["x", "y", "z"],
        )
        return labelled

    def _range(self, start: int, stop: int | None) -> tuple[int, int]:
        last = self.n_frames if stop is None else stop
        if not 0 <= start <= last <= self.n_frames:
            raise ValidationError(
                f"{self.path}: frames out of range",
                expected=f"0 <= start <= stop <= {self.n_frames}",
                found=f"{start}:{last}",
            )
        return start, last

    def _decoded(self, name: str, start: int, stop: int) -> FloatArray:
        values = self._read(name, start, stop)
        quantisation = self.metadata.quantisation
        return values if quantisation is None else decode(name, values, quantisation)

    def _read(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        try:
            if isinstance(self.path, RemoteFolder) and self.path.is_cached:
                return self._read_copies(self.path, name, start, stop)
            if isinstance(self.path, RemoteFolder):
                return np.asarray(self._array(name)[start:stop])
            return self._read_files(name, start, stop)
        except READ_ERRORS as error:
            raise IntegrityError(
                f"{self.path / name}: frames {start} to {stop} cannot be read",
                found=error,
                fix=f"cgbench info {self.path} --verify names what is damaged",
            ) from error

    def _read_copies(
        self, folder: RemoteFolder, name: str, start: int, stop: int
    ) -> np.ndarray[Any, Any]:
        """Read shard by shard, so that a small cache need not hold all of them at once."""

        def parts() -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
            for shard in folder.shards(name, start, stop):
                first, last = max(start, shard.start), min(stop, shard.stop)
                try:
                    with folder.ready(shard):
                        values = self._read_files(name, first, last)
                except READ_ERRORS:
                    # The copy was damaged after its hash was checked.
                    folder.doubt(shard)
                    with folder.ready(shard):
                        values = self._read_files(name, first, last)
                yield first, values

        if start == stop:
            return self._read_files(name, start, stop)
        return joined(start, stop, parts())

    def _read_files(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read files of this machine: whole shards through the faster pipeline.

        zarrs (0.2) does not check the checksums of chunks where it reads less than a shard, and
        returns what is damaged as numbers; zarr-python always checks.
        """
        fast = choose_pipeline(self.pipeline) == "zarrs"
        shard = self._manifest.layout.shard
        first, last = -(-start // shard) * shard, stop // shard * shard
        if not fast or name == BEAD_TYPE_SPEC.name or first >= last:
            return np.asarray(self._array(name)[start:stop])

        def parts() -> Iterator[tuple[int, np.ndarray[Any, Any]]]:
            for begin, end in itertools.pairwise([start, *range(first, last + 1, shard), stop]):
                if end > begin:
                    array = self._array(name, "zarrs" if end - begin == shard else "python")
                    yield begin, np.asarray(array[begin:end])

        return joined(start, stop, parts())

    def _array(self, name: str, pipeline: Pipeline = "python") -> Any:
        if self._process != os.getpid():
            self._arrays, self._process = {}, os.getpid()
        key = (name, pipeline)
        if key not in self._arrays:
            if isinstance(self.path, RemoteFolder):
                self._arrays[key] = self.path.open_array(name, pipeline)
            else:
                self._arrays[key] = open_array(self.path / name, pipeline=pipeline)
        return self._arrays[key]


def open_store(
    name_or_path: str | Path,
    home: Path | None = None,
    *,
    cache: Cache | Path | bool | None = None,
    storage_options: Mapping[str, Any] | None = None,
    pipeline: Pipeline = "auto",
) -> SystemStore:
    """Open a store by its system's name, its path, or its address.

    A name is looked for in the data home, then among the embedded stores. Addresses begin with
    ``https://``, ``http://`` or ``s3://`` (with the extra ``cloud``).

    Args:
        name_or_path: Name, path or address.
        home: Data home; the default one if None.
        cache: For addresses: where whole files are kept once they were fetched. True is
            ``cache`` in the data home; None or False reads byte ranges and keeps nothing.
        storage_options: For addresses: credentials and the like, for http the fields of
            ``cgbench.store.http_transport.HttpOptions``, for S3 the arguments of
            ``s3fs.S3FileSystem``.
        pipeline: What decodes whole shards of local files: ``python`` (zarr-python), ``zarrs``
            (extra ``fast``), or zarrs where it is installed and ``CGBENCH_ZARRS`` is not ``0``.

    Raises:
        UsageError: There is none, no access to it, or a package is missing.
        IntegrityError: It is unfinished, damaged, or files are missing.
    """
    if not is_url(name_or_path):
        if storage_options or cache:
            raise UsageError(
                f"{name_or_path}: storage options and caches are for addresses",
                expected="https://…, http://… or s3://…",
            )
        return SystemStore(find_store(name_or_path, home), pipeline)
    if isinstance(cache, bool) or cache is None:
        kept = Cache(folder=data_home(home) / "cache") if cache else None
    else:
        kept = Cache(folder=cache) if isinstance(cache, Path) else cache
    return SystemStore(RemoteFolder(str(name_or_path), storage_options, kept), pipeline)
