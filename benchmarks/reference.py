"""Reference bundles at full size: TICA against deeptime and a double-precision twin, and memory.

    python benchmarks/reference.py tica  [--frames 200000] [--deeptime-frames 20000] [--out FILE]
    python benchmarks/reference.py build [--system lambda] [--frames 250000 500000 1000000]
                                         [--workers 1] [--out FILE]

``tica`` fits the 3,160 pair distances of chains of 80 beads, one process for each program, so that
the largest memory of each is its own: cgbench on all frames, deeptime on fewer (its time grows in
proportion, its memory too), and a twin that adds up float64 products of the same distances.

``build`` makes stores of such chains and builds their bundles with the settings of a published
system, one process a size, and says how the largest resident memory grows with the number of
frames. What is kept of a frame does not depend on the number of beads, so that many frames of a
small protein tell that part (``--system chignolin``) and few of a large one the rest.

The chains fold and unfold: a Rouse chain that is pulled towards a bundle of helices by a two-state
process. Numbers go to ``results/``; run with
``OMP_NUM_THREADS=1`` for those of one core.
"""

import argparse
import functools
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from cgbench import provenance, registry
from cgbench.config import write_atomic
from cgbench.store import FrameBlock, StoreMetadata, open_store, write_store

RESULTS = Path(__file__).parent / "results"
LARGEST = "lambda"
LENGTH = 1000
LAG = 20
GIB = 1024.0**3


