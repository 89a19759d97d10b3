"""Reading stores: a cheap handle, lazy arrays, labelled views."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store.arrays import open_array
from cgbench.store.locate import find_store
from cgbench.store.manifest import Journal, Manifest, read_manifest
from cgbench.store.schema import (
    FORCES_GROUP,
    MANIFEST_NAME,
    BoolArray,
    FloatArray,
    IntArray,
    StoreMetadata,
)

if TYPE_CHECKING:
    import xarray


class SystemStore:
    """A finished store. Arrays are opened when first read, so a handle may be sent to a worker.

    Args:
        path: The store's folder.

    Raises:
        UsageError: There is no such folder.
        IntegrityError: It is no store, unfinished, or files are missing.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._manifest = _open_manifest(path)
        self._arrays: dict[str, Any] = {}

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
        return self._read("coordinates", *self._range(start, stop))

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
        return self._read(f"{FORCES_GROUP}/{self.force_map(force_map)}", *self._range(start, stop))

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

        dataset = xarray.open_zarr(self.path, zarr_format=3, consolidated=True)
        if self.metadata.force_maps:
            forces = xarray.open_zarr(
                self.path, group=FORCES_GROUP, zarr_format=3, consolidated=False
            )
            for name in self.metadata.force_maps:
                dataset[f"forces_{name}"] = forces[name]
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

    def _read(self, name: str, start: int, stop: int) -> np.ndarray[Any, Any]:
        try:
            if name not in self._arrays:
                self._arrays[name] = open_array(self.path / name)
            return np.asarray(self._arrays[name][start:stop])
        except (OSError, ValueError, RuntimeError, KeyError, TypeError, EOFError) as error:
            raise IntegrityError(
                f"{self.path / name}: frames {start} to {stop} cannot be read",
                found=error,
                fix=f"cgbench info {self.path} --verify names what is damaged",
            ) from error


def open_store(name_or_path: str | Path, home: Path | None = None) -> SystemStore:
    """Open the store of a system, by name (data home, then the embedded sample) or by path.

    Raises:
        UsageError: There is none.
        IntegrityError: It is unfinished or files are missing.
    """
    return SystemStore(find_store(name_or_path, home))


def _open_manifest(path: Path) -> Manifest:
    if not path.is_dir():
        raise UsageError(f"{path}: no such store")
    if not (path / MANIFEST_NAME).is_file():
        raise IntegrityError(
            f"{path}: the store is not finished",
            found="; ".join(missing_shards(path)) or "neither a manifest nor a journal",
            fix="run the command that made it again (cgbench preprocess): finished shards are kept",
        )
    manifest = read_manifest(path)
    # A missing file reads as fill values, without an error.
    wrong = [
        f"{file} ({'missing' if size is None else f'{size} instead of {expected} bytes'})"
        for file, expected in expected_files(manifest).items()
        if (size := file_size(path / file)) != expected
    ]
    if wrong:
        raise IntegrityError(
            f"{path}: {len(wrong)} files are missing or truncated",
            found=", ".join(wrong[:5]),
            fix="run the command that made the store again (cgbench preprocess), in a new folder",
        )
    return manifest


def expected_files(manifest: Manifest) -> dict[str, int]:
    """Return every file of a finished store, besides the manifest, with its size in bytes."""
    return {name: record.size for name, record in manifest.files.items()} | {
        shard.file: shard.size for shard in manifest.shards
    }


def file_size(path: Path) -> int | None:
    """Return the size of a plain file, or None where there is none (links do not count)."""
    return path.stat().st_size if path.is_file() and not path.is_symlink() else None


def missing_shards(path: Path) -> list[str]:
    """Return one line for each shard that an unfinished store still lacks."""
    contents = Journal(path).read()
    if contents is None:
        return []
    header, done = contents
    return [
        f"shard {index} of {header.n_units} (frames {index * header.shard} to "
        f"{min((index + 1) * header.shard, header.n_frames)}) is missing"
        for index in range(header.n_units)
        if index not in done
    ]
