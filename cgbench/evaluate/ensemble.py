"""Ensemble: the only input of evaluation, whatever made the structures."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate.geometry import bad_frames, bond_lengths
from cgbench.units import ANGSTROM_PER_NANOMETRE

if TYPE_CHECKING:
    from cgbench.store import TrajectorySet

Array = NDArray[Any]

#: Frames that are looked at to tell nanometres from ångström.
_UNIT_FRAMES: Final = 1000
#: Frames whose bonds are looked at together.
_BLOCK_FRAMES: Final = 65_536


@dataclass(frozen=True)
class Ensemble:
    """Structures of one system, as trajectories or as samples without an order.

    Attributes:
        system: Registry key.
        trajectories: Coordinates (n_frames_i, n_beads, 3) float32 in Å.
        alive_until: (n_trajectories,) int64 first bad frame of each trajectory, its length where
            all are good. A frame is bad when it is not finite or a bond is outside the registry's
            limits. Samples have no order: their bad ones are moved to the end.
        frame_interval: Time between frames in ps; None for samples.
        weights: (n_frames_i,) float64 for each trajectory, or None.
        network_energy: (n_frames_i,) kcal/mol for each trajectory, or None.
        prior_energy: As ``network_energy``.
        name: What to call it in tables.
        notes: What a reader of its scores has to know of where it comes from.
    """

    system: str
    trajectories: list[NDArray[np.float32]]
    alive_until: NDArray[np.int64]
    frame_interval: float | None
    weights: list[NDArray[np.float64]] | None = None
    network_energy: list[NDArray[np.float32]] | None = None
    prior_energy: list[NDArray[np.float32]] | None = None
    name: str = "ensemble"
    notes: tuple[str, ...] = ()

    @classmethod
    def from_arrays(
        cls,
        system: str,
        trajectories: Sequence[Array],
        *,
        frame_interval: float | None = None,
        weights: Sequence[Array] | None = None,
        alive_until: Sequence[int] | Array | None = None,
        network_energy: Sequence[Array] | None = None,
        prior_energy: Sequence[Array] | None = None,
        name: str = "ensemble",
        notes: Sequence[str] = (),
        n_beads: int | None = None,
    ) -> "Ensemble":
        """Make an ensemble from arrays and find its bad frames.

        Arrays in single precision are not copied, memory-mapped ones included, but for those of
        samples that have bad frames between good ones.

        Args:
            system: Registry key.
            trajectories: Coordinates (n_frames_i, n_beads, 3) in Å.
            frame_interval: Time between frames in ps; None for samples without time order.
            weights: Weight of each frame, not negative; only for samples.
            alive_until: First bad frame of each trajectory as its maker says; one that is found
                earlier here wins.
            network_energy: Energy of the network at each frame in kcal/mol.
            prior_energy: Energy of the prior at each frame in kcal/mol.
            name: What to call it.
            notes: What a reader of its scores has to know.
            n_beads: Length of the chain; the registry's if None.

        Raises:
            ValidationError: Wrong shapes or bead count, numbers that disagree in length,
                coordinates that look like nanometres, or weights that cannot be used.
            UsageError: The system is unknown.
        """
        expected = registry.system(system).n_beads if n_beads is None else n_beads
        frames = [
            _checked(array, index, expected, name) for index, array in enumerate(trajectories)
        ]
        if frame_interval is not None and not 0.0 < frame_interval < np.inf:
            raise ValidationError(
                f"{name}: the frame interval cannot be used",
                expected="a positive number of ps",
                found=frame_interval,
            )
        lengths = [len(array) for array in frames]
        if weights is not None and frame_interval is not None:
            raise ValidationError(
                f"{name}: frames in time order are weighted by their own Markov state model",
                expected="weights only without a frame interval",
                found="both",
            )
        series: dict[str, list[Array] | None] = {
            "weights": _series(weights, lengths, np.float64, f"{name}: weights"),
            "network_energy": _series(
                network_energy, lengths, np.float32, f"{name}: network_energy"
            ),
            "prior_energy": _series(prior_energy, lengths, np.float32, f"{name}: prior_energy"),
        }
        if series["weights"] is not None:
            _check_weights(series["weights"], name)
        _check_unit(frames, name)
        stated = _alive_until(alive_until, lengths, name)
        bad = [_bad_frames(array) for array in frames]
        if frame_interval is None:
            # An index of the first bad frame has no meaning without an order, so make one.
            for mask, until in zip(bad, stated, strict=True):
                mask[until:] = True
            orders = [_last_bad(mask) for mask in bad]
            frames = _reordered(frames, orders)
            series = {
                key: None if values is None else _reordered(values, orders)
                for key, values in series.items()
            }
            until = np.array([int((~mask).sum()) for mask in bad], dtype=np.int64)
        else:
            first = [int(mask.argmax()) if mask.any() else len(mask) for mask in bad]
            until = np.minimum(stated, np.array(first, dtype=np.int64))
        return cls(
            system=system,
            trajectories=frames,
            alive_until=until,
            frame_interval=frame_interval,
            name=name,
            notes=tuple(notes),
            **series,
        )

    @classmethod
    def from_trajectory_set(
        cls,
        trajectories: "TrajectorySet",
        *,
        name: str = "ensemble",
        notes: Sequence[str] = (),
        n_beads: int | None = None,
    ) -> "Ensemble":
        """Make an ensemble from a stored set of trajectories.

        Frames of several temperatures are weighted to that of the set, and have no time order.

        Raises:
            ValidationError: As :meth:`from_arrays`, or frames cannot be weighted.
            SimulationError: Temperatures do not overlap.
            UsageError: The system is unknown.
        """
        if trajectories.temperatures is not None:
            from cgbench.evaluate.reweighting import exchanged_samples

            trajectories, told = exchanged_samples(trajectories, name)
            notes = (*notes, *told)
        return cls.from_arrays(
            trajectories.system,
            trajectories.coordinates,
            frame_interval=trajectories.frame_interval,
            weights=trajectories.weights,
            alive_until=trajectories.alive_until,
            network_energy=trajectories.network_energy,
            prior_energy=trajectories.prior_energy,
            name=name,
            notes=notes,
            n_beads=n_beads,
        )

    @property
    def time_ordered(self) -> bool:
        """Whether frames follow one another in time, so that kinetics has a meaning."""
        return self.frame_interval is not None

    @property
    def n_trajectories(self) -> int:
        """Number of trajectories."""
        return len(self.trajectories)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """(n_trajectories,) frames of each trajectory."""
        return np.array([len(array) for array in self.trajectories], dtype=np.int64)

    @property
    def n_frames(self) -> int:
        """Number of frames, those lost included."""
        return int(self.lengths.sum())

    def kept(self, drop_fraction: float) -> "Ensemble":
        """Return the ensemble without the first part of each time-ordered trajectory.

        Samples are returned as they are: they have no beginning.

        Args:
            drop_fraction: Share of each trajectory's frames to drop, rounded down.

        Raises:
            ValidationError: The share is not in [0, 1).
        """
        if not 0.0 <= drop_fraction < 1.0:
            raise ValidationError(
                "the dropped share is out of range", expected="[0, 1)", found=drop_fraction
            )
        if not self.time_ordered:
            return self
        # The small number keeps 0.1 · 10 frames at one in spite of binary fractions.
        dropped = np.floor(self.lengths * drop_fraction + 1e-9).astype(np.int64)

        def rest(series: list[Array] | None) -> list[Array] | None:
            if series is None:
                return None
            return [array[start:] for array, start in zip(series, dropped, strict=True)]

        return replace(
            self,
            trajectories=[
                array[start:] for array, start in zip(self.trajectories, dropped, strict=True)
            ],
            alive_until=np.maximum(self.alive_until - dropped, 0),
            weights=rest(self.weights),
            network_energy=rest(self.network_energy),
            prior_energy=rest(self.prior_energy),
        )


def _bad_frames(frames: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return which frames are bad, a block at a time: bonds of all would take as much memory."""
    bad = np.zeros(len(frames), dtype=np.bool_)
    for start in range(0, len(frames), _BLOCK_FRAMES):
        bad[start : start + _BLOCK_FRAMES] = bad_frames(frames[start : start + _BLOCK_FRAMES])
    return bad


