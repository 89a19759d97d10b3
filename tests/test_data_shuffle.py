"""Whether a streamed epoch is shuffled well enough, beside a perfect shuffle and bad ones."""

from pathlib import Path

import numpy as np
import pytest
from shuffle_quality import Quality, measure, shortcomings
from toy_store import RULE, ToySource, make_home

from cgbench.data import BlockShuffleLoader, ProteinForcesDataset
from cgbench.data.order import EpochOrder, repeats
from cgbench.splits import make_block_split
from cgbench.store import open_store

BLOCK, BLOCKS, BUFFER, BATCH, EPOCHS = 256, 64, 4, 128, 60
N = BLOCK * BLOCKS
FRAMES = np.arange(N)


def streamed(order: EpochOrder, epoch: int) -> np.ndarray:
    pieces = []
    for block in order.super_blocks(epoch):
        places = np.concatenate(block.blocks)
        permutation = block.permutation()
        pieces.append(places if permutation is None else places[permutation])
    return np.concatenate(pieces)


def stream_quality(buffer_blocks: int, assumed: int = BUFFER) -> Quality:
    order = EpochOrder(FRAMES, BLOCK, buffer_blocks * BLOCK, entropy=1)
    epochs = [streamed(order, epoch) for epoch in range(EPOCHS)]
    return measure(epochs, BATCH, BLOCK, assumed * BLOCK)


def test_a_perfect_shuffle_has_no_shortcomings() -> None:
    order = EpochOrder(FRAMES, BLOCK, N, entropy=1)
    quality = measure([order.positions(epoch) for epoch in range(EPOCHS)], BATCH, BLOCK)
    assert not shortcomings(quality, BATCH, BLOCKS, BLOCKS), quality
    assert quality.displacement < 0.005
    assert abs(quality.correlation) < 5 / np.sqrt(N * EPOCHS)
    assert quality.batch_variance == pytest.approx(1 / BATCH, rel=0.1)
    assert quality.neighbours == pytest.approx(1, abs=0.5)


def test_the_stream_is_as_good_as_its_buffer_allows() -> None:
    quality = stream_quality(BUFFER)
    assert not shortcomings(quality, BATCH, BUFFER, BLOCKS), quality
    # A buffer that holds everything is a perfect shuffle.
    whole = stream_quality(BLOCKS, BLOCKS)
    assert not shortcomings(whole, BATCH, BLOCKS, BLOCKS), whole
    # More blocks mix better.
    assert stream_quality(2 * BUFFER).batch_variance < 0.65 * quality.batch_variance


@pytest.mark.parametrize("buffer_blocks", [1, 2])
def test_too_small_a_buffer_is_noticed(buffer_blocks: int) -> None:
    found = shortcomings(stream_quality(buffer_blocks), BATCH, BUFFER, BLOCKS)
    assert {"correlation", "batch_variance", "blocks"} <= set(found)


def test_an_unshuffled_stream_is_noticed() -> None:
    order = EpochOrder(FRAMES, BLOCK, BUFFER * BLOCK, shuffle=False)
    quality = measure([streamed(order, 0)] * EPOCHS, BATCH, BLOCK, BUFFER * BLOCK)
    found = set(shortcomings(quality, BATCH, BUFFER, BLOCKS))
    assert found == {
        "displacement",
        "correlation",
        "neighbours",
        "batch_variance",
        "blocks",
        "placement",
    }


def test_shuffled_blocks_with_frames_in_order_are_noticed() -> None:
    order = EpochOrder(FRAMES, BLOCK, BUFFER * BLOCK, entropy=1)
    epochs = [
        np.concatenate([np.concatenate(block.blocks) for block in order.super_blocks(epoch)])
        for epoch in range(EPOCHS)
    ]
    found = shortcomings(measure(epochs, BATCH, BLOCK, BUFFER * BLOCK), BATCH, BUFFER, BLOCKS)
    assert {"correlation", "neighbours", "batch_variance", "blocks"} <= set(found)


def test_the_same_blocks_every_epoch_are_noticed() -> None:
    order = EpochOrder(FRAMES, BLOCK, BUFFER * BLOCK, entropy=1)
    epochs = [streamed(order, 0)] * EPOCHS
    found = shortcomings(measure(epochs, BATCH, BLOCK, BUFFER * BLOCK), BATCH, BUFFER, BLOCKS)
    assert "placement" in found


def test_loaders_give_out_the_orders_that_are_tested(tmp_path: Path) -> None:
    store = open_store("toy", make_home(tmp_path, ToySource()))
    dataset = ProteinForcesDataset(store, "train", make_block_split(store, RULE))
    loader = BlockShuffleLoader(dataset, 32, mode="stream", block_frames=64, seed=5, epoch=3)
    order = EpochOrder(dataset.frames, 64, 4 * 64, entropy=5)
    frames = np.concatenate([batch.frame for batch in loader])
    assert np.array_equal(frames, dataset.frames[streamed(order, 3)])
    memory = BlockShuffleLoader(dataset, 32, mode="memory", seed=5, epoch=3)
    frames = np.concatenate([batch.frame for batch in memory])
    # As it has been since the first version: results of seeds in use depend on it.
    random = np.random.default_rng(np.random.SeedSequence(5, spawn_key=(3,)))
    assert np.array_equal(frames, dataset.frames[random.permutation(len(dataset))])


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_weighted_epoch_holds_each_frame_as_often_as_its_weight_says(world_size: int) -> None:
    weights = np.random.default_rng(0).exponential(size=1000)
    weights[100:200] = 0.0
    expected = 1000 * weights / weights.sum()
    counts = np.zeros(1000)
    for epoch in range(200):
        seen = np.zeros(1000)
        for rank in range(world_size):
            order = EpochOrder(
                np.arange(1000), 100, 300, rank=rank, world_size=world_size, weights=weights
            )
            places = streamed(order, epoch)
            assert len(places) == 1000 // world_size
            seen += np.bincount(places, minlength=1000)
        # The remainder of the ranks, one draw of three ranks, is left out.
        assert np.abs(seen - expected).max() < (1 if world_size == 1 else 2)
        counts += seen
    assert counts[100:200].sum() == 0
    error = np.abs(counts / 200 - expected)
    assert error.max() < 5 * 0.5 / np.sqrt(200) + 0.02


def test_repeats_of_extreme_weights() -> None:
    random = np.random.default_rng(0)
    for last in (0.0, 1e-300):
        weights = np.array([0.0, 1e300, 0.0, 1e-3, last])
        for _ in range(100):
            assert repeats(weights, random).tolist() == [0, 5, 0, 0, 0]
    assert repeats(np.ones(7), random).tolist() == [1] * 7
    heavy = np.full(5000, 1e-9)
    heavy[777] = 1.0
    order = EpochOrder(np.arange(5000), 100, 400, weights=heavy)
    # One frame alone in every block: memory stays bounded.
    assert max(len(block) for part in order.super_blocks(0) for block in part.blocks) <= 100
