"""What the optimal force map is worth against the plain Cα slice, on the embedded sample.

    python benchmarks/force_map_effect.py [--raw RAW] [--seeds 2] [--epochs 8]

Three things are measured on the test part of ``block-v1``, which neither map nor network has seen:

1. the mean square of the mapped force, which for consistent maps is that of the mean force plus the
   noise;
2. the bias: the mean of the difference of two maps along axes that move with three neighbouring
   beads. Two maps with the same mean force have none, whatever the distribution of the frames. RAW,
   a folder of raw files with ``chignolin_ca_forces_hydrogens.npy``, adds the map of a Cα with its
   hydrogen as a control: it is consistent as well;
3. a small network trained for a few epochs on each map: its loss on the validation part under its
   own map, and its error on test forces under the optimal map, which for a consistent training map
   can only come from noise and too little training, and for the slice from its bias too.

Standard errors are over trajectories, those of trainings over seeds.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from cgbench import provenance
from cgbench.config import Frozen, write_model
from cgbench.models import load_model
from cgbench.pipeline.forces import force_errors
from cgbench.splits import read_split
from cgbench.store import SystemStore, find_split, open_store
from cgbench.train import TrainingConfig, train

RESULTS = Path(__file__).parent / "results" / "force_map_effect.json"
SYSTEM = "chignolin-sample"
SPLIT = "block-v1"
HYDROGENS = "chignolin_ca_forces_hydrogens.npy"
MAPS = ("slice", "optimal")

Floats = NDArray[np.float64]


class Estimate(Frozen):
    """A mean and its standard error; None where there is only one sample."""

    value: float
    error: float | None


class Noise(Frozen):
    """Mean square of a component of the mapped force, (kcal/mol/Å)²."""

    force_map: str
    consistent: str
    mean_square: Estimate


class Bias(Frozen):
    """Mean difference of two maps along axes that move with the chain, kcal/mol/Å.

    ``root_mean_square`` is over beads and axes, with what the statistical error adds taken off;
    ``largest`` is the component of largest size and its standard error; ``chi_square`` is the mean
    squared ratio of a component to its standard error, 1 where there is no bias.
    """

    maps: tuple[str, str]
    root_mean_square: float
    largest: Estimate
    chi_square: float
    n_components: int


class Trained(Frozen):
    """Networks trained on one map: means and standard errors over seeds.

    ``validation_loss`` and ``explained`` are those of delta forces under the map trained on;
    ``own_error`` and ``optimal_error`` are mean squared errors of a component of the whole force on
    the test part, (kcal/mol/Å)², under that map and under the optimal one.
    """

    force_map: str
    validation_loss: Estimate
    explained: Estimate
    own_error: Estimate
    optimal_error: Estimate
    optimal_explained: Estimate
    seconds: float


class Effect(Frozen):
    """What was measured, where, and with what."""

    system: str
    split: str
    n_test_frames: int
    n_test_trajectories: int
    noise: tuple[Noise, ...]
    bias: tuple[Bias, ...]
    trained: tuple[Trained, ...]
    excess_error: Estimate
    seeds: int
    epochs: int
    load_average: float
    provenance: provenance.Provenance


def estimate(values: Floats) -> Estimate:
    """Return the mean of independent samples."""
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return Estimate(value=float(values.mean()), error=error)


def by_trajectory(values: Floats, trajectory: NDArray[np.int64]) -> Floats:
    """Return the mean of each trajectory's frames, (n_trajectories, ...)."""
    return np.stack([values[trajectory == number].mean(axis=0) for number in np.unique(trajectory)])


def local_axes(coordinates: Floats) -> Floats:
    """Return axes (n, beads − 2, 3, 3) of each inner bead: along the chain, out of it, across."""
    along = coordinates[:, 2:] - coordinates[:, :-2]
    along /= np.linalg.norm(along, axis=-1, keepdims=True)
    out = coordinates[:, 1:-1] - 0.5 * (coordinates[:, 2:] + coordinates[:, :-2])
    out -= (out * along).sum(-1, keepdims=True) * along
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    return np.stack([along, out, np.cross(along, out)], axis=-2)


def bias(
    names: tuple[str, str], difference: Floats, axes: Floats, trajectory: NDArray[np.int64]
) -> Bias:
    """Return the mean difference of two maps (n, beads, 3) along local axes."""
    projected = np.einsum("nbx,nbkx->nbk", difference[:, 1:-1], axes)
    means = by_trajectory(projected.reshape(len(projected), -1), trajectory)
    value = means.mean(axis=0)
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    place = int(np.abs(value).argmax())
    return Bias(
        maps=names,
        root_mean_square=float(np.sqrt(max(0.0, float((value**2 - error**2).mean())))),
        largest=Estimate(value=float(value[place]), error=float(error[place])),
        chi_square=float(((value / error) ** 2).mean()),
        n_components=len(value),
    )