def _last_bad(bad: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    """Return the order that puts bad frames last; None where they are last already."""
    order = np.argsort(bad, kind="stable")
    return None if (np.diff(order) == 1).all() else order


def _reordered(values: list[Array], orders: list[NDArray[np.intp] | None]) -> list[Array]:
    return [
        array if order is None else array[order]
        for array, order in zip(values, orders, strict=True)
    ]


def _checked(array: Array, index: int, n_beads: int, name: str) -> NDArray[np.float32]:
    values = np.asarray(array)
    if values.ndim != 3 or values.shape[1:] != (n_beads, 3):
        raise ValidationError(
            f"{name}: trajectory {index} has the wrong shape",
            expected=f"(n_frames, {n_beads}, 3)",
            found=values.shape,
        )
    if values.dtype.kind not in "fiu":
        raise ValidationError(
            f"{name}: trajectory {index} holds no numbers", expected="float32", found=values.dtype
        )
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(values, dtype=np.float32)


def _series(
    values: Sequence[Array] | None, lengths: list[int], dtype: type[np.floating[Any]], what: str
) -> list[Array] | None:
    if values is None:
        return None
    if len(values) != len(lengths):
        raise ValidationError(
            f"{what} do not fit the trajectories", expected=len(lengths), found=len(values)
        )
    arrays = [np.asarray(array, dtype=dtype) for array in values]
    for index, (array, length) in enumerate(zip(arrays, lengths, strict=True)):
        if array.shape != (length,):
            raise ValidationError(
                f"{what} of trajectory {index} have the wrong shape",
                expected=(length,),
                found=array.shape,
            )
    return arrays


def _check_weights(weights: list[Array], name: str) -> None:
    values = np.concatenate([np.zeros(0), *weights])
    if not (np.isfinite(values).all() and (values >= 0).all() and (values.sum() > 0)):
        raise ValidationError(
            f"{name}: the weights cannot be used",
            expected="finite, none negative, not all zero",
            found=f"{int((~np.isfinite(values)).sum())} not finite, "
            f"{int((values < 0).sum())} negative, sum {values.sum():g}",
        )


def _alive_until(
    stated: Sequence[int] | Array | None, lengths: list[int], name: str
) -> NDArray[np.int64]:
    full = np.array(lengths, dtype=np.int64)
    if stated is None:
        return full
    until = np.asarray(stated)
    if (
        until.shape != full.shape
        or until.dtype.kind not in "iu"
        or (until < 0).any()
        or (until > full).any()
    ):
        raise ValidationError(
            f"{name}: alive_until does not fit the trajectories",
            expected=f"{len(full)} whole numbers, each between 0 and its trajectory's length",
            found=f"shape {until.shape}, type {until.dtype}",
        )
    return until.astype(np.int64)


def _check_unit(trajectories: list[NDArray[np.float32]], name: str) -> None:
    """Refuse coordinates in nanometres, which would otherwise look like a model that failed."""
    constants = registry.constants()
    sample = [array[:: max(1, len(array) // _UNIT_FRAMES)] for array in trajectories[:1]]
    if not sample or not len(sample[0]) or sample[0].shape[1] < 2:
        return
    bonds = bond_lengths(sample[0])
    finite = bonds[np.isfinite(bonds)]
    if not len(finite):
        return
    middle = float(np.median(finite))
    lowest = constants.bond_minimum / ANGSTROM_PER_NANOMETRE
    highest = constants.bond_maximum / ANGSTROM_PER_NANOMETRE
    if lowest <= middle <= highest:
        raise ValidationError(
            f"{name}: the coordinates look like nanometres",
            expected=f"bonds of {constants.bond_minimum} to {constants.bond_maximum} Å",
            found=f"a median bond of {middle:.2f}",
            fix="multiply the coordinates by 10",
        )
