"""Whether a split keeps its promises about a store."""

import itertools

import numpy as np
import pydantic
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.splits.identity import relation
from cgbench.splits.make import trajectory_bounds
from cgbench.splits.model import FrameIndex, Split, permutation, permutation_sha256

#: How far the fraction of a part may be off beside what whole trajectories or blocks make of it.
FRACTION_TOLERANCE = 0.01
#: Giving each piece to the part that lags most leaves no part ahead by one longest piece or
#: behind by 4/3 of it (the lags add up to zero, and only the greatest of three is reduced); one
#: more may move to fill a part that would be empty.
PIECES_OFF = 7 / 3


def check_store(split: Split, store: FrameIndex) -> None:
    """Check that a split was made for exactly this store.

    Raises:
        ValidationError: System, fingerprint or number of frames differ.
    """
    facts = (
        ("system", split.system, store.metadata.system),
        ("store fingerprint", split.store_fingerprint, store.fingerprint),
        ("number of frames", split.n_frames, store.n_frames),
    )
    for name, expected, found in facts:
        if expected != found:
            raise ValidationError(
                f"split {split.id} of {split.system} was made for another store: {name}",
                expected=expected,
                found=found,
                fix=f"cgbench splits make {store.metadata.system} --split {split.id}",
            )


def check_split(split: Split, store: FrameIndex) -> None:
    """Check a split against its store.

    Parts are disjoint and inside the store; every frame belongs to a part or to a gap between
    two; parts within one trajectory are at least a gap apart; whole trajectories are whole;
    fractions are near those wanted; no part is without valid frames; the fingerprint is the
    store's; nothing like a left-out protein is trained on.

    Raises:
        ValidationError: One of these does not hold; all problems are listed.
    """
    check_store(split, store)
    problems = find_problems(split, store)
    if problems:
        raise ValidationError(
            f"split {split.id} of {split.system} is not valid", found="; ".join(problems[:10])
        )


def find_problems(split: Split, store: FrameIndex) -> list[str]:
    """Return what is wrong with a split of this store, one sentence each."""
    try:
        # A copy made with changed fields has not been validated yet.
        Split.model_validate(split.model_dump())
    except pydantic.ValidationError as error:
        return [str(item["msg"]) for item in error.errors(include_url=False)]
    bounds = trajectory_bounds(store)
    if split.settings.method == "random-frames":
        order = permutation(split.n_frames, split.seed)
        if permutation_sha256(order) != split.settings.permutation_sha256:
            return ["the permutation is not the one that the split was made with"]
        return _part_problems(split, store, bounds)
    return [
        *_left_out_problems(split, store),
        *_neighbour_problems(split, bounds),
        *_trajectory_problems(split, bounds),
        *_part_problems(split, store, bounds),
    ]


def _left_out_problems(split: Split, store: FrameIndex) -> list[str]:
    """Check that nothing like the left-out protein is trained on or chosen by."""
    left_out = split.settings.left_out
    if left_out is None:
        return []
    found = relation(left_out, split.system, store.metadata.sequence)
    used = [name for name in split.part_names if name != "test" and len(split.frames(name))]
    if found.excluded and used:
        return [f"{split.system} must not be in {', '.join(used)}: {found.reason}"]
    return []


def _neighbour_problems(split: Split, bounds: NDArray[np.int64]) -> list[str]:
    """Check what lies between each range and the next: nothing, or a gap of the right width."""
    problems = []
    gap = split.settings.gap_frames
    ranges = split.ordered_ranges()
    if not ranges:
        return ["no frame belongs to any part"]
    for frame, edge in ((0, ranges[0][0]), (ranges[-1][1], split.n_frames)):
        if frame != edge:
            problems.append(f"frames {frame} to {edge} belong to no part")
    for (_, stop, name), (start, _, following) in itertools.pairwise(ranges):
        between = start - stop
        last, first = np.searchsorted(bounds[:, 1], (stop - 1, start), side="right")
        together = bool(last == first)
        if between > (gap if together else 0):
            problems.append(f"frames {stop} to {start} belong to no part")
        if together and name != following and between < gap:
            problems.append(
                f"{name!r} ends at {stop} and {following!r} starts at {start} of the same "
                f"trajectory, less than the gap of {gap} frames apart"
            )
    return problems


def _trajectory_problems(split: Split, bounds: NDArray[np.int64]) -> list[str]:
    """Check that the listed trajectories are exactly the frames of their parts."""
    if split.trajectories is None:
        if split.settings.method == "trajectories":
            return ["whole trajectories are not listed"]
        return []
    problems = []
    for name, trajectories in split.trajectories.items():
        if any(not 0 <= number < len(bounds) for number in trajectories):
            problems.append(f"{name!r} lists trajectories that are none of {len(bounds)}")
            continue
        listed = [np.arange(*bounds[number], dtype=np.int64) for number in sorted(trajectories)]
        frames = np.concatenate(listed) if listed else np.zeros(0, dtype=np.int64)
        if not np.array_equal(frames, split.frames(name)):
            problems.append(f"the ranges of {name!r} are not its trajectories")
    return problems


def _part_problems(split: Split, store: FrameIndex, bounds: NDArray[np.int64]) -> list[str]:
    problems = []
    longest = {
        "trajectories": int(np.diff(bounds).max()),
        "leave-one-out": int(np.diff(bounds).max()),
        # Cutting a trajectory into equal blocks makes them less than twice as long as asked.
        "blocks": 2 * (split.settings.block_frames or 0),
        "random-frames": 1,
    }[split.settings.method]
    frames = {name: split.frames(name) for name in split.part_names}
    total = sum(len(part) for part in frames.values())
    tolerance = FRACTION_TOLERANCE + PIECES_OFF * longest / max(total, 1)
    for name, part in frames.items():
        wanted = split.settings.fractions[name]
        found = len(part) / max(total, 1)
        if abs(found - wanted) > tolerance:
            problems.append(f"{name!r} holds {found:.3f} of the frames instead of {wanted:.3f}")
        if wanted > 0.0 and not store.valid[part].any():
            problems.append(f"{name!r} holds no valid frame")
    return problems
