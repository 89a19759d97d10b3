"""How splits are made: whole trajectories, blocks with a gap, random frames."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.splits.identity import relation
from cgbench.splits.model import (
    FrameIndex,
    FrameRange,
    Split,
    SplitRule,
    permutation,
    permutation_sha256,
)

BLOCK_SPLIT = "block-v1"

#: A frame range, or the number of a trajectory.
Item = TypeVar("Item", FrameRange, int)

#: A block is this many gaps long, so that at most one frame in forty is lost between parts.
GAPS_PER_BLOCK = 40
#: ... and at least this many frames, unless the data set is too short for `LEAST_BLOCKS` of them.
BLOCK_FRAMES = 1000
LEAST_BLOCKS = 20


class _Piece(NamedTuple):
    """What is given to a part as a whole: a trajectory or a block of one."""

    start: int
    stop: int
    trajectory: int


def make_split(split_id: str, store: FrameIndex, settings: registry.SplitSettings) -> Split:
    """Make a split by its id in the registry.

    Args:
        split_id: ``block-v1`` (canonical), ``random-85-5-10`` (the paper's) or
            ``lopo-<system>`` (leaving one protein out).
        store: The data set.
        settings: The system's settings of the canonical split, the seed among them.

    Raises:
        UsageError: The registry has no split of that name.
        ValidationError: The data set is too small for it.
    """
    spec = registry.split(split_id)
    if spec.fractions is not None:
        shares = spec.fractions
        return make_random_split(
            store, (shares["train"], shares["val"], shares["test"]), settings.seed
        )
    blocks = make_block_split(store, settings)
    if spec.left_out is None:
        return blocks
    return make_leave_one_out_split(blocks, spec.left_out, store.metadata.sequence)


def make_block_split(store: FrameIndex, settings: registry.SplitSettings) -> Split:
    """Make the canonical split ``block-v1``.

    With unit ``trajectory``, whole trajectories go to the parts, in random order, equally from
    every kind of start where the store knows how its trajectories were started. With unit
    ``block`` (long trajectories, or bounds unknown), trajectories are cut into blocks, and
    ``gap_frames`` frames are left unused wherever two parts meet within a trajectory, so that
    no test frame has a training frame closer in time than that.

    Each trajectory or block goes to the part that lags most behind its fraction.

    Raises:
        ValidationError: There are fewer trajectories or blocks than parts, blocks are too short
            for the gap, or the trajectory bounds do not cover the frames in order.
    """
    bounds = trajectory_bounds(store)
    fractions = {"train": settings.train, "val": settings.val, "test": settings.test}
    pieces = [_Piece(int(start), int(stop), i) for i, (start, stop) in enumerate(bounds)]
    kinds = store.metadata.start_kind
    if settings.unit == "trajectory":
        if kinds is not None and len(kinds) != len(pieces):
            raise ValidationError(
                f"{store.metadata.system}: kinds of start and trajectories disagree",
                expected=f"{len(pieces)} kinds of start, one a trajectory",
                found=len(kinds),
            )
        rule = SplitRule(
            method="trajectories",
            fractions=fractions,
            stratified_by=None if kinds is None else "start_kind",
        )
        strata: Sequence[str] = kinds if kinds is not None else [""] * len(pieces)
        chosen = _distribute(store, pieces, strata, fractions, settings.seed)
        trajectories = {
            name: tuple(piece.trajectory for piece in given) for name, given in chosen.items()
        }
        parts = {name: _merge(given) for name, given in chosen.items()}
    else:
        block_frames = _block_frames(store, settings.gap_frames)
        rule = SplitRule(
            method="blocks",
            fractions=fractions,
            gap_frames=settings.gap_frames,
            block_frames=block_frames,
        )
        blocks = [block for piece in pieces for block in _cut(piece, block_frames)]
        chosen = _distribute(store, blocks, [""] * len(blocks), fractions, settings.seed)
        trajectories = None
        parts = _with_gaps(chosen, settings.gap_frames)
    return Split(
        id=BLOCK_SPLIT,
        system=store.metadata.system,
        store_fingerprint=store.fingerprint,
        n_frames=store.n_frames,
        seed=settings.seed,
        settings=rule,
        parts=parts,
        trajectories=trajectories,
    )


def make_random_split(
    store: FrameIndex, fractions: tuple[float, float, float] = (0.85, 0.05, 0.10), seed: int = 0
) -> Split:
    """Make a random split of single frames, as in the reference work.

    Neighbouring frames of one trajectory land in different parts, so errors on its test part
    are no evidence for other conformations; it is kept for comparison with published numbers.

    Raises:
        ValidationError: A fraction is out of range, or they do not add up to 1.
    """
    if abs(sum(fractions) - 1.0) > 1e-6 or min(fractions) < 0.0:
        raise ValidationError(
            "random split: wrong fractions",
            expected="three of them, adding up to 1",
            found=fractions,
        )
    shares = dict(zip(("train", "val", "test"), fractions, strict=True))
    percent = [f"{100 * fraction:.12g}".replace(".", "p") for fraction in fractions]
    order = permutation(store.n_frames, seed)
    return Split(
        id="random-" + "-".join(percent),
        system=store.metadata.system,
        store_fingerprint=store.fingerprint,
        n_frames=store.n_frames,
        seed=seed,
        settings=SplitRule(
            method="random-frames", fractions=shares, permutation_sha256=permutation_sha256(order)
        ),
        parts={},
    )


def make_leave_one_out_split(blocks: Split, left_out: str, sequence: str) -> Split:
    """Make a system's file of the split ``lopo-<left_out>`` from its canonical split.

    All frames of the left-out system are for testing, and so are those of variants of it and of
    data whose sequence is the same or too much like it (:func:`~cgbench.splits.relation`). Those of
    another system are for training, but for its validation part; its gaps stay unused.

    Args:
        blocks: The system's canonical split.
        left_out: Registry key of the left-out protein.
        sequence: The system's sequence.
    """
    trajectories = None
    found = relation(left_out, blocks.system, sequence)
    if found.excluded:
        fractions = {"train": 0.0, "val": 0.0, "test": 1.0}
        parts: dict[str, tuple[FrameRange, ...]] = {
            "train": (),
            "val": (),
            "test": ((0, blocks.n_frames),),
        }
    else:
        shares = blocks.settings.fractions
        fractions = {"train": 1.0 - shares["val"], "val": shares["val"], "test": 0.0}
        parts = _train_on_test(blocks.parts)
        if blocks.trajectories is not None:
            trajectories = _train_on_test(blocks.trajectories)
    return Split(
        id=f"lopo-{left_out}",
        system=blocks.system,
        store_fingerprint=blocks.store_fingerprint,
        n_frames=blocks.n_frames,
        seed=blocks.seed,
        settings=SplitRule(
            method="leave-one-out",
            fractions=fractions,
            gap_frames=blocks.settings.gap_frames,
            block_frames=blocks.settings.block_frames,
            stratified_by=blocks.settings.stratified_by,
            left_out=left_out,
            excluded_because=found.reason if found.excluded and found.kind != "itself" else None,
        ),
        parts=parts,
        trajectories=trajectories,
    )


def _train_on_test(parts: dict[str, tuple[Item, ...]]) -> dict[str, tuple[Item, ...]]:
    return {
        "train": tuple(sorted(parts["train"] + parts["test"])),
        "val": parts["val"],
        "test": (),
    }


def trajectory_bounds(store: FrameIndex) -> NDArray[np.int64]:
    """Return the bounds (n_trajectories, 2) of a store after checking them.

    Raises:
        ValidationError: They are empty, out of order or do not cover all frames.
    """
    bounds = np.asarray(store.trajectory_bounds, dtype=np.int64).reshape(-1, 2)
    covers = len(bounds) > 0 and bounds[0, 0] == 0 and bounds[-1, 1] == store.n_frames
    if not covers or (bounds[1:, 0] != bounds[:-1, 1]).any() or (np.diff(bounds) <= 0).any():
        raise ValidationError(
            f"{store.metadata.system}: trajectories do not cover the frames one after the other",
            expected=f"bounds from 0 to {store.n_frames}, none empty",
            found=bounds[:4].tolist(),
        )
    return bounds


def _block_frames(store: FrameIndex, gap: int) -> int:
    wanted = min(max(GAPS_PER_BLOCK * gap, BLOCK_FRAMES), store.n_frames // LEAST_BLOCKS)
    # Half a gap can be lost at either end of a block; at least half of it must remain.
    return max(wanted, 2 * gap, 1)


def _cut(piece: _Piece, block_frames: int) -> list[_Piece]:
    count = max(1, (piece.stop - piece.start) // block_frames)
    edges = np.linspace(piece.start, piece.stop, count + 1).astype(int).tolist()
    return [_Piece(start, stop, piece.trajectory) for start, stop in itertools.pairwise(edges)]


def _distribute(
    store: FrameIndex,
    pieces: list[_Piece],
    strata: Sequence[str],
    fractions: dict[str, float],
    seed: int,
) -> dict[str, list[_Piece]]:
    """Give each piece, stratum by stratum in random order, to the part that lags most behind."""
    wanted = [name for name, fraction in fractions.items() if fraction > 0.0]
    if len(pieces) < len(wanted):
        raise ValidationError(
            f"{store.metadata.system}: too few trajectories or blocks to split",
            expected=f"at least {len(wanted)}",
            found=len(pieces),
            fix="use blocks instead of whole trajectories, a smaller gap, or more data",
        )
    names = sorted(set(strata))
    codes = np.array([names.index(stratum) for stratum in strata])
    position = np.argsort(permutation(len(pieces), seed))
    given: dict[str, list[_Piece]] = {name: [] for name in fractions}
    lag = dict.fromkeys(fractions, 0.0)
    for index in np.lexsort((position, codes)):
        piece = pieces[index]
        length = piece.stop - piece.start
        for name, fraction in fractions.items():
            lag[name] += fraction * length
        chosen = max(wanted, key=lambda name: lag[name])
        lag[chosen] -= length
        given[chosen].append(piece)
    for name in wanted:
        if not given[name]:
            donor = max(wanted, key=lambda other: len(given[other]))
            least = min(given[donor], key=lambda piece: piece.stop - piece.start)
            given[donor].remove(least)
            given[name].append(least)
    return {name: sorted(taken) for name, taken in given.items()}


def _merge(pieces: list[_Piece]) -> tuple[FrameRange, ...]:
    merged: list[FrameRange] = []
    for piece in pieces:
        if merged and merged[-1][1] == piece.start:
            merged[-1] = (merged[-1][0], piece.stop)
        else:
            merged.append((piece.start, piece.stop))
    return tuple(merged)


def _with_gaps(chosen: dict[str, list[_Piece]], gap: int) -> dict[str, tuple[FrameRange, ...]]:
    """Take half a gap from each of two neighbouring blocks of different parts."""
    owner = sorted((piece, name) for name, given in chosen.items() for piece in given)
    trimmed: dict[str, list[_Piece]] = {name: [] for name in chosen}
    for i, (piece, name) in enumerate(owner):
        start, stop = piece.start, piece.stop
        if i > 0 and _meet(owner[i - 1], owner[i]):
            start += gap - gap // 2
        if i + 1 < len(owner) and _meet(owner[i], owner[i + 1]):
            stop -= gap // 2
        trimmed[name].append(_Piece(start, stop, piece.trajectory))
    return {name: _merge(given) for name, given in trimmed.items()}


def _meet(left: tuple[_Piece, str], right: tuple[_Piece, str]) -> bool:
    return left[1] != right[1] and left[0].trajectory == right[0].trajectory