def helix_bundle(n_beads: int) -> NDArray[np.float32]:
    """Return a compact chain of helices of twenty beads, (n_beads, 3) in Å."""
    place = np.arange(n_beads)
    helix, within = place // 20, place % 20
    along = np.where(helix % 2 == 0, within, 19 - within) * 1.5
    turn = np.radians(100.0) * place
    coordinates = np.stack(
        [
            2.3 * np.cos(turn) + 10.0 * (helix % 2),
            2.3 * np.sin(turn) + 10.0 * (helix // 2),
            along,
        ],
        axis=1,
    )
    return coordinates.astype(np.float32)


class Chains:
    """Trajectories of a chain that folds and unfolds; a source of frames for a store.

    Args:
        n_frames: How many, in trajectories of 1,000 frames.
        system: Whose number of beads.
    """

    force_maps = ()

    def __init__(self, n_frames: int, system: str) -> None:
        entry = registry.system(system)
        self.n_frames = n_frames
        self.n_beads = entry.n_beads
        self.bead_types = np.asarray(entry.bead_types, dtype=np.int64)
        self.native = helix_bundle(entry.n_beads)
        starts = range(0, n_frames, LENGTH)
        self.trajectory_lengths = np.array([min(LENGTH, n_frames - start) for start in starts])
        modes = np.arange(1, self.n_beads)
        angle = np.pi * np.outer(modes, np.arange(self.n_beads) + 0.5) / self.n_beads
        # Rouse modes of a chain with bonds of 3.8 Å: amplitudes fall as 1/p, times as 1/p².
        self._shapes = np.sqrt(2.0) * np.cos(angle)
        self._amplitudes = 3.8 * np.sqrt(self.n_beads / 3.0) / (np.pi * modes)
        self._decay = np.exp(-(modes**2) / 50.0)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def trajectory(self, index: int) -> NDArray[np.float32]:
        """Return the frames of one trajectory, (1000, 80, 3) float32 in Å."""
        generator = np.random.default_rng([7, index])
        noise = generator.standard_normal((LENGTH, len(self._decay), 3))
        rate = np.sqrt(1.0 - self._decay**2)
        waves = np.empty_like(noise)
        for mode, decay in enumerate(self._decay):
            start = decay * generator.standard_normal((1, 3))
            waves[:, mode] = scipy.signal.lfilter(
                [rate[mode]], [1.0, -decay], noise[:, mode], axis=0, zi=start
            )[0]
        folded = np.cumsum(generator.random(LENGTH) < 1 / 300.0) + generator.integers(2)
        fraction = scipy.signal.lfilter(
            [0.2], [1.0, -0.8], folded % 2.0, zi=[0.8 * (folded[0] % 2)]
        )[0]
        shaken = np.einsum("tmx,m,mb->tbx", waves, self._amplitudes, self._shapes)
        share = fraction[:, None, None]
        return (share * self.native + (1.0 - 0.85 * share) * shaken).astype(np.float32)

    def read(self, start: int, stop: int) -> FrameBlock:
        """Return a range of frames."""
        parts = []
        for index in range(start // LENGTH, (stop - 1) // LENGTH + 1):
            first = index * LENGTH
            parts.append(self.trajectory(index)[max(0, start - first) : stop - first])
        return FrameBlock(
            coordinates=np.concatenate(parts),
            forces={},
            valid=np.ones(stop - start, dtype=bool),
        )


def metadata(system: str) -> StoreMetadata:
    """Return what the store of the chains says of itself."""
    entry = registry.system(system)
    return StoreMetadata(
        system=system,
        name="synthetic chains",
        sequence=entry.sequence,
        temperature=entry.temperature,
        frame_interval=100.0,
        force_maps=(),
        default_force_map=None,
        force_map_consistent={},
        constraints=None,
        licence="MIT",
        trajectories_known=True,
        start_kind=None,
        sources=(),
    )


def make_store(path: Path, n_frames: int, system: str = LARGEST) -> None:
    """Write the store of so many frames."""
    write_store(path, Chains(n_frames, system), metadata(system), codec="lz4")


def resident() -> float:
    """Return the largest resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / GIB


def fit_cgbench(path: Path, n_frames: int, workers: int) -> dict[str, Any]:
    """Fit TICA as a build does."""
    from cgbench.evaluate.reference_analysis import DistanceFeatures
    from cgbench.evaluate.stored_trajectories import store_trajectories
    from cgbench.evaluate.tica import lagged_moments, solve_tica

    store = open_store(path)
    trajectories = store_trajectories(store)[: n_frames // LENGTH]
    settings = registry.system(LARGEST).analysis
    before = resident()
    start = time.perf_counter()
    moments = lagged_moments(
        trajectories, LAG, features=DistanceFeatures(helix_bundle(store.n_beads)), workers=workers
    )
    summed = time.perf_counter()
    model = solve_tica(moments, LAG, settings.tica_dimensions, settings.tica_epsilon)
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "seconds_moments": summed - start,
        "seconds_solve": end - summed,
        "resident_gib": resident(),
        "resident_before_gib": before,
        "rank": model.rank,
        "eigenvalues": model.eigenvalues.tolist(),
    }


def _distances(frames: NDArray[np.float32]) -> NDArray[np.float32]:
    first, second = np.triu_indices(frames.shape[1], 1)
    return np.linalg.norm(frames[:, second] - frames[:, first], axis=-1)


def fit_twin(path: Path, n_frames: int, workers: int) -> dict[str, Any]:
    """Add up products of both ends of the pairs in double precision, and solve as defined."""
    import scipy.linalg

    del workers
    store = open_store(path)
    settings = registry.system(LARGEST).analysis
    start = time.perf_counter()
    n_features = store.n_beads * (store.n_beads - 1) // 2
    shift = _distances(store.coordinates(0, LENGTH)).astype(np.float64).mean(axis=0)
    total = np.zeros(n_features)
    instantaneous, lagged = (np.zeros((n_features, n_features)) for _ in range(2))
    n_pairs = 0
    for first in range(0, n_frames, LENGTH):
        rows = _distances(store.coordinates(first, min(n_frames, first + LENGTH))) - shift
        early, late = rows[:-LAG], rows[LAG:]
        total += early.sum(axis=0) + late.sum(axis=0)
        instantaneous += early.T @ early
        instantaneous += late.T @ late
        lagged += early.T @ late
        n_pairs += len(early)
    mean = total / (2 * n_pairs)
    instantaneous = instantaneous / (2 * n_pairs) - np.outer(mean, mean)
    lagged = (lagged + lagged.T) / (2 * n_pairs) - np.outer(mean, mean)
    variances, directions = scipy.linalg.eigh(instantaneous)
    kept = variances > settings.tica_epsilon * variances[-1]
    whitening = directions[:, kept] / np.sqrt(variances[kept])
    found = scipy.linalg.eigvalsh(whitening.T @ lagged @ whitening)[::-1]
    return {
        "seconds": time.perf_counter() - start,
        "resident_gib": resident(),
        "rank": int(kept.sum()),
        "eigenvalues": found[: settings.tica_dimensions].tolist(),
    }


def fit_deeptime(path: Path, n_frames: int, workers: int) -> dict[str, Any]:
    """Fit TICA as deeptime's users do, trajectory by trajectory."""
    from deeptime.covariance import Covariance
    from deeptime.decomposition import TICA

    del workers
    store = open_store(path)
    settings = registry.system(LARGEST).analysis
    trajectories = [
        _distances(store.coordinates(first, first + LENGTH)) for first in range(0, n_frames, LENGTH)
    ]
    start = time.perf_counter()
    covariance = Covariance(
        lagtime=LAG,
        compute_c00=True,
        compute_c0t=True,
        reversible=True,
        remove_data_mean=True,
        bessels_correction=False,
    )
    for rows in trajectories:
        covariance.partial_fit((rows[:-LAG], rows[LAG:]))
    model = covariance.fetch_model()
    summed = time.perf_counter()
    found = TICA(
        lagtime=LAG, dim=settings.tica_dimensions, epsilon=settings.tica_epsilon
    ).fit_from_covariances(model)
    values = found.fetch_model().singular_values[: settings.tica_dimensions]
    end = time.perf_counter()
    return {
        "seconds": end - start,
        "seconds_moments": summed - start,
        "seconds_solve": end - summed,
        "resident_gib": resident(),
        "eigenvalues": np.asarray(values).tolist(),
    }


def build(path: Path, n_frames: int, workers: int) -> dict[str, Any]:
    """Build a bundle, and say where the time goes."""
    from cgbench.evaluate.reference_build import build_from_store
    from cgbench.evaluate.reference_file import write_reference

    seconds: dict[str, float] = {}
    highest: dict[str, float] = {}
    last = ["", time.perf_counter()]

    def listen(task: str, done: float, total: float) -> None:
        del done, total
        now = time.perf_counter()
        seconds[task] = seconds.get(task, 0.0) + now - float(last[1])
        highest[task] = resident()
        last[1] = now

    store = open_store(path)
    entry = registry.system(store.metadata.system)
    start = time.perf_counter()
    bundle = build_from_store(
        store, entry, helix_bundle(store.n_beads), workers=workers, progress=listen
    )
    built = time.perf_counter()
    target = path.with_name(f"reference-{n_frames}.zarr")
    write_reference(target, bundle)
    return {
        "frames": n_frames,
        "seconds": built - start,
        "seconds_write": time.perf_counter() - built,
        "resident_gib": resident(),
        "stages_seconds": seconds,
        "stages_highest_resident_gib": highest,
        "bytes_on_disk": sum(file.stat().st_size for file in target.rglob("*") if file.is_file()),
        "folded_population": bundle.metadata.folded_population.value,
    }


PARTS = {"cgbench": fit_cgbench, "twin": fit_twin, "deeptime": fit_deeptime, "build": build}


def alone(part: str, path: Path, n_frames: int, workers: int) -> dict[str, Any]:
    """Run one part in a process of its own."""
    command = [sys.executable, __file__, "part", part, str(path), str(n_frames), str(workers)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(part, n_frames, json.dumps(found), flush=True)
    return found


def compare_tica(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Time and check TICA."""
    path = folder / "chains.zarr"
    make_store(path, arguments.frames)
    ours = alone("cgbench", path, arguments.frames, arguments.workers)
    twin_frames = arguments.twin_frames or arguments.frames
    same = ours if twin_frames == arguments.frames else alone("cgbench", path, twin_frames, 1)
    twin = alone("twin", path, twin_frames, 1)
    theirs = alone("deeptime", path, arguments.deeptime_frames, 1)
    gap = np.abs(np.subtract(same["eigenvalues"], twin["eigenvalues"])).max()
    expected = (
        theirs["seconds_moments"] * arguments.frames / arguments.deeptime_frames
        + theirs["seconds_solve"]
    )
    return {
        "frames": arguments.frames,
        "features": 3160,
        "cgbench": ours,
        "twin_frames": twin_frames,
        "cgbench_on_twin_frames": same,
        "twin": twin,
        "deeptime_frames": arguments.deeptime_frames,
        "deeptime": theirs,
        "largest_eigenvalue_difference": float(gap),
        "deeptime_seconds_extrapolated": expected,
        "ratio": expected / ours["seconds"],
    }


def compare_builds(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Build bundles of several sizes."""
    rows = []
    for n_frames in arguments.frames:
        path = folder / f"chains-{n_frames}.zarr"
        make_store(path, n_frames, arguments.system)
        rows.append(alone("build", path, n_frames, arguments.workers))
    frames = [row["frames"] for row in rows]
    result: dict[str, Any] = {
        "system": arguments.system,
        "workers": arguments.workers,
        "rows": rows,
    }
    if len(rows) > 1:
        slope, offset = np.polyfit(frames, [row["resident_gib"] for row in rows], 1)
        result["bytes_a_frame"] = float(slope * GIB)
        result["resident_gib_of_10_million_frames"] = float(offset + slope * 1e7)
    return result


def main() -> None:
    """Run from the command line."""
    if sys.argv[1:2] == ["part"]:
        name, path, n_frames, workers = sys.argv[2:6]
        print(json.dumps(PARTS[name](Path(path), int(n_frames), int(workers))))
        return
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    tica = verbs.add_parser("tica")
    tica.add_argument("--frames", type=int, default=200_000)
    tica.add_argument("--deeptime-frames", type=int, default=20_000)
    tica.add_argument("--twin-frames", type=int, default=None)
    builds = verbs.add_parser("build")
    builds.add_argument("--frames", type=int, nargs="+", default=[250_000, 500_000, 1_000_000])
    builds.add_argument("--system", default=LARGEST)
    for verb in (tica, builds):
        verb.add_argument("--workers", type=int, default=1)
        verb.add_argument("--folder", type=Path, default=None, help="where stores are written")
        verb.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    out = arguments.out or RESULTS / f"reference_{arguments.verb}.json"
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        run = compare_tica if arguments.verb == "tica" else compare_builds
        found = run(arguments, Path(folder))
    found["provenance"] = provenance.collect({}).model_dump(mode="json")
    write_atomic(out, (json.dumps(found, indent=2) + "\n").encode())
    print(f"written: {out}")


if __name__ == "__main__":
    main()
