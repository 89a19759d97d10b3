"""Frames for ``data_loading.py``: made once, written as each way of reading wants them."""

import os
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import torch

from cgbench.splits import Split
from cgbench.splits.model import SplitRule
from cgbench.store import FrameBlock, StoreMetadata, SystemStore, chunk_frames, write_store
from cgbench.store.quantise import choose_quantisation

CHUNK_FRAMES = chunk_frames(80)
HDF5_CHUNK_FRAMES = 64
PIECE = 20_000


class RawSource:
    """Frames of the two ``.npy`` files, as a source for stores."""

    force_maps = ("slice",)
    trajectory_lengths = None

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.n_frames, self.n_beads, _ = np.load(folder / "forces.npy", mmap_mode="r").shape
        self.bead_types = np.load(folder / "embeddings.npy")

    def read(self, start: int, stop: int) -> FrameBlock:
        coordinates, forces = (
            np.array(np.load(self.folder / f"{name}.npy", mmap_mode="r")[start:stop])
            for name in ("coordinates", "forces")
        )
        return FrameBlock(
            coordinates=coordinates, forces={"slice": forces}, valid=np.ones(len(forces), bool)
        )


class MemoryMapSource:
    """Frames of the two ``.npy`` files through numpy's memory map, for the loader's buffer."""

    def __init__(self, folder: Path) -> None:
        self.pos = np.load(folder / "coordinates.npy", mmap_mode="r")
        self.forces = np.load(folder / "forces.npy", mmap_mode="r")
        self.frames = np.arange(len(self.pos))
        self.bead_types = torch.from_numpy(np.load(folder / "embeddings.npy"))

    def stored_types(self) -> tuple[tuple[np.dtype, float], tuple[np.dtype, float]]:
        return (np.dtype(np.float32), 1.0), (np.dtype(np.float32), 1.0)

    def read_into(self, positions: np.ndarray, pos: np.ndarray, forces: np.ndarray) -> None:
        # Blocks of a whole set are ranges.
        start, stop = int(positions[0]), int(positions[-1]) + 1
        pos[...] = self.pos[start:stop]
        forces[...] = self.forces[start:stop]


def make_frames(folder: Path, n_frames: int, n_beads: int) -> None:
    """Write chains of 3.8 Å bonds that move from frame to frame, and forces of 20 kcal/mol/Å."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    steps = random.normal(size=(64, n_beads, 3))
    steps *= 3.8 / np.linalg.norm(steps, axis=2, keepdims=True)
    shapes = np.cumsum(steps, axis=1).astype(np.float32)
    shapes -= shapes.mean(axis=1, keepdims=True)
    kinds = {"coordinates": 0.4, "forces": 20.0}
    shape = (n_frames, n_beads, 3)
    for name, width in kinds.items():
        array = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, shape)
        for start in range(0, n_frames, PIECE):
            piece = array[start : start + PIECE]
            random.standard_normal(dtype=np.float32, out=piece)
            piece *= np.float32(width)
            if name == "coordinates":
                piece += shapes[np.arange(start, start + len(piece)) // 500 % len(shapes)]
        array.flush()
    np.save(folder / "embeddings.npy", 1 + np.arange(n_beads, dtype=np.int64) % 8)


def make_hdf5(folder: Path) -> None:
    """Write the same frames as TorchMD-Net's ``HDF5`` data set has them, in small chunks."""
    with h5py.File(folder / "chunked.h5", "w") as file:
        group = file.create_group("lambda")
        group["types"] = np.load(folder / "embeddings.npy")
        for name, array in (("pos", "coordinates"), ("forces", "forces")):
            values = np.load(folder / f"{array}.npy", mmap_mode="r")
            chunks = (HDF5_CHUNK_FRAMES, *values.shape[1:])
            target = group.create_dataset(name, values.shape, values.dtype, chunks=chunks)
            for start in range(0, len(values), PIECE // HDF5_CHUNK_FRAMES * HDF5_CHUNK_FRAMES):
                stop = start + PIECE // HDF5_CHUNK_FRAMES * HDF5_CHUNK_FRAMES
                target[start:stop] = values[start:stop]


def write_all(folder: Path, n_frames: int, n_beads: int) -> None:
    """Write every form of the frames; those that are there are kept."""
    raw = folder / "raw"
    if not (raw / "chunked.h5").is_file():
        make_frames(raw, n_frames, n_beads)
        make_hdf5(raw)
    source = RawSource(raw)
    metadata = StoreMetadata(
        system="lambda",
        name="Synthetic chain",
        sequence="A" * n_beads,
        temperature=350.0,
        frame_interval=None,
        force_maps=source.force_maps,
        default_force_map="slice",
        force_map_consistent={"slice": "unknown"},
        constraints=None,
        licence="MIT",
        trajectories_known=False,
        start_kind=None,
        sources=(),
    )
    quantised = metadata.model_copy(update={"quantisation": choose_quantisation(source)})
    for name, described in (("", metadata), ("int16-", quantised)):
        for codec in ("none", "lz4" if name else "zstd"):
            started = time.perf_counter()
            write_store(folder / f"{name}{codec}.zarr", source, described, workers=2, codec=codec)
            seconds = time.perf_counter() - started
            print(f"wrote {name}{codec}.zarr in {seconds:.1f} s", file=sys.stderr)


def whole_split(store: SystemStore) -> Split:
    """Return a split that has every frame in ``train``."""
    return Split(
        id="all",
        system=store.metadata.system,
        store_fingerprint=store.fingerprint,
        n_frames=store.n_frames,
        seed=0,
        settings=SplitRule(method="blocks", fractions={"train": 1.0}),
        parts={"train": ((0, store.n_frames),)},
    )


def _files(path: Path) -> list[Path]:
    return [file for file in path.rglob("*") if file.is_file()]


def folder_bytes(path: Path) -> float:
    """Return the bytes of a frame on disk: of coordinates and forces alone."""
    if path.suffix != ".zarr":
        n_frames = len(np.load(path / "forces.npy", mmap_mode="r"))
        return sum((path / f"{name}.npy").stat().st_size for name in ("coordinates", "forces")) / (
            n_frames
        )
    manifest = SystemStore(path).manifest
    total = sum(s.size for s in manifest.shards if s.array.startswith(("coord", "forces")))
    return total / manifest.n_frames


def evict(path: Path) -> None:
    """Ask the system to forget what it has cached of the files; written pages go to disk first."""
    for file in _files(path):
        descriptor = os.open(file, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def read_once(path: Path) -> None:
    """Bring the files into the system's cache."""
    for file in _files(path):
        with file.open("rb") as handle:
            while handle.read(1 << 24):
                pass
