"""Where trajectories begin in an array of frames, found by comparing it with their files.

Published arrays have all trajectories one after the other, without saying where one ends and at
what stride they were taken. Where the trajectories themselves are at hand, each frame is found
among theirs by distances between beads, which no translation or rotation changes, and which both
know to the rounding of their files.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.ingest.fingerprints import Counts, FrameSearch, agree, choose_pairs, fingerprints
from cgbench.progress import Progress, silent
from cgbench.store import FrameSource, IntArray

#: Fraction of the frames that must be found, each in one place only.
LEAST_MATCHED: Final = 0.999
#: Frames in a row within a trajectory that may differ from its file.
_LONGEST_HOLE: Final = 32
#: After so many segments, frames that hardly follow each other are not in the trajectories' order.
_ENOUGH_SEGMENTS: Final = 2000
_LEAST_MEAN_LENGTH: Final = 2.0


class TimedSource(FrameSource, Protocol):
    """Trajectories that say how far apart their frames are in time."""

    @property
    def frame_interval(self) -> float | None:
        """Time between frames in ps, or None where the files state none."""


@dataclass(frozen=True)
class Boundaries:
    """Trajectories of an array of frames, as found among files.

    Attributes:
        lengths: Frames of each stretch (n_stretches,) that belongs to one trajectory, in order.
        trajectories: Which trajectory each is of (n_stretches,); −1 for a frame that was not
            found, which counts as a stretch of its own.
        first_frames: Where in it each begins (n_stretches,); −1 where it was not found.
        stride: Every so many frames of the trajectories were taken.
        frame_interval: Time between frames of the array in ps; None where no file states times.
        fraction: Fraction of the frames that were found.
        n_unmatched: Frames that were not.
        n_repeated: Frames of trajectories that the array holds more than once.
    """

    lengths: IntArray
    trajectories: IntArray
    first_frames: IntArray
    stride: int
    frame_interval: float | None
    fraction: float
    n_unmatched: int
    n_repeated: int

    def index(self) -> dict[str, Any]:
        """Return what ``trajectories.json`` beside raw arrays says of them, as plain data."""
        return {
            "lengths": self.lengths.tolist(),
            "frame_interval_ps": self.frame_interval,
            "stride": self.stride,
            "boundaries_source": "archive",
            "matched_fraction": self.fraction,
        }


@dataclass(frozen=True)
class _Run:
    """Frames of an array from ``start`` on that are those of a trajectory from ``found`` on."""

    start: int
    length: int
    found: int
    stride: int


def match_trajectories(
    source: FrameSource, trajectories: TimedSource, progress: Progress = silent
) -> Boundaries:
    """Find every frame of an array in trajectories, and so the bounds, stride and frame interval.

    Both are read once. About 24 bytes a frame of each are kept, and 4 more of each of the
    trajectories: 1.5 GB are enough for 20 million frames of each.

    Args:
        source: The array set.
        trajectories: The trajectories, for example a :class:`TrajectorySource`.
        progress: Called with frames done.

    Returns:
        Bounds, stride and frame interval.

    Raises:
        ValidationError: Fewer than 99.9 % of the frames are found, more than 0.1 % are found in
            several places, strides differ, or the frames are not in the order of trajectories.
    """
    if trajectories.n_beads != source.n_beads:
        raise ValidationError(
            "array and trajectories have different numbers of beads",
            expected=source.n_beads,
            found=trajectories.n_beads,
        )
    lengths = trajectories.trajectory_lengths
    if lengths is None:
        raise ValidationError("trajectories without boundaries cannot give any")
    pairs = choose_pairs(source.n_beads)
    known = fingerprints(trajectories, pairs, "read trajectories", progress)
    wanted = fingerprints(source, pairs, "read arrays", progress)
    match = _Match(wanted, known, lengths)
    match.run(progress)
    return match.result(trajectories.frame_interval)


class _Match:
    """The search: from one stretch of frames that follow each other to the next."""

    def __init__(self, wanted: Counts, known: Counts, lengths: IntArray) -> None:
        self.wanted = wanted
        self.known = known
        self.ends = np.cumsum(lengths)
        self.starts = self.ends - lengths
        self.search = FrameSearch(known)
        self.stride: int | None = None
        self.runs: list[_Run] = []
        self.matched = np.zeros(len(wanted), dtype=np.bool_)
        self.used = np.zeros(len(known), dtype=np.bool_)
        self.n_ambiguous = 0
        self.n_repeated = 0
        self.n_unmatched = 0

    def run(self, progress: Progress) -> None:
        """Go through the array.

        Raises:
            ValidationError: It cannot be matched.
        """
        frame = 0
        n_frames = len(self.wanted)
        while frame < n_frames:
            progress("match frames", frame, n_frames)
            run = self._next(frame)
            if run is None:
                self.n_unmatched += 1
                frame += 1
            else:
                self._take(run)
                frame = run.start + run.length
            self._check()
        progress("match frames", n_frames, n_frames)

    def _next(self, frame: int) -> _Run | None:
        """Return the longest run that begins with a frame, or None where it is nowhere."""
        places = self.search.find(self.wanted[frame])
        runs = [run for place in places for run in self._runs_from(frame, int(place))]
        if not runs:
            return None
        best = max(run.length for run in runs)
        equal = [run for run in runs if run.length == best]
        distinct = [run for run in equal if not self._same(run, equal[0])]
        if distinct:
            self.n_ambiguous += best
        return next((run for run in equal if not self.used[run.found]), equal[0])

    def _runs_from(self, frame: int, place: int) -> list[_Run]:
        """Return the runs that begin with an array's frame at a place among the known ones."""
        if self.stride is not None:
            run = self._extended(frame, place, self.stride)
            if run.length > 1 or not self._room(frame, place, self.stride):
                return [run]
        runs = [self._extended(frame, place, stride) for stride in self._strides(frame, place)]
        # Two frames in a row can be a coincidence of what was stored twice, three cannot.
        runs = [run for run in runs if run.length > 2 or self.stride is None]
        return runs or [_Run(frame, 1, place, self.stride or 0)]

    def _strides(self, frame: int, place: int) -> list[int]:
        """Return how far after a place in the same trajectory the next frame of the array is."""
        if frame + 1 >= len(self.wanted):
            return []
        following = self.search.find(self.wanted[frame + 1])
        end = self.ends[self._trajectory(place)]
        return [int(one) - place for one in following if place < one < end]

    def _room(self, frame: int, place: int, stride: int) -> bool:
        end = self.ends[self._trajectory(place)]
        return frame + 1 < len(self.wanted) and place + stride < end

    def _extended(self, frame: int, place: int, stride: int) -> _Run:
        """Follow a trajectory from a place on as long as the array does, over short holes."""
        end = int(self.ends[self._trajectory(place)])
        longest = min(len(self.wanted) - frame, -(-(end - place) // stride))
        same = agree(
            self.wanted[frame : frame + longest],
            self.known[place : place + (longest - 1) * stride + 1 : stride],
        )
        hits = np.flatnonzero(same)
        breaks = np.flatnonzero(np.diff(hits) > _LONGEST_HOLE + 1)
        last = int(hits[breaks[0]] if len(breaks) else hits[-1])
        return _Run(frame, last + 1, place, stride)

    def _take(self, run: _Run) -> None:
        if run.length > 1:
            if self.stride is None:
                self.stride = run.stride
            elif run.stride != self.stride:
                raise ValidationError(
                    "trajectories were taken at different strides",
                    expected=f"every {self.stride} frames, as up to frame {run.start}",
                    found=f"every {run.stride} from there on",
                )
        places = run.found + np.arange(run.length) * max(run.stride, 1)
        inside = slice(run.start, run.start + run.length)
        same = agree(self.wanted[inside], self.known[places])
        self.matched[inside] = same
        self.n_unmatched += int((~same).sum())
        self.n_repeated += int(self.used[places].sum())
        self.used[places] = True
        self.runs.append(run)

    def _same(self, first: _Run, second: _Run) -> bool:
        """Return whether two runs are the same, or of the same trajectory stored twice."""
        if first == second:
            return True
        one, two = self._trajectory(first.found), self._trajectory(second.found)
        spans = [slice(int(self.starts[t]), int(self.ends[t])) for t in (one, two)]
        return (
            one != two
            and first.stride == second.stride
            and first.found - spans[0].start == second.found - spans[1].start
            and np.array_equal(self.known[spans[0]], self.known[spans[1]])
        )

    def _trajectory(self, place: int) -> int:
        return int(np.searchsorted(self.ends, place, side="right"))

    def _check(self) -> None:
        """Stop as soon as it is certain that the array cannot be matched."""
        n_frames = len(self.wanted)
        allowed = (1.0 - LEAST_MATCHED) * n_frames + 1e-9
        done = sum((self.runs[-1].start, self.runs[-1].length)) if self.runs else 0
        done = max(done, self.n_unmatched)
        if self.n_unmatched > allowed:
            raise ValidationError(
                "the array's frames are not those of the trajectories",
                expected=f"at least {100 * LEAST_MATCHED:g} % of {n_frames} frames among "
                f"{len(self.known)} of {len(self.ends)} trajectories",
                found=f"{int(self.matched.sum())} frames found, {self.n_unmatched} not found in "
                f"the first {done}",
                fix="check that these are all trajectories of the same protein, in Å",
            )
        if self.n_ambiguous > allowed:
            raise ValidationError(
                "the array's frames occur in several places of the trajectories",
                expected=f"at most {int(allowed)} of {n_frames} frames",
                found=f"{self.n_ambiguous} of the first {done}",
                fix="leave out trajectories that are parts of others",
            )
        if len(self.runs) >= _ENOUGH_SEGMENTS and done < _LEAST_MEAN_LENGTH * len(self.runs):
            raise ValidationError(
                "the array's frames are not in the order of the trajectories",
                expected="frames that follow each other",
                found=f"{len(self.runs)} stretches in the first {done} frames",
            )

    def result(self, interval: float | None) -> Boundaries:
        """Return what was found."""
        stretches: list[tuple[int, int, int]] = []
        frame = 0
        for run in self.runs:
            stretches += [(1, -1, -1)] * (run.start - frame)
            trajectory = self._trajectory(run.found)
            first = run.found - int(self.starts[trajectory])
            stretches.append((run.length, trajectory, first))
            frame = run.start + run.length
        stretches += [(1, -1, -1)] * (len(self.wanted) - frame)
        columns = _columns(stretches)
        stride = self.stride or 1
        known = interval if self.stride is not None else None
        return Boundaries(
            lengths=columns[0],
            trajectories=columns[1],
            first_frames=columns[2],
            stride=stride,
            frame_interval=None if known is None else known * stride,
            fraction=1.0 - self.n_unmatched / len(self.wanted),
            n_unmatched=self.n_unmatched,
            n_repeated=self.n_repeated,
        )


def _columns(rows: Sequence[tuple[int, int, int]]) -> NDArray[np.int64]:
    return np.array(rows, dtype=np.int64).reshape(-1, 3).T
