"""Loaders: every frame once an epoch, in an order that only the seed decides, well shuffled."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from toy_store import BEAD_TYPES, RULE, ToySource, make_home

from cgbench.data import BlockShuffleLoader, FrameBatch, ProteinForcesDataset
from cgbench.errors import UsageError, ValidationError
from cgbench.splits import Split, make_block_split, make_random_split
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


def frames_of(batches: Iterable[FrameBatch]) -> list[np.ndarray]:
    return [batch.frame.numpy() for batch in batches]


@pytest.mark.parametrize("mode", ["memory", "stream"])
@pytest.mark.parametrize("shuffle", [True, False])
@hypothesis_settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_frame_once_an_epoch(
    dataset: ProteinForcesDataset, mode: Any, shuffle: bool, data: st.DataObject
) -> None:
    batch_size = data.draw(st.integers(1, 700))
    world_size = data.draw(st.integers(1, 4))
    drop_last = data.draw(st.booleans())
    arguments: dict[str, Any] = {
        "batch_size": batch_size,
        "mode": mode,
        "shuffle": shuffle,
        "drop_last": drop_last,
        "seed": data.draw(st.integers(0, 99)),
        "epoch": data.draw(st.integers(0, 9)),
        "world_size": world_size,
        "block_frames": data.draw(st.integers(50, 1000)),
    }
    each = len(dataset) // world_size
    seen = []
    for rank in range(world_size):
        loader = BlockShuffleLoader(dataset, **arguments, rank=rank)
        batches = frames_of(loader)
        assert len(batches) == len(loader)
        sizes = [len(batch) for batch in batches]
        assert set(sizes[:-1]) <= {batch_size}
        assert sum(sizes) == (each // batch_size * batch_size if drop_last else each)
        if not shuffle:
            assert (np.diff(np.concatenate(batches)) > 0).all()
        seen += batches
    frames = np.concatenate(seen)
    assert len(np.unique(frames)) == len(frames)
    assert set(frames) <= set(dataset.frames)


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_batches_hold_what_the_store_holds(
    dataset: ProteinForcesDataset, source: ToySource, mode: Any
) -> None:
    for batch in BlockShuffleLoader(dataset, 97, mode=mode, block_frames=200):
        rows = batch.frame.numpy()
        assert np.array_equal(batch.pos.numpy(), source.coordinates[rows])
        assert np.array_equal(batch.forces.numpy(), source.forces["optimal"][rows])
        assert batch.bead_types.tolist() == BEAD_TYPES.tolist()
        assert batch.pos.dtype == batch.forces.dtype == torch.float32


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_order_is_decided_by_seed_and_epoch(dataset: ProteinForcesDataset, mode: Any) -> None:
    def order(**arguments: int) -> list[int]:
        loader = BlockShuffleLoader(dataset, 64, mode=mode, block_frames=100, **arguments)
        return np.concatenate(frames_of(loader)).tolist()

    first = order(seed=1, epoch=2)
    assert order(seed=1, epoch=2) == first
    assert order(seed=1, epoch=3) != first
    assert order(seed=2, epoch=2) != first
    loader = BlockShuffleLoader(dataset, 64, mode=mode, block_frames=100, seed=1)
    assert np.concatenate(frames_of(loader)).tolist() != first
    loader.set_epoch(2)
    assert np.concatenate(frames_of(loader)).tolist() == first


def test_memory_mode_shuffles_perfectly(dataset: ProteinForcesDataset) -> None:
    # Where each tenth of the frames comes in the epoch: a 10×10 table that must be even.
    tenth = np.argsort(np.argsort(dataset.frames)) * 10 // len(dataset)
    place = dict(zip(dataset.frames.tolist(), tenth.tolist(), strict=True))
    table = np.zeros((10, 10))
    for epoch in range(5):
        loader = BlockShuffleLoader(dataset, 64, mode="memory", epoch=epoch)
        frames = np.concatenate(frames_of(loader))
        for when, frame in enumerate(frames.tolist()):
            table[when * 10 // len(frames), place[frame]] += 1
    assert scipy.stats.chi2_contingency(table).pvalue > 1e-4


def test_stream_mode_shuffles_blocks_and_within_the_buffer(
    dataset: ProteinForcesDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = dataset.load()
    monkeypatch.setattr(dataset, "read", lambda rows: loaded.select(torch.from_numpy(rows)))
    loader = BlockShuffleLoader(dataset, 32, mode="stream", block_frames=64)
    first = np.zeros(len(dataset))
    correlations, neighbours, spread = [], [], []
    for epoch in range(60):
        loader.set_epoch(epoch)
        batches = frames_of(loader)
        frames = np.searchsorted(dataset.frames, np.concatenate(batches))
        first[frames[: len(frames) // 2]] += 1
        correlations.append(np.corrcoef(frames, np.arange(len(frames)))[0, 1])
        neighbours.append(np.mean(np.abs(np.diff(frames)) == 1))
        # Whole batches alone; the buffer runs empty towards the end of the epoch.
        means = [np.mean(np.searchsorted(dataset.frames, batch)) for batch in batches[:-10]]
        spread.append(np.var(means))
    n = len(dataset)
    blocks = n / 64
    # Each epoch's order is unrelated to the order in the store ...
    assert abs(np.mean(correlations)) < 4 / np.sqrt(60 * blocks)
    # ... every frame is as often in the first half of an epoch as in the second ...
    assert abs(first.mean() - 30) < 0.5
    assert first.min() > 5
    assert first.max() < 55
    # ... successive frames rarely follow each other: about 2/256 for a buffer of four blocks ...
    assert np.mean(neighbours) < 3 / 256
    # ... and a batch mixes several blocks. One block alone would give n²/12, four a quarter.
    assert np.mean(spread) < 1.5 * (n**2 / 12) * (1 / 4 + 1 / 32)


def test_stream_mode_is_bounded_in_memory(
    dataset: ProteinForcesDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    lengths: list[int] = []
    original = ProteinForcesDataset.read_into

    def counted(self: ProteinForcesDataset, positions: np.ndarray, *arrays: Any) -> None:
        lengths.append(len(positions))
        original(self, positions, *arrays)

    monkeypatch.setattr(ProteinForcesDataset, "read_into", counted)
    given_out, most = 0, 0
    for batch in BlockShuffleLoader(dataset, 16, mode="stream", block_frames=64, threads=2):
        given_out += len(batch)
        most = max(most, sum(lengths) - given_out)
    assert given_out == sum(lengths) == len(dataset)
    assert max(lengths) <= 64
    # Two super-blocks of four blocks each, and what cutting them evenly makes of that.
    assert 4 * 64 < most <= 2 * (4 + 1) * 64


def test_sparse_parts_fill_the_buffer(store: SystemStore) -> None:
    # A random split leaves few frames of a part in each block: more blocks share the buffer.
    sparse = ProteinForcesDataset(store, "val", make_random_split(store, seed=1))
    loader = BlockShuffleLoader(sparse, 32, mode="stream", block_frames=200, buffer_blocks=1)
    batches = frames_of(loader)
    assert sorted(np.concatenate(batches)) == sorted(sparse.frames)
    assert np.mean([len(np.unique(batch // 200)) for batch in batches[:-5]]) > 8


@pytest.mark.parametrize(
    "arguments",
    [
        {"batch_size": 0},
        {"rank": 1},
        {"rank": -1},
        {"world_size": 0},
        {"epoch": -1},
        {"seed": -1},
        {"mode": "fast"},
        {"buffer_blocks": 0},
        {"block_frames": 0},
    ],
)
def test_wrong_loader_arguments(dataset: ProteinForcesDataset, arguments: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(arguments))):
        BlockShuffleLoader(dataset, **arguments)


def test_too_few_frames_for_a_batch(dataset: ProteinForcesDataset) -> None:
    with pytest.raises(ValidationError, match="too small for a batch"):
        BlockShuffleLoader(dataset[:10], 64, drop_last=True)
    with pytest.raises(ValidationError, match="each of 20 ranks"):
        BlockShuffleLoader(dataset[:10], 4, world_size=20)
