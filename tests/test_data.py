"""Datasets: the right frames and forces, from the store or from memory, in any process."""

import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_geometric.data
from torch_geometric.loader import DataLoader
from toy_store import BEAD_TYPES, INVALID, LENGTHS, RULE, ToySource, make_home

from cgbench.data import BlockShuffleLoader, ProteinForcesDataset
from cgbench.errors import CgbenchError, UsageError, ValidationError
from cgbench.priors import BondTerm, PriorParameters
from cgbench.splits import Split, make_block_split
from cgbench.store import SystemStore, open_store


@pytest.fixture(scope="module")
def source() -> ToySource:
    return ToySource()


@pytest.fixture(scope="module")
def home(source: ToySource, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_home(tmp_path_factory.mktemp("home"), source)


@pytest.fixture(scope="module")
def store(home: Path) -> SystemStore:
    return open_store("toy", home)


@pytest.fixture(scope="module")
def split(store: SystemStore) -> Split:
    return make_block_split(store, RULE)


@pytest.fixture
def dataset(store: SystemStore, split: Split) -> ProteinForcesDataset:
    return ProteinForcesDataset(store, "train", split)


@pytest.fixture(scope="module")
def prior() -> PriorParameters:
    types = BEAD_TYPES.tolist()
    return PriorParameters(
        bonds={
            f"{first}-{second}": BondTerm(k=100.0 + first, r0=3.8)
            for first, second in itertools.pairwise(types)
        },
        repulsion={number: 50.0 + number for number in types},
        source="test",
    )


def test_items_are_the_valid_frames_of_the_part(
    home: Path, split: Split, source: ToySource
) -> None:
    dataset = ProteinForcesDataset("toy", "test", home=home, force_map="slice")
    expected = np.setdiff1d(split.frames("test"), INVALID)
    assert isinstance(dataset, torch_geometric.data.Dataset)
    assert len(dataset) == len(expected)
    for position in (0, 17, len(dataset) - 1):
        item, frame = dataset[position], expected[position]
        assert item.frame == frame
        assert np.array_equal(item.pos.numpy(), source.coordinates[frame])
        assert np.array_equal(item.forces.numpy(), source.forces["slice"][frame])
        assert item.bead_type.tolist() == BEAD_TYPES.tolist()
        assert item.trajectory == np.flatnonzero(np.cumsum(LENGTHS) > frame)[0]
        assert item.pos.dtype == item.forces.dtype == torch.float32


def test_memory_and_store_give_the_same_items(dataset: ProteinForcesDataset) -> None:
    read = [dataset[position] for position in (3, 1, 2)]
    told: list[tuple[float, float]] = []
    tensors = dataset.load(lambda task, done, total: told.append((done, total)))
    assert told[-1] == (len(dataset), len(dataset))
    assert dataset.load() is tensors
    for item, position in zip(read, (3, 1, 2), strict=True):
        loaded = dataset[position]
        assert set(loaded.keys()) == set(item.keys())
        for key in item.keys():  # noqa: SIM118
            assert np.array_equal(np.asarray(item[key]), np.asarray(loaded[key]))
    assert tensors.pos.shape == (len(dataset), 6, 3)


def test_reading_in_any_order_with_repeats(dataset: ProteinForcesDataset) -> None:
    positions = np.random.default_rng(0).integers(0, len(dataset), 500)
    tensors, loaded = dataset.read(positions), dataset.load()
    assert torch.equal(tensors.pos, loaded.pos[positions])
    assert torch.equal(tensors.forces, loaded.forces[positions])
    assert torch.equal(tensors.trajectory, loaded.trajectory[positions])


def test_subsets_are_datasets(dataset: ProteinForcesDataset) -> None:
    few = dataset[10:400:3]
    assert [item.frame for item in few] == dataset.frames[10:400:3].tolist()
    mixed = few.shuffle()
    assert sorted(mixed.frames) == sorted(few.frames)
    for mode in ("memory", "stream"):
        got = [batch.frame for batch in BlockShuffleLoader(mixed, 16, mode=mode, block_frames=64)]
        assert sorted(np.concatenate(got)) == sorted(few.frames)
    dataset.load()
    again = dataset[[5, 4]]
    assert torch.equal(again[1].pos, dataset[4].pos)
    assert len(again.load()) == 2


def test_pyg_batches(dataset: ProteinForcesDataset) -> None:
    batch = next(iter(DataLoader(dataset, batch_size=5)))
    ours = next(iter(BlockShuffleLoader(dataset, 5, shuffle=False))).to_pyg()
    assert batch.batch.tolist() == np.repeat(np.arange(5), 6).tolist()
    assert batch.num_graphs == ours.num_graphs == 5
    for key in ("pos", "forces", "bead_type", "batch", "ptr", "frame"):
        assert torch.equal(batch[key], ours[key]), key
        assert batch[key].dtype == ours[key].dtype, key


def test_workers_open_the_store_themselves(dataset: ProteinForcesDataset) -> None:
    assert dataset.store.n_frames
    copy = pickle.loads(pickle.dumps(dataset))
    assert np.array_equal(copy[3].pos, dataset[3].pos)
    loader = DataLoader(dataset, batch_size=64, num_workers=1, multiprocessing_context="forkserver")
    frames = torch.cat([batch.frame for batch in loader])
    assert torch.equal(frames, torch.from_numpy(dataset.frames))


def prior_forces(parameters: PriorParameters, pos: np.ndarray) -> np.ndarray:
    """Bond and repulsion forces, pair by pair, from their formulas."""
    forces = np.zeros_like(pos)
    types = BEAD_TYPES.tolist()
    for i in range(len(types)):
        for j in range(i + 1, len(types)):
            along = pos[:, i] - pos[:, j]
            r = np.linalg.norm(along, axis=1, keepdims=True)
            if j == i + 1:
                term = parameters.bonds[f"{types[i]}-{types[j]}"]
                slope = 2 * term.k * (r - term.r0)
            else:
                epsilon = parameters.repulsion[types[i]] * parameters.repulsion[types[j]]
                slope = -6 * 4 * np.sqrt(epsilon) * r**-7
            forces[:, i] -= slope * along / r
            forces[:, j] += slope * along / r
    return forces


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_delta_forces(
    store: SystemStore, split: Split, source: ToySource, prior: PriorParameters, mode: Any
) -> None:
    dataset = ProteinForcesDataset(store, "val", split, prior=prior)
    for batch in BlockShuffleLoader(dataset, 100, mode=mode, block_frames=128):
        rows = batch.frame.numpy()
        expected = source.forces["optimal"][rows] - prior_forces(
            prior, source.coordinates[rows].astype(np.float64)
        )
        np.testing.assert_allclose(batch.forces.numpy(), expected, rtol=1e-6, atol=1e-4)
        assert batch.forces.dtype == torch.float32


def test_delta_forces_do_not_depend_on_how_frames_are_read(
    store: SystemStore, split: Split, prior: PriorParameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = ProteinForcesDataset(store, "val", split, prior=prior)
    whole = dataset.read(np.arange(len(dataset)))
    monkeypatch.setattr("cgbench.data.dataset.PAIRS_AT_ONCE", 200)
    assert torch.equal(dataset.read(np.arange(len(dataset))).forces, whole.forces)
    assert torch.equal(dataset[7].forces, whole.forces[7])


def check_error(error: CgbenchError, *words: str) -> None:
    for word in words:
        assert word in error.message, error.message


def test_wrong_names_say_what_exists(home: Path, store: SystemStore, split: Split) -> None:
    with pytest.raises(UsageError) as caught:
        ProteinForcesDataset(store, "training", split)
    check_error(caught.value, "'training'", "train, val, test")
    with pytest.raises(UsageError) as caught:
        ProteinForcesDataset(store, "train", split, force_map="hydrogens")
    check_error(caught.value, "hydrogens", "slice or optimal", "toy.zarr")
    with pytest.raises(UsageError) as caught:
        ProteinForcesDataset("chignolin-sample", "train", "block-v9")
    check_error(caught.value, "block-v9", "block-v1")
    with pytest.raises(UsageError) as caught:
        ProteinForcesDataset("chignolin-sample", "train", "lopo-lambda")
    check_error(caught.value, "lopo-lambda", "splits make")
    with pytest.raises(UsageError):
        ProteinForcesDataset("toy", "train", home / "nowhere.json")
    with pytest.raises(UsageError):
        ProteinForcesDataset("nowhere", home=home)


def test_split_of_another_store_is_refused(store: SystemStore, split: Split) -> None:
    other = split.model_copy(update={"store_fingerprint": "sha256:other"})
    with pytest.raises(ValidationError) as caught:
        ProteinForcesDataset(store, "train", other)
    check_error(caught.value, "another store", "sha256:other", store.fingerprint, "splits make")


def test_part_without_frames_is_refused(store: SystemStore, split: Split) -> None:
    empty = split.model_copy(update={"parts": {**split.parts, "val": ((0, 1),)}})
    with pytest.raises(ValidationError, match="no valid frame"):
        ProteinForcesDataset(store, "val", empty)
