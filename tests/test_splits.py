"""Splits: disjoint, complete up to gaps, reproducible, and refused where they are not."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cgbench import registry
from cgbench.config import assets_home, fingerprint
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.splits import (
    Split,
    check_split,
    find_problems,
    make_block_split,
    make_random_split,
    make_split,
    read_split,
    write_split,
)
from cgbench.splits.model import permutation, permutation_sha256
from cgbench.store import open_store


@dataclass
class Metadata:
    system: str = "toy"
    sequence: str = "YYDPETGTWY"
    start_kind: tuple[str, ...] | None = None


@dataclass
class Index:
    """A store as far as splits can see."""

    lengths: list[int]
    metadata: Metadata = field(default_factory=Metadata)
    fingerprint: str = "sha256:store"
    invalid: tuple[int, ...] = ()

    @property
    def n_frames(self) -> int:
        return sum(self.lengths)

    @property
    def trajectory_bounds(self) -> np.ndarray:
        stops = np.cumsum(self.lengths)
        return np.stack([stops - self.lengths, stops], axis=1).astype(np.int64)

    @property
    def valid(self) -> np.ndarray:
        mask = np.ones(self.n_frames, dtype=bool)
        mask[list(self.invalid)] = False
        return mask


def settings(unit: str = "trajectory", gap: int = 0, seed: int = 5) -> registry.SplitSettings:
    return registry.SplitSettings.model_validate(
        {"unit": unit, "train": 0.6, "val": 0.1, "test": 0.3, "gap_frames": gap, "seed": seed}
    )


def labels(split: Split) -> np.ndarray:
    """The part of every frame, written out by hand: −1 where there is none."""
    found = np.full(split.n_frames, -1)
    for number, name in enumerate(("train", "val", "test")):
        for start, stop in split.parts[name]:
            assert (found[start:stop] == -1).all()
            found[start:stop] = number
    return found


lengths_of = st.lists(st.integers(1, 400), min_size=3, max_size=60)


@given(lengths=lengths_of, seed=st.integers(0, 2**31))
def test_whole_trajectories_are_kept_whole(lengths: list[int], seed: int) -> None:
    index = Index(lengths)
    split = make_block_split(index, settings(seed=seed))
    check_split(split, index)
    part = labels(split)
    assert (part >= 0).all()
    for start, stop in index.trajectory_bounds:
        assert len(set(part[start:stop])) == 1
    assert set(part) == {0, 1, 2}
    assert split.trajectories is not None
    listed = [number for numbers in split.trajectories.values() for number in numbers]
    assert sorted(listed) == list(range(len(lengths)))


@given(
    lengths=st.lists(st.integers(500, 5000), min_size=1, max_size=12),
    gap=st.integers(0, 60),
    seed=st.integers(0, 2**31),
)
def test_blocks_keep_their_gap(lengths: list[int], gap: int, seed: int) -> None:
    index = Index(lengths)
    split = make_block_split(index, settings("block", gap, seed))
    check_split(split, index)
    part = labels(split)
    for start, stop in index.trajectory_bounds:
        inside = part[start:stop]
        used = np.flatnonzero(inside >= 0)
        assert used[0] == 0
        assert used[-1] == stop - start - 1
        distance, change = np.diff(used), np.diff(inside[used]) != 0
        assert (distance[change] == gap + 1).all()
        assert (distance[~change] == 1).all()
    assert split.trajectories is None


def test_one_long_run_of_frames_is_split_into_many_blocks_near_the_fractions() -> None:
    index = Index([1_868_861])
    split = make_block_split(index, settings("block", gap=20))
    shares = [len(split.frames(name)) / index.n_frames for name in ("train", "val", "test")]
    assert sum(shares) > 0.97
    np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.02)
    assert len(split.parts["val"]) > 50


def test_every_kind_of_start_is_in_every_part_in_proportion() -> None:
    kinds = ("coil",) * 40 + ("native",) * 20 + ("adaptive",) * 50
    split = make_block_split(Index([100] * 110, Metadata(start_kind=kinds)), settings())
    assert split.settings.stratified_by == "start_kind"
    assert split.trajectories is not None
    for kind in ("coil", "native", "adaptive"):
        total = kinds.count(kind)
        for name, fraction in split.settings.fractions.items():
            here = sum(kinds[number] == kind for number in split.trajectories[name])
            assert abs(here - fraction * total) <= 1.5, (kind, name, here)


def test_too_few_trajectories_and_wrong_bounds_are_refused() -> None:
    with pytest.raises(ValidationError, match="too few trajectories"):
        make_block_split(Index([50, 50]), settings())
    with pytest.raises(ValidationError, match="smaller gap"):
        make_block_split(Index([100]), settings("block", gap=40))
    wrong = Index([10, 10, 10, 10], Metadata(start_kind=("coil",)))
    with pytest.raises(ValidationError, match="kinds of start"):
        make_block_split(wrong, settings())
    with pytest.raises(ValidationError, match="cover the frames"):
        make_block_split(Index([10, 0, 10, 10]), settings())


@given(n=st.integers(3, 3000), seed=st.integers(0, 2**31))
def test_random_split_is_a_partition(n: int, seed: int) -> None:
    index = Index([n])
    split = make_random_split(index, seed=seed)
    parts = [split.frames(name) for name in split.part_names]
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(n))
    assert abs(len(parts[0]) - 0.85 * n) <= 1
    assert abs(len(parts[2]) - 0.10 * n) <= 1
    if all(map(len, parts)):
        check_split(split, index)


def test_random_split_is_uniform_over_frames() -> None:
    # Mean and spread of the test frames' places against those of draws without order.
    frames = make_random_split(Index([20_000]), seed=3).frames("test") / 20_000
    assert abs(frames.mean() - 0.5) < 4 * np.sqrt(1 / 12 / len(frames))
    counts = np.histogram(frames, bins=20, range=(0, 1))[0]
    assert ((counts - 100) ** 2 / 100).sum() < 50  # χ² with 19 degrees of freedom, p < 2e-4


def test_orders_do_not_depend_on_the_numpy_version() -> None:
    assert permutation(8, 7).tolist() == [6, 3, 4, 0, 2, 7, 5, 1]
    assert permutation_sha256(permutation(1000, 1)).startswith("5d14416b87474b5b")


def test_making_twice_gives_the_same_and_another_seed_gives_another() -> None:
    index = Index([30] * 40)
    first, again = (make_split("block-v1", index, settings()) for _ in range(2))
    assert first == again
    assert first.fingerprint == again.fingerprint
    assert make_split("block-v1", index, settings(seed=6)).parts != first.parts
    assert make_split("random-85-5-10", index, settings()).id == "random-85-5-10"
    assert first.seed == 5
    with pytest.raises(UsageError, match="block-v2"):
        make_split("block-v2", index, settings())


def test_frames_of_a_part_leave_out_what_failed_screening() -> None:
    index = Index([40] * 10, invalid=(0, 41, 399))
    split = make_block_split(index, settings())
    used = np.concatenate([split.frames(name, index.valid) for name in split.part_names])
    assert len(used) == 397
    assert not set(used) & {0, 41, 399}
    with pytest.raises(ValidationError, match="wrong length"):
        split.frames("train", index.valid[:-1])
    with pytest.raises(UsageError, match=r"'training'\n.*train, val, test"):
        split.frames("training")


def test_files_round_trip_and_the_fingerprint_covers_every_field(tmp_path: Path) -> None:
    index = Index([40] * 10)
    split = make_block_split(index, settings("block", gap=3))
    write_split(tmp_path / "block-v1.json", split)
    assert read_split(tmp_path / "block-v1.json") == split
    changed = {
        "id": "block-v2",
        "system": "other",
        "store_fingerprint": "sha256:other",
        "n_frames": 401,
        "seed": 6,
        "settings": split.settings.model_copy(update={"gap_frames": 4}),
        "parts": {**split.parts, "val": ()},
        "trajectories": {"train": (0,)},
    }
    assert set(changed) == set(Split.model_fields) - {"format", "version"}
    prints = {split.model_copy(update={name: new}).fingerprint for name, new in changed.items()}
    assert len(prints | {split.fingerprint}) == len(changed) + 1
    # A later version's field that is null must not change the fingerprints quoted in results.
    data = split.model_dump(mode="json", exclude_none=True)
    assert split.fingerprint == fingerprint(data)
    assert "trajectories" not in data


def edit(split: Split, **changes: Any) -> dict[str, Any]:
    return {**json.loads(split.model_dump_json()), **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {"train": [[0, 60]], "val": [[59, 70]], "test": [[70, 100]]}}, "overlaps"),
        ({"parts": {"train": [[0, 60], [50, 60]], "val": [], "test": []}}, "overlaps"),
        ({"parts": {"train": [[20, 60], [0, 20]], "val": [], "test": []}}, "not in order"),
        ({"parts": {"train": [[0, 101]], "val": [], "test": []}}, "no range of 100 frames"),
        ({"parts": {"train": [[5, 5]], "val": [], "test": []}}, "no range"),
        ({"parts": {"train": [[-5, 5]], "val": [], "test": []}}, "no range"),
        ({"parts": {"train": [[0, 100]]}}, "fractions name"),
        ({"parts": {"train": [[0.5, 100]], "val": [], "test": []}}, "parts.train.0.0"),
        ({"trajectories": {"train": [0]}}, "trajectories name"),
        ({"id": "../block"}, "id"),
        ({"version": 2}, "version"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_files_that_are_no_splits_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    split = make_block_split(Index([10] * 10), settings())
    path = tmp_path / "split.json"
    path.write_text(json.dumps(edit(split, **changes)))
    with pytest.raises(ValidationError) as caught:
        read_split(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_fractions_must_add_up() -> None:
    with pytest.raises(ValidationError, match="adding up to 1"):
        make_random_split(Index([100]), (0.9, 0.2, 0.1))


def whole() -> tuple[Split, Index]:
    index = Index([10] * 10)
    return make_block_split(index, settings()), index


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"store_fingerprint": "sha256:new"}, "store fingerprint"),
        ({"n_frames": 101}, "number of frames"),
        ({"system": "other"}, "made for another store: system"),
    ],
)
def test_a_split_of_another_store_is_refused(change: dict[str, Any], message: str) -> None:
    split, index = whole()
    with pytest.raises(ValidationError, match=message):
        check_split(split.model_copy(update=change), index)


def test_missing_frames_trajectories_and_fractions_are_found() -> None:
    split, index = whole()
    assert find_problems(split, index) == []
    start, stop = split.parts["test"][0]

    def problems(**parts: Any) -> str:
        return "; ".join(
            find_problems(split.model_copy(update={"parts": {**split.parts, **parts}}), index)
        )

    shorter = ((start, stop - 1), *split.parts["test"][1:])
    assert f"frames {stop - 1} to {stop} belong to no part" in problems(test=shorter)
    assert "are not its trajectories" in problems(test=shorter)
    assert "overlaps" in problems(train=split.parts["test"])
    everything = problems(train=((0, 100),), val=(), test=())
    assert "holds no valid frame" in everything
    lost = split.model_copy(update={"trajectories": None})
    assert find_problems(lost, index) == ["whole trajectories are not listed"]
    strange = {**(split.trajectories or {}), "val": (99,)}
    assert any(
        "none of 10" in item
        for item in find_problems(split.model_copy(update={"trajectories": strange}), index)
    )


def test_a_part_of_damaged_frames_alone_is_found() -> None:
    split, index = whole()
    index.invalid = tuple(split.frames("val"))
    assert find_problems(split, index) == ["'val' holds no valid frame"]


def test_wrong_fractions_are_found() -> None:
    index = Index([10] * 1000)
    split = make_block_split(index, settings())
    rule = split.settings.model_copy(update={"fractions": {"train": 0.5, "val": 0.1, "test": 0.4}})
    found = find_problems(split.model_copy(update={"settings": rule}), index)
    assert [item.split(" of ")[0] for item in found] == [
        "'train' holds 0.600",
        "'test' holds 0.300",
    ]


def test_a_gap_that_is_too_narrow_or_too_wide_is_found() -> None:
    index = Index([20_000])
    split = make_block_split(index, settings("block", gap=10))
    assert find_problems(split, index) == []
    start, stop = split.parts["val"][1]
    for new, message in (
        ((start - 1, stop), "less than the gap of 10"),
        ((start + 1, stop), "belong to no part"),
    ):
        parts = {**split.parts, "val": (split.parts["val"][0], new, *split.parts["val"][2:])}
        found = find_problems(split.model_copy(update={"parts": parts}), index)
        assert len(found) == 1
        assert message in found[0]


def test_a_random_split_that_cannot_be_made_again_is_refused() -> None:
    index = Index([500])
    split = make_random_split(index, seed=2)
    other = split.model_copy(update={"seed": 3})
    with pytest.raises(IntegrityError, match="cannot be made again"):
        other.frames("train")
    with pytest.raises(ValidationError, match="permutation"):
        check_split(other, index)


@pytest.mark.parametrize("unit", ["trajectory", "block"])
def test_leaving_one_protein_out(tmp_path: Path, unit: str) -> None:
    index = Index([900] * 20)
    blocks = make_split("block-v1", index, settings(unit, gap=6))
    seen = make_split("lopo-lambda", index, settings(unit, gap=6))
    assert find_problems(seen, index) == []
    assert np.array_equal(seen.frames("val"), blocks.frames("val"))
    others = np.concatenate([blocks.frames("train"), blocks.frames("test")])
    assert np.array_equal(seen.frames("train"), np.sort(others))
    assert len(seen.frames("test")) == 0
    index.metadata.system, index.metadata.sequence = "lambda", registry.system("lambda").sequence
    unseen = make_split("lopo-lambda", index, settings(unit, gap=6))
    check_split(unseen, index)
    assert len(unseen.frames("train")) == len(unseen.frames("val")) == 0
    assert np.array_equal(unseen.frames("test"), np.arange(18_000))
    assert seen.id == unseen.id
    write_split(tmp_path / "split.json", unseen)
    assert read_split(tmp_path / "split.json") == unseen


@pytest.mark.parametrize("split_id", ["block-v1", "random-85-5-10"])
def test_the_embedded_splits_are_those_of_the_embedded_store(split_id: str) -> None:
    store = open_store("chignolin-sample")
    path = assets_home() / "splits" / "chignolin-sample" / f"{split_id}.json"
    split = read_split(path)
    check_split(split, store)
    assert split == make_split(split_id, store, registry.system("chignolin-sample").split)
    if split_id == "block-v1":
        assert split.settings.method == "trajectories"
        shares = [len(split.frames(name)) / store.n_frames for name in split.part_names]
        np.testing.assert_allclose(shares, [0.6, 0.1, 0.3], atol=0.01)
