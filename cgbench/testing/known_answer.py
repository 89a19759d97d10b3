"""A run whose answer is known: data from a potential that the model class contains.

A teacher, which is a small graph network with seeded weights on top of bonds and repulsion, is
simulated; its frames and exact forces go as raw arrays through ingestion, split, reference and
training, and the student's simulation is scored against the teacher's. Forces carry no noise, so
whatever the student does not learn is the suite's fault, or that of the short training.

The student fits its own prior. The difference between the two priors is a function of bond lengths
and pair distances, which the network can absorb. Neither has dihedral terms: a network of distances
could not make up for a difference in handedness.
"""

import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch

from cgbench import registry
from cgbench.config import Frozen, read_model
from cgbench.evaluate import (
    Ensemble,
    ForceErrors,
    ReferenceBundle,
    ReferenceStatistics,
    Scored,
    build_reference,
    md_split_half,
    read_reference,
    reference_statistics,
    score,
    write_reference,
)
from cgbench.ingest import preprocess_folder
from cgbench.models import (
    GraphNetwork,
    GraphNetworkSettings,
    NetworkPotential,
    PotentialSpec,
    load_model,
    save_model,
)
from cgbench.pipeline.forces import force_errors
from cgbench.pipeline.simulate import system_input
from cgbench.priors import BondTerm, PriorFitSettings, PriorParameters
from cgbench.progress import Progress, silent
from cgbench.simulation import simulate
from cgbench.splits import make_split, read_split, write_split
from cgbench.store import (
    REFERENCE_VERSION,
    find_reference,
    find_split,
    open_store,
    read_trajectories,
)
from cgbench.train import OptimiserSettings, TrainingConfig, TrainingOutcome, prior_only, train

SYSTEM: Final = "chignolin-sample"
SPLIT: Final = "block-v1"

#: Of a width that a student of the same shape learns in a minute.
NETWORK: Final = GraphNetworkSettings(
    embedding_dimension=32, num_filters=32, num_layers=2, num_rbf=6, max_bead_type=23
)
#: Root mean square component of the teacher network's forces on the MD start frames, kcal/mol/Å.
#: Much stronger ones trap the chain in one compact shape for longer than the simulation.
NETWORK_FORCE: Final = 1.5
#: Softer than real bonds, so that a step of 8 fs samples them exactly enough.
BOND: Final = BondTerm(k=60.0, r0=3.8)
EPSILON: Final = 1000.0
#: ps between frames of all simulations.
INTERVAL: Final = 0.4


class KnownAnswerSettings(Frozen):
    """How large a known-answer run is.

    Attributes:
        n_replicas: Replicas of each simulation.
        length: ps of each simulation, of which the first quarter is dropped.
        epochs: Epochs of the student's training.
        batch_size: Frames per batch.
        n_resamples: Resamples of the scores.
        seed: Seed of the teacher's weights; the student's is the next number.
    """

    n_replicas: int = 64
    length: float = 80.0
    epochs: int = 30
    batch_size: int = 64
    n_resamples: int = 20
    seed: int = 8


@dataclass(frozen=True)
class KnownAnswer:
    """What came of it.

    Attributes:
        outcome: The student's training.
        explained: Share of the mean square force that the fitted prior leaves over, on the test
            part, which the student's network accounts for; 1 is the known answer.
        network_force: Root mean square component of the teacher network's forces, kcal/mol/Å.
        rows: ``student``, ``prior_only`` and the noise floor ``md_split_half``, scored against
            the teacher.
        student: Path of the student's ``model.pt``.
    """

    outcome: TrainingOutcome
    explained: float
    network_force: float
    rows: dict[str, Scored]
    student: Path

    def value(self, row: str, metric: str) -> float:
        """Return a metric of a row."""
        found = self.rows[row].result.metrics[metric].value
        return float("nan") if found is None else found


def make_teacher(seed: int) -> NetworkPotential:
    """Return the potential that the data come from."""
    entry = registry.system(SYSTEM)
    starts = system_input(SYSTEM).starts
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = GraphNetwork(NETWORK)
    with torch.no_grad():
        _, forces = network.energy_forces_chains(torch.tensor(entry.bead_types), starts)
        network.readout_energy.weight.mul_(NETWORK_FORCE / forces.square().mean().sqrt())
    prior = PriorParameters(
        bonds={f"{i}-{j}": BOND for i, j in itertools.pairwise(entry.bead_types)},
        repulsion=dict.fromkeys(entry.bead_types, EPSILON),
        temperature=entry.temperature,
        source="chosen",
    )
    return NetworkPotential(network, prior, PotentialSpec(name="teacher", cutoff=12.0))


def protocol(settings: KnownAnswerSettings) -> registry.Protocol:
    """Return how teacher, student and prior are simulated."""
    return registry.protocol("demo").model_copy(
        update={
            "id": "known-answer",
            "n_replicas": settings.n_replicas,
            "timestep": 0.008,
            "length": settings.length,
            "output_interval": INTERVAL,
            "drop_fraction": 0.25,
            "model_msm_lag": 2.0,
        }
    )


def system() -> registry.System:
    """Return the registry's entry with the frame interval and lags of the teacher's data."""
    entry = registry.system(SYSTEM)
    lags = {"tica_lag_ps": 2.0, "msm_lag_ps": 2.0, "n_microstates": 50}
    return entry.model_copy(
        update={
            "frame_interval": INTERVAL,
            "analysis": entry.analysis.model_copy(update=lags),
            "description": None,
        }
    )


