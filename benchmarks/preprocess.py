"""Making a store of full size: rate beside a plain copy of the same bytes, and peak memory.

    python benchmarks/preprocess.py [--gigabytes 10] [--workers 2] [--folder DIR]

Raw arrays of λ-repressor's shape (80 beads, coordinates and one force map, float32) are written in
pieces. With CGBENCH_TEST_DATA set, frames are the published starting frames, turned a little and
with thermal noise; without it, a helix with the same noise. Then, in one run and each time from a
cold page cache: a copy (cp, synchronised), a store with codec none, a copy, a store with the
default codec, a copy. A store's rate is compared with the mean of the copies before and after it,
because disks and cores of shared machines vary; the load average is written beside them. Peak
memory is that of the process that makes the store. The data are removed at the end.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from cgbench import provenance, registry
from cgbench.config import Frozen, write_model
from cgbench.units import ANGSTROM_PER_NANOMETRE

RESULTS = Path(__file__).parent / "results" / "preprocess.json"
SYSTEM = "lambda"
SEED = 1
PIECE = 16384
#: Thermal noise of a position in Å, spread of a rotation in radians, and of a force component.
NOISE, TURN, FORCE = 0.05, 0.1, 15.0


class Copy(Frozen):
    """One plain copy of the raw arrays, synchronised to disk."""

    seconds: float
    megabytes_per_second: float


class Store(Frozen):
    """One store made from the raw arrays; the rate counts raw bytes.

    ``ratio`` is the rate over the mean rate of the copies before and after it.
    """

    codec: str
    scheduler: str
    workers: int
    seconds: float
    megabytes_per_second: float
    ratio: float
    peak_resident_megabytes: float
    stored_bytes: int
    size_ratio: float
    fingerprint: str


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    system: str
    n_beads: int
    n_frames: int
    raw_bytes: int
    frames: str
    load_average: float
    copies: tuple[Copy, ...]
    stores: tuple[Store, ...]
    provenance: provenance.Provenance


def starting_frames(n_beads: int) -> tuple[np.ndarray, str]:
    """Return (n, n_beads, 3) positions in Å to make frames of, and what they are."""
    data = os.environ.get("CGBENCH_TEST_DATA")
    if data:
        from mdtraj.formats import XTCTrajectoryFile

        file = Path(data) / "published/starting_frames/lambda_kcenters_32clusters_coords.xtc"
        with XTCTrajectoryFile(str(file)) as handle:
            positions = handle.read()[0] * ANGSTROM_PER_NANOMETRE
        return positions.astype(np.float32), "published starting frames, turned, with noise"
    # Cα of an α helix: radius 2.3 Å, 100° and 1.5 Å a residue.
    angle = np.radians(100.0) * np.arange(n_beads)
    helix = np.stack([2.3 * np.cos(angle), 2.3 * np.sin(angle), 1.5 * np.arange(n_beads)], axis=1)
    return helix[None].astype(np.float32), "a helix, turned, with noise"


def turns(random: np.random.Generator, n: int) -> np.ndarray:
    """Return (n, 3, 3) rotations by small angles (Rodrigues' formula)."""
    vectors = random.normal(0, TURN, (n, 3))
    angles = np.linalg.norm(vectors, axis=1)[:, None, None]
    x, y, z = (vectors / angles[:, :, 0]).T
    zero = np.zeros(n)
    cross = np.array([[zero, -z, y], [z, zero, -x], [-y, x, zero]]).transpose(2, 0, 1)
    return np.eye(3) + np.sin(angles) * cross + (1 - np.cos(angles)) * cross @ cross


def pieces(n_frames: int, n_beads: int, base: np.ndarray) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield coordinates and forces of consecutive frames."""
    for number, start in enumerate(range(0, n_frames, PIECE)):
        random = np.random.default_rng([SEED, number])
        n = min(PIECE, n_frames - start)
        chosen = base[(start + np.arange(n)) % len(base)]
        coordinates = np.einsum("fij,fbj->fbi", turns(random, n).astype(np.float32), chosen)
        coordinates += NOISE * random.standard_normal(coordinates.shape, dtype=np.float32)
        yield coordinates, FORCE * random.standard_normal(coordinates.shape, dtype=np.float32)


def make_raw(folder: Path, n_frames: int, n_beads: int) -> str:
    """Write the raw arrays in pieces; return what their frames are."""
    base, what = starting_frames(n_beads)
    header = {"descr": "<f4", "fortran_order": False, "shape": (n_frames, n_beads, 3)}
    names = (f"{SYSTEM}_ca_coords.npy", f"{SYSTEM}_ca_forces.npy")
    with (folder / names[0]).open("wb") as coordinates, (folder / names[1]).open("wb") as forces:
        for handle in (coordinates, forces):
            np.lib.format.write_array_header_1_0(handle, header)
        for positions, values in pieces(n_frames, n_beads, base):
            positions.tofile(coordinates)
            values.tofile(forces)
    np.save(folder / f"{SYSTEM}_ca_embeddings.npy", np.array(registry.system(SYSTEM).bead_types))
    return what


def forget(folder: Path) -> None:
    """Write a folder's files to disk and drop them from the page cache."""
    for file in folder.rglob("*"):
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def copy(raw: Path, target: Path, n_bytes: int) -> Copy:
    """Copy the raw arrays with cp and wait until they are on disk."""
    forget(raw)
    target.mkdir()
    started = time.perf_counter()
    for file in sorted(raw.iterdir()):
        subprocess.run(["cp", file, target / file.name], check=True)
        descriptor = os.open(target / file.name, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    seconds = time.perf_counter() - started
    shutil.rmtree(target)
    return Copy(seconds=seconds, megabytes_per_second=n_bytes / seconds / 1e6)


def peak_memory() -> int:
    """Return the largest resident memory of this process in bytes.

    Not ``ru_maxrss``, which starts at what the parent had.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status does not say the peak resident memory")


def child(raw: Path, out: Path, codec: str, scheduler: str, workers: int) -> None:
    """Make one store and print what it took; runs in a process of its own."""
    from cgbench.ingest import preprocess_folder

    started = time.perf_counter()
    manifest = preprocess_folder(
        registry.system(SYSTEM), raw, out, codec=codec, scheduler=scheduler, workers=workers
    )
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - started,
                "peak": peak_memory(),
                "bytes": sum(shard.size for shard in manifest.shards),
                "fingerprint": manifest.fingerprint,
            }
        )
    )


def make_store(raw: Path, out: Path, codec: str, scheduler: str, workers: int) -> dict:
    """Make one store from a cold page cache in a process of its own, and remove it."""
    forget(raw)
    command = [sys.executable, __file__, "--child", codec, "--folder", raw, "--out", out]
    command += ["--workers", str(workers), "--scheduler", scheduler]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout
    shutil.rmtree(out)
    return json.loads(told)


def run(folder: Path, gigabytes: float, scheduler: str, workers: int) -> Benchmark:
    """Make the raw arrays and measure everything."""
    n_beads = registry.system(SYSTEM).n_beads
    n_frames = int(gigabytes * 1e9 / (2 * 12 * n_beads)) + 1
    raw = folder / "raw"
    raw.mkdir()
    what = make_raw(raw, n_frames, n_beads)
    n_bytes = sum(file.stat().st_size for file in raw.iterdir())
    load = os.getloadavg()[0]
    copies = [copy(raw, folder / "copy", n_bytes)]
    stores = []
    for codec in ("none", "zstd"):
        told = make_store(raw, folder / f"{codec}.zarr", codec, scheduler, workers)
        copies.append(copy(raw, folder / "copy", n_bytes))
        rate = n_bytes / told["seconds"] / 1e6
        beside = (copies[-2].megabytes_per_second + copies[-1].megabytes_per_second) / 2
        stores.append(
            Store(
                codec=codec,
                scheduler=scheduler,
                workers=workers,
                seconds=told["seconds"],
                megabytes_per_second=rate,
                ratio=rate / beside,
                peak_resident_megabytes=told["peak"] / 1e6,
                stored_bytes=told["bytes"],
                size_ratio=told["bytes"] / n_bytes,
                fingerprint=told["fingerprint"],
            )
        )
    return Benchmark(
        system=SYSTEM,
        n_beads=n_beads,
        n_frames=n_frames,
        raw_bytes=n_bytes,
        frames=what,
        load_average=load,
        copies=tuple(copies),
        stores=tuple(stores),
        provenance=provenance.collect({"frames": SEED}),
    )


def show(benchmark: Benchmark) -> None:
    """Print a table."""
    table = Table(
        title=f"{benchmark.raw_bytes / 1e9:.1f} GB of raw arrays, {benchmark.n_beads} beads, "
        f"{benchmark.n_frames:,} frames, load average {benchmark.load_average:.1f}"
    )
    for heading in ("what", "s", "MB/s", "of a copy", "peak memory", "size"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for item in benchmark.copies:
        table.add_row("copy (cp, fsync)", f"{item.seconds:.1f}", f"{item.megabytes_per_second:.0f}")
    for store in benchmark.stores:
        table.add_row(
            f"store, codec {store.codec}, {store.workers} {store.scheduler}",
            f"{store.seconds:.1f}",
            f"{store.megabytes_per_second:.0f}",
            f"{store.ratio:.0%}",
            f"{store.peak_resident_megabytes:.0f} MB",
            f"{store.size_ratio:.0%}",
        )
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--gigabytes", type=float, default=10.0, help="size of the raw arrays")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scheduler", default="threads", choices=("threads", "processes"))
    parser.add_argument("--folder", type=Path, default=None, help="where data go (temporary)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=("none", "lz4", "zstd"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    scheduler, workers = arguments.scheduler, arguments.workers
    if arguments.child:
        child(arguments.folder, arguments.out, arguments.child, scheduler, workers)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        benchmark = run(Path(name), arguments.gigabytes, scheduler, workers)
    write_model(arguments.out, benchmark)
    show(benchmark)


if __name__ == "__main__":
    main()