def trained(
    store: SystemStore,
    name: str,
    seeds: int,
    epochs: int,
    folder: Path,
    told: Callable[[str], None],
) -> tuple[Trained, Floats]:
    """Train on a map and measure; also the errors under the optimal map by seed and trajectory."""
    losses, explained, own, optimal, seconds = [], [], [], [], 0.0
    for seed in range(1, seeds + 1):
        told(f"train on {name}, seed {seed}")
        settings = TrainingConfig.model_validate(
            {
                "name": f"force-map-effect/{name}",
                "system": SYSTEM,
                "split": SPLIT,
                "force_map": name,
                "network": {"embedding_dimension": 64, "num_filters": 64, "num_layers": 2},
                "optimiser": {
                    "learning_rate": 1e-3,
                    "factor": 0.5,
                    "patience": 1,
                    "maximum_epochs": epochs,
                },
                "seed": seed,
                "threads": 1,
            }
        )
        out = folder / f"{name}-{seed}"
        outcome = train(settings, out)
        seconds += outcome.seconds
        losses.append(outcome.validation_loss)
        explained.append(outcome.explained)
        potential = load_model(out / "model.pt")
        for which, found in ((name, own), ("optimal", optimal)):
            errors = force_errors(potential, SYSTEM, split=SPLIT, force_map=which)
            found.append(errors.squared / errors.count)
    frames = read_split(find_split(SYSTEM, SPLIT)).frames("test")
    squares = float(np.square(test_forces(store, frames, "optimal")).mean())
    errors_optimal = np.array([one.mean() for one in optimal])
    return (
        Trained(
            force_map=name,
            validation_loss=estimate(np.array(losses)),
            explained=estimate(np.array(explained)),
            own_error=estimate(np.array([one.mean() for one in own])),
            optimal_error=estimate(errors_optimal),
            optimal_explained=estimate(1.0 - errors_optimal / squares),
            seconds=seconds,
        ),
        np.array(optimal),
    )


def test_forces(store: SystemStore, frames: NDArray[np.int64], name: str) -> Floats:
    return store.forces(force_map=name)[frames].astype(np.float64)


def run(raw: Path | None, seeds: int, epochs: int, told: Callable[[str], None]) -> Effect:
    store = open_store(SYSTEM)
    frames = read_split(find_split(SYSTEM, SPLIT)).frames("test", np.asarray(store.valid))
    trajectory = np.asarray(store.trajectory)[frames].astype(np.int64)
    axes = local_axes(store.coordinates()[frames].astype(np.float64))
    forces = {name: test_forces(store, frames, name) for name in MAPS}
    consistent = dict(store.metadata.force_map_consistent)
    if raw is not None:
        forces["hydrogens"] = np.load(raw / HYDROGENS, mmap_mode="r")[frames].astype(np.float64)
        consistent["hydrogens"] = "yes"
    told("noise and bias")
    noise = tuple(
        Noise(
            force_map=name,
            consistent=consistent[name],
            mean_square=estimate(by_trajectory((values**2).mean(axis=(1, 2)), trajectory)),
        )
        for name, values in forces.items()
    )
    biases = tuple(
        bias((name, "optimal"), values - forces["optimal"], axes, trajectory)
        for name, values in forces.items()
        if name != "optimal"
    )
    with tempfile.TemporaryDirectory() as folder:
        rows, errors = zip(
            *(trained(store, name, seeds, epochs, Path(folder), told) for name in MAPS),
            strict=True,
        )
    # The same test trajectories for both, so their differences are paired.
    excess = (errors[0] - errors[1]).mean(axis=0)
    return Effect(
        system=SYSTEM,
        split=SPLIT,
        n_test_frames=len(frames),
        n_test_trajectories=len(np.unique(trajectory)),
        noise=noise,
        bias=biases,
        trained=tuple(rows),
        excess_error=estimate(excess),
        seeds=seeds,
        epochs=epochs,
        load_average=os.getloadavg()[0],
        provenance=provenance.collect({"training": 1}),
    )


def text(found: Estimate, digits: int = 2) -> str:
    error = "" if found.error is None else f" ± {found.error:.{digits}f}"
    return f"{found.value:.{digits}f}{error}"


def show(effect: Effect) -> None:
    console = Console()
    noise = Table(title="mean square of a force component, (kcal/mol/Å)²")
    for heading in ("map", "consistent", "test part"):
        noise.add_column(heading)
    for item in effect.noise:
        noise.add_row(item.force_map, item.consistent, text(item.mean_square, 1))
    console.print(noise)
    table = Table(title="bias of the mean force, kcal/mol/Å")
    for heading in ("maps", "root mean square", "largest", "chi²"):
        table.add_column(heading)
    for one in effect.bias:
        table.add_row(
            " − ".join(one.maps),
            f"{one.root_mean_square:.2f}",
            text(one.largest),
            f"{one.chi_square:.1f}",
        )
    console.print(table)
    fits = Table(title=f"{effect.seeds} trainings of {effect.epochs} epochs on each map")
    for heading in ("map", "validation loss", "explained", "test, own", "test, optimal", "s"):
        fits.add_column(heading)
    for row in effect.trained:
        fits.add_row(
            row.force_map,
            text(row.validation_loss, 1),
            text(row.explained, 4),
            text(row.own_error, 1),
            text(row.optimal_error),
            f"{row.seconds:.0f}",
        )
    console.print(fits)
    console.print(f"error of the slice above the optimal map's: {text(effect.excess_error)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--raw", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    started = time.monotonic()
    console = Console(stderr=True)

    def told(task: str) -> None:
        console.print(f"{time.monotonic() - started:6.0f} s  {task}")

    effect = run(arguments.raw, arguments.seeds, arguments.epochs, told)
    write_model(arguments.out, effect)
    show(effect)


if __name__ == "__main__":
    main()
