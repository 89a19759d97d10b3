"""What 16-bit numbers cost: bytes, force errors, and a model trained on them.

    python benchmarks/quantised.py [--epochs 2] [--out FILE]

One run writes the embedded sample's frames as float32 and as int16 with each codec, compares the
numbers, and trains the demo's network with the same seed on the exact and on the quantised store.
Each model's force error is then measured on the exact validation frames: what quantisation changes,
beside what another seed changes. Reading is measured on frames of 80 beads, put together from the
sample's, out of the page cache: whole shards through both pipelines, and blocks of 4,096 frames;
the fastest of several repeats, which other work on the machine disturbs least. Takes about five
minutes on one core.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np
import zarr
from rich.console import Console
from rich.table import Table

from cgbench import models, provenance
from cgbench.config import Frozen, assets_home, read_model, write_model
from cgbench.pipeline.forces import force_errors
from cgbench.splits import make_split, split_settings, write_split
from cgbench.store import (
    CodecName,
    FrameBlock,
    SystemStore,
    choose_quantisation,
    open_store,
    write_store,
)
from cgbench.store.arrays import choose_pipeline, compressors, open_array
from cgbench.train import TrainingConfig, train

SYSTEM = "chignolin-sample"
RESULTS = Path(__file__).parent / "results" / "quantised.json"
RATE_FRAMES, RATE_SHARD, RATE_CHUNK = 131_072, 65_536, 1024
REPEATS = 5
CONFIG = assets_home() / "configs" / "demo-network.yaml"


class StoredFrames:
    """The frames of a store, as a source for another one."""

    def __init__(self, store: SystemStore) -> None:
        self.store = store
        self.n_frames, self.n_beads = store.n_frames, store.n_beads
        self.force_maps = store.metadata.force_maps
        self.bead_types = store.bead_types
        self.trajectory_lengths = np.diff(store.trajectory_bounds, axis=1)[:, 0]

    def read(self, start: int, stop: int) -> FrameBlock:
        return FrameBlock(
            coordinates=self.store.coordinates(start, stop),
            forces={name: self.store.forces(start, stop, name) for name in self.force_maps},
            valid=self.store.valid[start:stop],
        )


class Size(Frozen):
    """Bytes of coordinates and forces of a store on disk."""

    numbers: str
    codec: str
    bytes: int
    bytes_per_frame: float


class Error(Frozen):
    """How far decoded numbers are from the exact ones, Å or kcal/mol/Å, over all components."""

    array: str
    scale: float
    bound: float
    largest: float
    root_mean_square: float
    standard_deviation: float


class Training(Frozen):
    """A network trained on one store with one seed, and its errors on the exact validation part.

    ``own_validation_loss`` is what training itself saw, (kcal/mol/Å)²; errors in kcal/mol/Å.
    """

    numbers: str
    seed: int
    own_validation_loss: float
    root_mean_square_error: float
    mean_absolute_error: float


class Rate(Frozen):
    """Frames of 80 beads read from memory, frames a second; None where it is not done."""

    numbers: str
    codec: str
    checksum: bool
    python_shards: float
    zarrs_shards: float | None
    python_blocks: float


class Benchmark(Frozen):
    """What was measured, where, and with what."""

    system: str
    n_frames: int
    n_beads: int
    sizes: tuple[Size, ...]
    errors: tuple[Error, ...]
    epochs: int
    trainings: tuple[Training, ...]
    rates: tuple[Rate, ...]
    relative_change_by_quantisation: float
    relative_change_by_seed: float
    provenance: provenance.Provenance


def sizes_of(store: SystemStore, numbers: str, codec: str) -> Size:
    total = sum(
        shard.size
        for shard in store.manifest.shards
        if shard.array == "coordinates" or shard.array.startswith("forces/")
    )
    return Size(numbers=numbers, codec=codec, bytes=total, bytes_per_frame=total / store.n_frames)


def errors_of(exact: SystemStore, small: SystemStore) -> tuple[Error, ...]:
    quantisation = small.metadata.quantisation
    assert quantisation is not None
    errors = []
    for array, scale in quantisation.scales.items():
        if array == "coordinates":
            true = exact.coordinates().astype(np.float64)
            true -= true.mean(axis=1, keepdims=True)
            found = small.coordinates()
        else:
            name = array.partition("/")[2]
            true, found = exact.forces(force_map=name), small.forces(force_map=name)
        valid = exact.valid
        true = np.asarray(true[valid], dtype=np.float64)
        difference = found[valid] - true
        errors.append(
            Error(
                array=array,
                scale=scale,
                bound=quantisation.bounds[array],
                largest=float(np.abs(difference).max()),
                root_mean_square=float(np.sqrt(np.square(difference).mean())),
                standard_deviation=float(true.std()),
            )
        )
    return tuple(errors)


def training_of(numbers: str, store: SystemStore, seed: int, epochs: int, folder: Path) -> Training:
    home = folder / f"{numbers}-home"
    place = home / "store" / f"{SYSTEM}.zarr"
    if not place.exists():
        place.parent.mkdir(parents=True)
        place.symlink_to(store.path, target_is_directory=True)
        split = make_split("block-v1", store, split_settings(store, home))
        write_split(home / "splits" / SYSTEM / "block-v1.json", split)
    settings = read_model(TrainingConfig, CONFIG)
    optimiser = settings.optimiser.model_copy(update={"maximum_epochs": epochs})
    settings = settings.model_copy(update={"seed": seed, "optimiser": optimiser})
    out = folder / f"{numbers}-{seed}"
    outcome = train(settings, out, home=home)
    # Both are compared with the exact forces.
    found = force_errors(models.load(out / "model.pt"), SYSTEM, part="val")
    count = found.count.sum()
    return Training(
        numbers=numbers,
        seed=seed,
        own_validation_loss=outcome.validation_loss,
        root_mean_square_error=float(np.sqrt(found.squared.sum() / count)),
        mean_absolute_error=float(found.absolute.sum() / count),
    )


def rate_of(array: Any, step: int) -> float:
    seconds = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        for start in range(0, array.shape[0], step):
            array[start : start + step]
        seconds.append(time.perf_counter() - started)
    return float(array.shape[0] / min(seconds))


def rates_of(store: SystemStore, folder: Path) -> tuple[Rate, ...]:
    frames = store.forces()
    few = len(frames) // 8
    chains = frames[: few * 8].reshape(few, 80, 3)
    exact = chains[np.arange(RATE_FRAMES) % few]
    counts = np.rint(exact / 2.0**-6).astype(np.int16)
    group = zarr.open_group(folder / "rates", mode="w", zarr_format=3)
    rates = []
    for numbers, values in (("float32", exact), ("int16", counts)):
        for codec in (*get_args(CodecName), None):
            name = f"{numbers}-{codec}"
            array = group.create_array(
                name,
                shape=values.shape,
                dtype=values.dtype,
                chunks=(RATE_CHUNK, 80, 3),
                shards=(RATE_SHARD, 80, 3),
                compressors=() if codec is None else compressors(codec),
            )
            array[:] = values
            python = open_array(folder / "rates" / name)
            fast = None
            if choose_pipeline() == "zarrs":
                fast = open_array(folder / "rates" / name, pipeline="zarrs")
            rates.append(
                Rate(
                    numbers=numbers,
                    codec=codec or "none",
                    checksum=codec is not None,
                    python_shards=rate_of(python, RATE_SHARD),
                    zarrs_shards=None if fast is None else rate_of(fast, RATE_SHARD),
                    python_blocks=rate_of(python, 4 * RATE_CHUNK),
                )
            )
            del group[name]
    return tuple(rates)


def run(folder: Path, epochs: int) -> Benchmark:
    source = StoredFrames(open_store(assets_home() / "store" / f"{SYSTEM}.zarr"))
    rates = rates_of(source.store, folder)
    exact = source.store.metadata
    small = exact.model_copy(update={"quantisation": choose_quantisation(source)})
    sizes = []
    for numbers, metadata in (("float32", exact), ("int16", small)):
        for codec in get_args(CodecName):
            path = folder / f"{numbers}-{codec}.zarr"
            write_store(path, source, metadata, codec=codec)
            sizes.append(sizes_of(open_store(path), numbers, codec))
    stores = {name: open_store(folder / f"{name}-zstd.zarr") for name in ("float32", "int16")}
    trainings = [
        training_of(numbers, stores[numbers], seed, epochs, folder)
        for numbers, seed in (("float32", 1), ("int16", 1), ("float32", 2))
    ]
    first, quantised, reseeded = (item.root_mean_square_error for item in trainings)
    return Benchmark(
        system=SYSTEM,
        n_frames=source.n_frames,
        n_beads=source.n_beads,
        sizes=tuple(sizes),
        errors=errors_of(source.store, stores["int16"]),
        epochs=epochs,
        trainings=tuple(trainings),
        rates=rates,
        relative_change_by_quantisation=quantised / first - 1,
        relative_change_by_seed=reseeded / first - 1,
        provenance=provenance.collect({}),
    )


def show(benchmark: Benchmark) -> None:
    console = Console()
    for title, rows in (
        ("bytes", benchmark.sizes),
        ("errors", benchmark.errors),
        (f"trained for {benchmark.epochs} epochs", benchmark.trainings),
        ("frames of 80 beads a second", benchmark.rates),
    ):
        table = Table(title=title)
        for heading in type(rows[0]).model_fields:
            table.add_column(heading)
        for row in rows:
            values = row.model_dump().values()
            table.add_row(*(f"{v:.6g}" if isinstance(v, float) else str(v) for v in values))
        console.print(table)
    console.print(
        f"force error changed by {100 * benchmark.relative_change_by_quantisation:+.3f} % by "
        f"quantisation, {100 * benchmark.relative_change_by_seed:+.3f} % by another seed"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cgbench-quantised-") as folder:
        benchmark = run(Path(folder), arguments.epochs)
    write_model(arguments.out, benchmark)
    show(benchmark)


if __name__ == "__main__":
    main()