def make_home(home: Path, settings: KnownAnswerSettings, progress: Progress = silent) -> float:
    """Simulate the teacher and make a data home of its frames: store, split and reference.

    Returns:
        Root mean square component of the teacher network's forces, kcal/mol/Å.
    """
    teacher = make_teacher(settings.seed)
    chosen, entry, raw = protocol(settings), system(), home / "raw" / SYSTEM
    simulate(
        teacher,
        system_input(SYSTEM),
        chosen,
        seed=settings.seed,
        out=home / "teacher.zarr",
        progress=progress,
    )
    dropped = round(chosen.drop_fraction * chosen.n_frames(SYSTEM))
    frames = [item[dropped:] for item in read_trajectories(home / "teacher.zarr").coordinates]
    pos = np.concatenate(frames)
    bead_types = torch.tensor(entry.bead_types)
    result = teacher.chains(bead_types, torch.from_numpy(pos))
    raw.mkdir(parents=True, exist_ok=True)
    np.save(raw / f"{SYSTEM}_ca_coords.npy", pos)
    np.save(raw / f"{SYSTEM}_ca_forces_optimal.npy", result.forces.numpy())
    np.save(raw / f"{SYSTEM}_ca_embeddings.npy", bead_types.numpy())
    lengths = [len(item) for item in frames]
    (raw / "trajectories.json").write_text(json.dumps({"lengths": lengths}), encoding="utf-8")
    preprocess_folder(entry, raw, home / "store" / f"{SYSTEM}.zarr", progress=progress)
    store = open_store(SYSTEM, home)
    write_split(home / "splits" / SYSTEM / f"{SPLIT}.json", make_split(SPLIT, store, entry.split))
    bundle = build_reference(
        store, entry, n_resamples=settings.n_resamples, home=home, progress=progress
    )
    write_reference(home / "references" / REFERENCE_VERSION / f"{SYSTEM}.zarr", bundle)
    network = NetworkPotential(teacher.network, None, teacher.spec)
    forces = network.chains(bead_types, torch.from_numpy(pos)).forces
    return float(forces.square().mean().sqrt())


def student_config(settings: KnownAnswerSettings) -> TrainingConfig:
    """Return the student's training: the teacher's shape, other weights, its own prior."""
    return TrainingConfig(
        name="student",
        systems=(SYSTEM,),
        split=SPLIT,
        network=NETWORK,
        prior=PriorFitSettings(terms=("bonds", "repulsion")),
        optimiser=OptimiserSettings(
            learning_rate=5e-3,
            factor=0.5,
            patience=2,
            batch_size=settings.batch_size,
            maximum_epochs=settings.epochs,
        ),
        seed=settings.seed + 1,
        threads=1,
    )


def run_known_answer(
    folder: Path, settings: KnownAnswerSettings | None = None, progress: Progress = silent
) -> KnownAnswer:
    """Run it all: teacher, store, split, reference, training, simulation, scores.

    Args:
        folder: An empty folder, for the data home and the run.
        settings: How large a run.
        progress: Told how far each step is.
    """
    settings = settings or KnownAnswerSettings()
    home, out = folder / "home", folder / "student"
    network_force = make_home(home, settings, progress)
    bundle = read_reference(find_reference(SYSTEM, home))
    outcome = train(student_config(settings), out, home=home, progress=progress)
    prior = prior_only(
        read_model(PriorParameters, out / "prior.json"),
        SYSTEM,
        open_store(SYSTEM, home),
        read_split(find_split(SYSTEM, SPLIT, home)),
        "MIT",
    )
    save_model(folder / "prior_only.pt", prior)
    models = {"student": out / "model.pt", "prior_only": folder / "prior_only.pt"}
    statistics = reference_statistics(
        bundle, seed=settings.seed, n_resamples=settings.n_resamples, progress=progress
    )
    rows = {
        name: _row(name, path, home, bundle, statistics, settings, progress)
        for name, path in models.items()
    }
    rows["md_split_half"] = md_split_half(bundle, seed=settings.seed, reference=statistics)
    return KnownAnswer(
        outcome=outcome,
        explained=1.0 - _mean_square(rows["student"]) / _mean_square(rows["prior_only"]),
        network_force=network_force,
        rows=rows,
        student=models["student"],
    )


def _row(
    name: str,
    path: Path,
    home: Path,
    bundle: ReferenceBundle,
    statistics: ReferenceStatistics,
    settings: KnownAnswerSettings,
    progress: Progress,
) -> Scored:
    potential, chosen = load_model(path), protocol(settings)
    out = path.with_name(f"{name}.zarr")
    simulate(
        potential,
        system_input(SYSTEM, home),
        chosen,
        seed=settings.seed + 1,
        out=out,
        progress=progress,
    )
    return score(
        Ensemble.from_trajectory_set(read_trajectories(out, SYSTEM), name=name),
        bundle,
        protocol=chosen,
        force_errors=force_errors(potential, SYSTEM, home=home, progress=progress),
        seed=settings.seed,
        reference=statistics,
        progress=progress,
    )


def _mean_square(row: Scored) -> float:
    errors: ForceErrors | None = row.force_errors
    if errors is None:
        raise AssertionError(f"{row.name} was scored without forces")
    return float(errors.squared.sum() / errors.count.sum())
