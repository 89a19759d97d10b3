"""Two small stores of proteins of different lengths, and small configurations, for training."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from store_sources import ArraySource, metadata_of

from cgbench import registry
from cgbench.registry import SplitSettings
from cgbench.splits import make_block_split, make_leave_one_out_split, write_split
from cgbench.store import Layout, open_store, write_store
from cgbench.train import TrainingConfig

SHORT, LONG = "chignolin", "trpcage"
#: Trajectories of each system; the second has twice as many frames.
LENGTHS = {SHORT: (203, 197, 200), LONG: (401, 399, 400)}
#: Frames in blocks, so that no Markov model is needed for the weights of frames.
RULE = SplitSettings(unit="block", train=0.7, val=0.2, test=0.1, gap_frames=2, seed=1)
LAYOUT = Layout(chunk=64, chunks_per_shard=4)


def chain_source(system: str) -> ArraySource:
    """Random chains with bonds of 3.8 Å, and springs to the fourth neighbour as their forces."""
    entry = registry.system(system)
    random = np.random.default_rng(len(entry.sequence))
    lengths = LENGTHS[system]
    n_frames, n_beads = sum(lengths), len(entry.sequence)
    steps = random.normal(size=(n_frames, n_beads, 3)) + np.array([1.2, 0.0, 0.0])
    steps *= random.normal(3.8, 0.08, (n_frames, n_beads, 1)) / np.linalg.norm(
        steps, axis=2, keepdims=True
    )
    pos = np.cumsum(steps, axis=1)
    between = pos[:, 3:] - pos[:, :-3]
    distance = np.linalg.norm(between, axis=2, keepdims=True)
    pull = 2.0 * (distance - 8.0) * between / distance
    forces = random.normal(0.0, 0.3, pos.shape)
    forces[:, :-3] += pull
    forces[:, 3:] -= pull
    return ArraySource(
        pos.astype(np.float32),
        {"optimal": forces.astype(np.float32)},
        lengths,
        bead_types=np.array(entry.bead_types, dtype=np.int64),
    )


def make_home(folder: Path) -> Path:
    """Write the stores and their splits, one that leaves the short protein out among them."""
    for system in (SHORT, LONG):
        source, entry = chain_source(system), registry.system(system)
        path = folder / "store" / f"{system}.zarr"
        described = metadata_of(source, system=system, sequence=entry.sequence)
        write_store(path, source, described, layout=LAYOUT)
        store = open_store(path)
        blocks = make_block_split(store, RULE)
        splits = folder / "splits" / system
        write_split(splits / "block-v1.json", blocks)
        left_out = make_leave_one_out_split(blocks, SHORT, entry.sequence)
        write_split(splits / f"lopo-{SHORT}.json", left_out)
    return folder


@contextlib.contextmanager
def without_figures() -> Iterator[None]:
    """Leave out the drawings of runs, which take longer than the runs themselves."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("fitting.plot_priors", "fitting.plot_transferable_prior"):
            patch.setattr(f"cgbench.train.{name}", lambda *_: Figure(figsize=(1, 1)))
        patch.setattr("cgbench.train.run.plot_losses", lambda *_: None)
        yield


def settings(**changes: Any) -> TrainingConfig:
    """A network of a few hundred weights on both proteins, three epochs, one thread."""
    optimiser = {
        "learning_rate": 1e-2,
        "batch_size": 120,
        "maximum_epochs": 3,
        "patience": 0,
        "factor": 0.5,
        **changes.pop("optimiser", {}),
    }
    network = {
        "embedding_dimension": 8,
        "num_filters": 6,
        "num_layers": 1,
        "num_rbf": 6,
        "max_bead_type": 23,
        **changes.pop("network", {}),
    }
    values = {
        "name": "tiny/both",
        "systems": [SHORT, LONG],
        "network": network,
        "optimiser": optimiser,
        "prior": {"terms": ["bonds"]},
        "seed": 3,
        "threads": 1,
        **changes,
    }
    if "system" in values:
        del values["systems"]
    return TrainingConfig.model_validate(values)
