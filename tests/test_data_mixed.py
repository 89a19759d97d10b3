"""Batches of several proteins: shares, weights, forms, order, ranks, resumption, data module."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader
from torch_geometric.data import Batch
from torch_geometric.loader import DataLoader as PygLoader
from toy_systems import SYSTEMS, make_systems

from cgbench.data import (
    BlockShuffleLoader,
    MixedLoader,
    ProteinForcesDataset,
    inverse_density,
    weights_of_frames,
)
from cgbench.errors import UsageError, ValidationError


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_systems(tmp_path_factory.mktemp("home"))


@pytest.fixture
def datasets(home: Path) -> list[ProteinForcesDataset]:
    return [ProteinForcesDataset(system, "train", home=home) for system in SYSTEMS]


def seen(batches: Any, n: int = 3) -> list[list[int]]:
    frames: list[list[int]] = [[] for _ in range(n)]
    for batch in batches:
        for system, part in zip(batch.systems, batch.parts, strict=True):
            frames[system] += part.frame.tolist()
    return frames


@pytest.mark.parametrize("mode", ["memory", "stream"])
@pytest.mark.parametrize("shuffle", [True, False])
def test_by_default_an_epoch_is_every_frame_once(
    datasets: list[ProteinForcesDataset], mode: Any, shuffle: bool
) -> None:
    loader = MixedLoader(datasets, 64, mode=mode, shuffle=shuffle, block_frames=100)
    for epoch in range(2):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader)
        assert {len(batch) for batch in batches[:-1]} == {64}
        for frames, dataset in zip(seen(batches), datasets, strict=True):
            assert sorted(frames) == dataset.frames.tolist()
            assert (frames == dataset.frames.tolist()) is not shuffle


def test_batches_hold_the_right_frames_in_all_forms(datasets: list[ProteinForcesDataset]) -> None:
    for batch in list(MixedLoader(datasets, 50, mode="stream", block_frames=100))[:5]:
        for system, part in zip(batch.systems, batch.parts, strict=True):
            dataset = datasets[system]
            rows = np.searchsorted(dataset.frames, part.frame.numpy())
            assert torch.equal(part.pos, dataset.load().pos[rows])
            assert torch.equal(part.forces, dataset.load().forces[rows])
        # The same frames through PyG's own collation.
        items = []
        for system, part in zip(batch.systems, batch.parts, strict=True):
            rows = np.searchsorted(datasets[system].frames, part.frame.numpy())
            items += [datasets[system][int(row)] for row in rows]
        expected = next(iter(PygLoader(items, batch_size=len(items))))
        flat = batch.to_pyg()
        assert isinstance(flat, Batch)
        for key in ("pos", "forces", "bead_type", "batch", "ptr", "frame"):
            assert torch.equal(flat[key], expected[key]), key
            assert flat[key].dtype == expected[key].dtype, key
        assert flat.num_graphs == len(batch) == 50
        lengths = torch.tensor([n_beads for n_beads, _ in SYSTEMS.values()])
        assert torch.equal(flat.ptr.diff(), lengths[flat.system])
        assert torch.equal(flat.system, batch.system)
        moved = batch.to("cpu")
        assert torch.equal(moved.to_pyg().pos, flat.pos)


@pytest.mark.parametrize(
    ("weights", "expected"),
    [
        ("frames", lambda n: n),
        ("sqrt", np.sqrt),
        ("uniform", np.ones_like),
        ([1.0, 2.0, 5.0], lambda n: np.array([1.0, 2.0, 5.0])),
        ({"large": 5.0, "small": 1.0, "middle": 2.0}, lambda n: np.array([1.0, 2.0, 5.0])),
    ],
)
def test_shares_of_proteins(
    datasets: list[ProteinForcesDataset], weights: Any, expected: Any
) -> None:
    loader = MixedLoader(datasets, 64, protein_weights=weights, epoch_frames=2000)
    shares = expected(np.array([len(dataset) for dataset in datasets], dtype=float))
    shares = shares / shares.sum()
    assert sum(loader.frames_per_epoch) == 2000
    assert np.abs(np.array(loader.frames_per_epoch) - 2000 * shares).max() < 1
    counts = loader.composition()
    assert (counts.sum(axis=1)[:-1] == 64).all()
    # Every batch has the shares as nearly as whole frames allow.
    assert np.abs(counts[:-1] - 64 * shares).max() < 2
    assert counts.sum(axis=0).tolist() == loader.frames_per_epoch
    assert [len(frames) for frames in seen(loader)] == loader.frames_per_epoch


@pytest.mark.parametrize("mode", ["memory", "stream"])
def test_passes_go_on_from_epoch_to_epoch(datasets: list[ProteinForcesDataset], mode: Any) -> None:
    loader = MixedLoader(
        datasets, 64, protein_weights="uniform", epoch_frames=1800, mode=mode, block_frames=100
    )
    sequences: list[list[int]] = [[], [], []]
    for epoch in range(4):
        loader.set_epoch(epoch)
        for total, frames in zip(sequences, seen(loader), strict=True):
            assert len(frames) == 600
            total += frames
    for frames, dataset in zip(sequences, datasets, strict=True):
        whole = len(frames) // len(dataset) * len(dataset)
        for start in range(0, whole, len(dataset)):
            assert sorted(frames[start : start + len(dataset)]) == dataset.frames.tolist()
        assert len(set(frames[whole:])) == len(frames) - whole
    assert len(sequences[0]) > 5 * len(datasets[0])


def test_frames_come_by_their_weights(datasets: list[ProteinForcesDataset]) -> None:
    weights = np.zeros(len(datasets[1]))
    weights[::3] = 1.0
    weights[300] = 20.0
    values = datasets[2].load().pos[:, 0, 0].double().numpy()
    density = inverse_density(values, bins=10)
    loader = MixedLoader(
        datasets,
        64,
        block_frames=100,
        frame_weights={
            "middle": weights,
            "large": lambda tensors: density[
                np.searchsorted(datasets[2].frames, tensors.frame.numpy())
            ],
        },
    )
    frames = seen(loader)
    middle = np.searchsorted(datasets[1].frames, frames[1])
    assert set(middle.tolist()) <= set(np.flatnonzero(weights).tolist())
    expected = len(weights) * weights / weights.sum()
    assert np.abs(np.bincount(middle, minlength=len(weights)) - expected).max() < 1
    large = values[np.searchsorted(datasets[2].frames, frames[2])]
    flat = np.histogram(large, 10, (values.min(), values.max()))[0]
    assert flat.std() < 0.1 * flat.mean() < np.histogram(values, 10)[0].std()
    assert sorted(frames[0]) == datasets[0].frames.tolist()


def test_functions_of_frames_give_weights(datasets: list[ProteinForcesDataset]) -> None:
    dataset = datasets[2].shuffle()
    told: list[float] = []
    weights = weights_of_frames(
        dataset,
        lambda tensors: 1.0 + tensors.frame.double().numpy(),
        lambda task, done, total: told.append(done / total),
    )
    assert weights.tolist() == (dataset.frames + 1.0).tolist()
    assert told[-1] == 1.0
    with pytest.raises(ValidationError, match="weights of frames of large"):
        weights_of_frames(dataset, lambda tensors: np.ones(3))
    with pytest.raises(ValidationError, match="not negative"):
        weights_of_frames(dataset, lambda tensors: -np.ones(len(tensors)))


def test_inverse_density() -> None:
    values = np.concatenate([np.zeros(900), np.ones(90), np.full(10, 2.0)])
    weights = inverse_density(values, bins=3)
    totals = [weights[values == value].sum() for value in (0, 1, 2)]
    assert totals == pytest.approx([1, 1, 1])
    assert inverse_density(values, bins=3, power=0).tolist() == [1.0] * 1000
    half = inverse_density(values, bins=3, power=0.5)
    assert half[-1] / half[0] == pytest.approx(np.sqrt(90))
    with pytest.raises(ValidationError, match="finite"):
        inverse_density(np.array([1.0, np.nan]))


@hypothesis_settings(
    deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_ranks_and_resumption(datasets: list[ProteinForcesDataset], data: st.DataObject) -> None:
    arguments: dict[str, Any] = {
        "batch_size": data.draw(st.integers(10, 300)),
        "protein_weights": data.draw(st.sampled_from(["frames", "sqrt", "uniform"])),
        "seed": data.draw(st.integers(0, 9)),
        "mode": data.draw(st.sampled_from(["memory", "stream"])),
        "block_frames": 100,
        "world_size": 2,
        "drop_last": data.draw(st.booleans()),
    }
    epoch = data.draw(st.integers(0, 5))
    ranks = []
    for rank in range(2):
        loader = MixedLoader(datasets, epoch=epoch, rank=rank, **arguments)
        straight = list(loader)
        assert len(straight) == len(loader)
        ranks.append(seen(straight))
        stop = data.draw(st.integers(0, len(straight)))
        batches = iter(loader)
        for _ in range(stop):
            next(batches)
        resumed = MixedLoader(datasets, rank=rank, **arguments)
        resumed.load_state_dict(loader.state_dict())
        rest = list(resumed)
        assert len(rest) == len(straight) - stop
        for one, other in zip(rest, straight[stop:], strict=True):
            assert one.systems == other.systems
            for first, second in zip(one.parts, other.parts, strict=True):
                assert torch.equal(first.frame, second.frame)
                assert torch.equal(first.pos, second.pos)
    assert [len(frames) for frames in ranks[0]] == [len(frames) for frames in ranks[1]]
    if arguments["protein_weights"] == "frames":
        assert not any(set(one) & set(other) for one, other in zip(*ranks, strict=True))


def test_workers_and_order(datasets: list[ProteinForcesDataset]) -> None:
    loader = MixedLoader(datasets, 64, mode="stream", seed=1)
    expected = [batch.system.tolist() + batch.to_pyg().frame.tolist() for batch in loader]
    again = MixedLoader(datasets, 64, mode="stream", seed=1)
    assert [batch.system.tolist() + batch.to_pyg().frame.tolist() for batch in again] == expected
    other = MixedLoader(datasets, 64, mode="stream", seed=2)
    assert [batch.system.tolist() + batch.to_pyg().frame.tolist() for batch in other] != expected
    workers = DataLoader(
        loader, batch_size=None, num_workers=2, multiprocessing_context="forkserver"
    )
    found = [batch.system.tolist() + batch.to_pyg().frame.tolist() for batch in workers]
    assert sorted(found) == sorted(expected)


def test_wrong_arguments(datasets: list[ProteinForcesDataset]) -> None:
    for arguments, name in (
        ({"protein_weights": "square"}, "square"),
        ({"protein_weights": {"small": 1.0}}, "small, middle, large"),
        ({"frame_weights": {"other": np.ones(3)}}, "other"),
        ({"frame_weights": {"small": np.ones(420)}, "shuffle": False}, "weights of frames"),
        ({"epoch_frames": 0}, "epoch_frames"),
        ({"world_size": 2, "rank": 2}, "rank"),
        ({"mode": "fast"}, "fast"),
        ({"epoch": -1}, "epoch"),
    ):
        with pytest.raises(UsageError, match=name):
            MixedLoader(datasets, **arguments)
    for arguments, name in (
        ({"protein_weights": [1.0, 2.0]}, "weights of proteins"),
        ({"protein_weights": [1.0, 0.0, 2.0]}, "above zero"),
        ({"frame_weights": {"small": np.ones(3)}}, "weights of frames of small"),
        ({"epoch_frames": 3, "protein_weights": [1.0, 1.0, 99.0]}, "too short"),
        ({"world_size": 1000}, "ranks"),
    ):
        with pytest.raises(ValidationError, match=name):
            MixedLoader(datasets, **arguments)
    with pytest.raises(UsageError, match="no dataset"):
        MixedLoader([])
    state = MixedLoader(datasets, 64).state_dict() | {"batch": 3}
    with pytest.raises(ValidationError, match="another order"):
        MixedLoader(datasets, 64, seed=1).load_state_dict(state)


def test_one_protein_is_the_plain_loader_with_another_seed(
    datasets: list[ProteinForcesDataset],
) -> None:
    mixed = MixedLoader(datasets[1:2], 64, mode="stream", shuffle=False)
    plain = BlockShuffleLoader(datasets[1], 64, mode="stream", shuffle=False)
    for one, other in zip(mixed, plain, strict=True):
        assert torch.equal(one.parts[0].pos, other.pos)
        assert one.systems == (0,)
