"""How the canonical split of a data set is made: by the registry, its maker, or its own shape."""

from pathlib import Path
from typing import Final

import numpy as np

from cgbench import registry
from cgbench.config import data_home, read_model
from cgbench.registry import SplitSettings
from cgbench.splits.make import trajectory_bounds
from cgbench.splits.model import FrameIndex

#: With as many whole trajectories each part gets some; with fewer, trajectories are cut.
LEAST_TRAJECTORIES: Final = 10
#: The gap between blocks of a data set of which nothing is known, as a fraction of its frames.
GAP_FRACTION: Final = 1e-3


def settings_file(system: str, home: Path | None = None) -> Path:
    """Return where the split settings of a user's own system are kept."""
    return data_home(home) / "splits" / system / "settings.yaml"


def split_settings(store: FrameIndex, home: Path | None = None) -> SplitSettings:
    """Return how the canonical split of a store is made.

    For systems of the registry this is the registry's rule. For others it is what their recipe
    says, kept in the data home, and otherwise a rule with the registry's fractions and seed of the
    published systems: whole trajectories where there are at least ten, else blocks with a gap of
    a thousandth of the frames.

    Args:
        store: The data set.
        home: Data home.

    Raises:
        ValidationError: The settings in the data home are not valid.
    """
    system = store.metadata.system
    known = {entry.key: entry.split for entry in registry.systems()}
    if system in known:
        return known[system]
    own = settings_file(system, home)
    if own.is_file():
        return read_model(SplitSettings, own)
    bounds = trajectory_bounds(store)
    published = registry.systems()[0].split
    if len(bounds) >= LEAST_TRAJECTORIES:
        return published.model_copy(update={"unit": "trajectory", "gap_frames": 0})
    gap = max(1, int(np.ceil(GAP_FRACTION * store.n_frames)))
    return published.model_copy(update={"unit": "block", "gap_frames": gap})
