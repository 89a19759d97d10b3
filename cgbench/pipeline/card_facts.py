"""What a data card states about a store: measured from it by one command, kept as plain JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal

import numpy as np

from cgbench.config import Frozen, read_data, validate
from cgbench.errors import ValidationError
from cgbench.progress import Progress, silent
from cgbench.store import SystemStore

MEASURED_NAME: Final = "measured.json"

#: Frames whose forces are squared at once: 80 beads take 8 MB.
_FRAMES_AT_ONCE: Final = 8192


class HeldOutError(Frozen):
    """The lowest force error that any model has reached on frames it was not trained on.

    Attributes:
        value: Mean square error of a component in (kcal/mol/Å)².
        model: Which model.
        result: File of the result, by name.
    """

    value: float
    model: str
    result: str


class ForceMapFacts(Frozen):
    """One force map of a store.

    Attributes:
        consistent: Whether it is consistent with the mean force.
        mean_square: Mean square of a component over all valid frames, (kcal/mol/Å)².
        lowest_error: The lowest held-out error; null until a result states one. The noise that no
            model can predict cannot be read off the data: this is an upper bound of it.
    """

    consistent: Literal["yes", "no", "unknown"]
    mean_square: float
    lowest_error: HeldOutError | None


class StoreFacts(Frozen):
    """Facts about a store that only reading it can tell.

    Attributes:
        fingerprint: Fingerprint of the store.
        frame_interval: Time between frames in ps; null where it is not known.
        trajectories: Number of trajectories; null where they are not known.
        shortest: Frames of the shortest trajectory; null likewise.
        longest: Frames of the longest one; null likewise.
        start_kinds: How many trajectories started from what; null where it is not known.
        screening: Frames masked, by reason; a frame counts under every reason that applies.
    """

    format: Literal["cgbench-store-facts"] = "cgbench-store-facts"
    version: Literal[1] = 1
    system: str
    fingerprint: str
    frames: int
    valid: int
    frame_interval: float | None
    trajectories: int | None
    shortest: int | None
    longest: int | None
    start_kinds: dict[str, int] | None
    screening: dict[str, int]
    force_maps: dict[str, ForceMapFacts]


def measure(
    store: SystemStore, results: Sequence[Path] = (), progress: Progress = silent
) -> StoreFacts:
    """Read a store through and return what its card states.

    Args:
        store: A finished store.
        results: ``result.json`` or ``demo.json`` files with force errors on the test part.
        progress: Told after every block.

    Raises:
        ValidationError: A result holds no force error of the store's system.
        IntegrityError: The store is damaged.
    """
    metadata = store.metadata
    known = metadata.trajectories_known
    lengths = np.diff(store.trajectory_bounds, axis=1)
    kinds = metadata.start_kind
    lowest = _lowest_errors(metadata.system, results)
    return StoreFacts(
        system=metadata.system,
        fingerprint=store.fingerprint,
        frames=store.n_frames,
        valid=int(store.valid.sum()),
        frame_interval=metadata.frame_interval,
        trajectories=store.n_trajectories if known else None,
        shortest=int(lengths.min()) if known else None,
        longest=int(lengths.max()) if known else None,
        start_kinds=None
        if kinds is None
        else {kind: kinds.count(kind) for kind in sorted(set(kinds))},
        screening=store.manifest.screening,
        force_maps={
            name: ForceMapFacts(
                consistent=metadata.force_map_consistent[name],
                mean_square=round(_mean_square(store, name, progress), 4),
                lowest_error=lowest.get(name),
            )
            for name in metadata.force_maps
        },
    )


def _mean_square(store: SystemStore, force_map: str, progress: Progress) -> float:
    total = 0.0
    for start in range(0, store.n_frames, _FRAMES_AT_ONCE):
        stop = min(start + _FRAMES_AT_ONCE, store.n_frames)
        forces = store.forces(start, stop, force_map)[store.valid[start:stop]]
        total += float(np.square(forces, dtype=np.float64).sum())
        progress(f"forces of map {force_map}", stop, store.n_frames)
    return total / (int(store.valid.sum()) * store.n_beads * 3)


def _lowest_errors(system: str, results: Sequence[Path]) -> dict[str, HeldOutError]:
    lowest: dict[str, HeldOutError] = {}
    for path in results:
        found = _force_errors(system, path)
        if not found:
            raise ValidationError(
                f"{path}: holds no force error of {system}",
                expected="a result.json or demo.json with the metric force_mse",
            )
        for force_map, value, model in found:
            best = lowest.get(force_map)
            if best is None or value < best.value:
                lowest[force_map] = HeldOutError(
                    value=round(value, 4), model=model, result=path.name
                )
    return lowest


def _force_errors(system: str, path: Path) -> list[tuple[str, float, str]]:
    """Return force map, mean square error and model of every row of a file."""
    from cgbench.ingest.sample import SAMPLE
    from cgbench.pipeline.demo import DemoOutcome
    from cgbench.results import Result

    data = read_data(path)
    if isinstance(data, dict) and data.get("format") == Result.model_fields["format"].default:
        result = validate(Result, data, path)
        scored = result.system(system)
        rows = [] if scored is None else [(result.model.name, scored.metrics)]
    else:
        outcome = validate(DemoOutcome, data, path)
        rows = [(row.name, row.metrics) for row in outcome.rows] if system == SAMPLE else []
    errors = []
    for model, metrics in rows:
        metric = metrics.get("force_mse")
        if metric is not None and metric.value is not None and metric.note is not None:
            errors.append((metric.note.removeprefix("force map "), metric.value, model))
    return errors
