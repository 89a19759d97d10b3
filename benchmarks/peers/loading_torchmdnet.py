"""Frames per second of TorchMD-Net's own data sets; called by ``benchmarks/data_loading.py``.

    PEER_PYTHON benchmarks/peers/loading_torchmdnet.py --folder DIR --batch 256 --frames 100000

``DIR`` holds ``coordinates.npy``, ``forces.npy``, ``embeddings.npy`` and ``chunked.h5``. They are
read as TorchMD-Net 3.1.0 loads them for training: its ``Custom`` (memory-mapped ``.npy``) and
``HDF5`` data sets, each in PyG's ``DataLoader`` with shuffling. One JSON object per measurement is
printed.
"""

import argparse
import contextlib
import io
import json
import os
import time
from pathlib import Path

import h5py
import torch
import torch_geometric
import torchmdnet
from torch_geometric.loader import DataLoader
from torchmdnet.datasets import HDF5, Custom


def evict(folder: Path) -> None:
    """Ask the system to forget what it has cached of the files."""
    for path in folder.iterdir():
        if path.is_file():
            descriptor = os.open(path, os.O_RDONLY)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def rate(dataset: object, batch: int, frames: int, workers: int) -> tuple[int, float]:
    """Return frames delivered, and seconds from the first request on."""
    loader = DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=workers)
    done = 0
    started = time.perf_counter()
    for item in loader:
        done += item.num_graphs
        if done >= frames:
            break
    return done, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    folder = arguments.folder

    def custom() -> Custom:
        return Custom(
            str(folder / "coordinates.npy"),
            str(folder / "embeddings.npy"),
            forceglob=str(folder / "forces.npy"),
            preload_memory_limit=0,
        )

    def hdf5() -> HDF5:
        return HDF5(str(folder / "chunked.h5"), dataset_preload_limit=0)

    versions = {"torchmd-net": torchmdnet.__version__, "torch": torch.__version__}
    versions |= {"torch_geometric": torch_geometric.__version__, "h5py": h5py.__version__}
    print(json.dumps({"versions": versions}))
    for name, make, share in (("Custom (memory map)", custom, 1), ("HDF5", hdf5, 20)):
        for cache, workers in (("cold", 0), ("warm", 0), ("warm", 2)):
            with contextlib.redirect_stdout(io.StringIO()):
                dataset = make()
            if cache == "cold":
                evict(folder)
            count, seconds = rate(dataset, arguments.batch, arguments.frames // share, workers)
            kind = "" if not workers else f", {workers} workers"
            result = {
                "method": f"TorchMD-Net {torchmdnet.__version__} {name}{kind}",
                "cache": cache,
                "frames": count,
                "seconds": seconds,
            }
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
