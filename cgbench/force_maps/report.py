"""How much noise each force map leaves: what a data card states."""

from collections.abc import Iterable

import numpy as np

from cgbench.config import Frozen
from cgbench.errors import UsageError
from cgbench.force_maps.maps import ForceMap
from cgbench.force_maps.statistics import ForceStatistics


class MapError(Frozen):
    """Mean square of the force under one map.

    Attributes:
        name: Name of the map.
        consistent: Whether its mean at fixed beads is the mean force.
        training: Mean square of a component on the training trajectories, (kcal/mol/Å)².
        held_out: The same on the held-out trajectories.
        held_out_beads: The same for each bead.
    """

    name: str
    consistent: bool
    training: float
    held_out: float
    held_out_beads: tuple[float, ...]


class MapReport(Frozen):
    """Mean squares of several maps on the same frames.

    The mean square is that of the mean force, the same for all consistent maps, plus the noise of
    the map. A map that is not consistent has another mean, so its mean square is no guide.

    Attributes:
        training_trajectories: Trajectories on which maps may have been fitted.
        held_out_trajectories: Trajectories on which none was.
        training_frames: Frames of the former.
        held_out_frames: Frames of the latter.
        maps: One entry for each map, in the order given.
        lowest_held_out: The consistent map of least mean square on held-out trajectories.
    """

    training_trajectories: tuple[int, ...]
    held_out_trajectories: tuple[int, ...]
    training_frames: int
    held_out_frames: int
    maps: tuple[MapError, ...]
    lowest_held_out: str | None


def map_report(
    maps: Iterable[ForceMap],
    statistics: ForceStatistics,
    training: Iterable[int],
    held_out: Iterable[int],
) -> MapReport:
    """Compare maps on training and held-out trajectories.

    Args:
        maps: Maps of the same atoms.
        statistics: Sums over all these trajectories.
        training: Numbers of the training trajectories.
        held_out: Numbers of the held-out trajectories.

    Raises:
        UsageError: The two overlap, one is empty, or a map was fitted on a held-out trajectory.
        ValidationError: A map is of other atoms.
    """
    chosen = tuple(maps)
    fitted_on, tested_on = statistics.select(training), statistics.select(held_out)
    overlap = np.intersect1d(fitted_on.trajectories, tested_on.trajectories)
    if len(overlap):
        raise UsageError(
            "force map report: trajectories both trained on and held out",
            found=overlap[:5].tolist(),
        )
    for force_map in chosen:
        leaked = np.intersect1d(
            force_map.fit.trajectories if force_map.fit else (), tested_on.trajectories
        )
        if len(leaked):
            raise UsageError(
                f"force map {force_map.name!r}: fitted on trajectories that are held out",
                found=leaked[:5].astype(int).tolist(),
                fix="fit the map on the training trajectories alone",
            )
    errors = []
    for force_map in chosen:
        beads = tested_on.mean_square(force_map)
        errors.append(
            MapError(
                name=force_map.name,
                consistent=force_map.consistent,
                training=float(fitted_on.mean_square(force_map).mean()),
                held_out=float(beads.mean()),
                held_out_beads=tuple(beads.tolist()),
            )
        )
    consistent = [error for error in errors if error.consistent]
    return MapReport(
        training_trajectories=tuple(fitted_on.trajectories.tolist()),
        held_out_trajectories=tuple(tested_on.trajectories.tolist()),
        training_frames=int(fitted_on.n_frames.sum()),
        held_out_frames=int(tested_on.n_frames.sum()),
        maps=tuple(errors),
        lowest_held_out=min(consistent, key=lambda e: e.held_out).name if consistent else None,
    )
