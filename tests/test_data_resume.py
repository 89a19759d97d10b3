"""Resumption within an epoch, states that do not fit, and weights of frames."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from toy_store import ToySource, make_home

from cgbench.data import BlockShuffleLoader, FrameBatch, ProteinForcesDataset
from cgbench.errors import UsageError, ValidationError


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ProteinForcesDataset:
    home = make_home(tmp_path_factory.mktemp("home"), ToySource())
    return ProteinForcesDataset("toy", "train", home=home)


def stream(dataset: ProteinForcesDataset, **arguments: Any) -> BlockShuffleLoader:
    return BlockShuffleLoader(dataset, 32, **{"mode": "stream", "block_frames": 64, **arguments})


def same(first: FrameBatch, second: FrameBatch) -> bool:
    return all(
        torch.equal(getattr(first, name), getattr(second, name))
        for name in ("pos", "forces", "frame")
    )


@hypothesis_settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_resumption_gives_the_batch_that_would_have_come(
    dataset: ProteinForcesDataset, data: st.DataObject
) -> None:
    weighted = np.random.default_rng(0).exponential(size=len(dataset))
    arguments = {
        "batch_size": data.draw(st.integers(20, 700)),
        "block_frames": data.draw(st.integers(50, 1000)),
        "mode": data.draw(st.sampled_from(["memory", "stream"])),
        "seed": data.draw(st.integers(0, 9)),
        "drop_last": data.draw(st.booleans()),
        "world_size": 2,
        "rank": data.draw(st.integers(0, 1)),
    }
    if data.draw(st.booleans()):
        arguments["weights"] = weighted
    loader = BlockShuffleLoader(dataset, epoch=3, **arguments)
    straight = list(loader)
    stop = data.draw(st.integers(0, len(straight)))
    batches = iter(loader)
    for _ in range(stop):
        next(batches)
    # The state is plain enough for a checkpoint of tensors and plain values.
    state = loader.state_dict()
    assert all(isinstance(value, int | str | bool) for value in state.values())
    resumed = BlockShuffleLoader(dataset, **arguments)
    resumed.load_state_dict(state)
    assert resumed.epoch == 3
    assert resumed.state_dict() == state
    rest = list(resumed)
    assert len(rest) == len(straight) - stop
    assert all(map(same, rest, straight[stop:]))
    # The rest of an epoch is read once; then the epoch is whole again, and so is the next.
    assert len(list(resumed)) == len(straight)
    resumed.load_state_dict(state)
    resumed.set_epoch(4)
    assert len(list(resumed)) == len(straight)


def test_states_of_other_orders_are_refused_within_an_epoch(dataset: ProteinForcesDataset) -> None:
    loader = stream(dataset)
    next(batches := iter(loader))
    within = loader.state_dict()
    list(batches)
    after = loader.state_dict()
    weights = np.ones(len(dataset))
    for changes in (
        {"seed": 1},
        {"mode": "memory"},
        {"block_frames": 65},
        {"buffer_blocks": 5},
        {"world_size": 2},
        {"weights": weights},
        {"drop_last": True},
    ):
        other = stream(dataset, **changes)
        with pytest.raises(ValidationError, match="another order of frames"):
            other.load_state_dict(within)
        other.load_state_dict(after)
        assert sum(map(len, other)) >= len(other)


def test_weights_are_checked(dataset: ProteinForcesDataset) -> None:
    n = len(dataset)
    for weights in (np.ones(n - 1), np.zeros(n), np.full(n, np.nan), -np.ones(n)):
        with pytest.raises(ValidationError, match="weights"):
            stream(dataset, weights=weights)
    with pytest.raises(UsageError, match="weights"):
        stream(dataset, weights=np.ones(n), shuffle=False)
