"""Parts of an ensemble: a stored group, one of several arrays, and all of them together."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cgbench.errors import ValidationError
from cgbench.evaluate.ensemble_arrays import NpzEnsemble, npy_shape
from cgbench.evaluate.raw_ensemble import Array, RawEnsemble
from cgbench.evaluate.sequence_match import Chain, match_system, sequence_of


def stored_ensemble(path: Path, system: str) -> RawEnsemble:
    """Read the group of a system in a ``trajectories.zarr``.

    Raises:
        UsageError: No such file or system.
        IntegrityError: Damaged, of another version, or harmful.
        ValidationError: Arrays disagree, or the sequence is another.
    """
    from cgbench.evaluate.reweighting import raw_ensemble
    from cgbench.store import read_trajectories

    stored = read_trajectories(path, system)
    expected = sequence_of(system)
    if stored.sequence != expected:
        chain = Chain("the group", stored.sequence, np.arange(len(stored.sequence)))
        match_system([chain], path / system, system)
    return raw_ensemble(stored)


def beads_and_sequence(path: Path) -> tuple[int, str | None]:
    """Return the number of beads of an npz or npy file, and its sequence where it states one."""
    if path.suffix.lower() == ".npz":
        file = NpzEnsemble(path)
        return file.n_beads, file.sequence
    return npy_shape(path)[-2], None


def joined(parts: Sequence[RawEnsemble], paths: Sequence[Path]) -> RawEnsemble:
    """Return several files as one ensemble; each is one trajectory or several."""
    if len(parts) == 1:
        return parts[0]
    for what in ("weights", "temperatures", "energies", "frame_interval"):
        given = [getattr(part, what) is not None for part in parts]
        if any(given) and not all(given):
            raise ValidationError(
                f"{paths[given.index(False)]}: no {what.replace('_', ' ')}, which other files have",
                expected=f"{what} in every file or in none",
                found=f"in {sum(given)} of {len(given)}",
            )
    intervals = {part.frame_interval for part in parts}
    if len(intervals) > 1:
        raise ValidationError(
            f"{paths[0].parent}: files of different frame intervals",
            found=sorted(map(str, intervals)),
        )

    def all_of(what: str) -> list[Array] | None:
        if getattr(parts[0], what) is None:
            return None
        return [one for part in parts for one in getattr(part, what)]

    return RawEnsemble(
        trajectories=all_of("trajectories") or [],
        frame_interval=parts[0].frame_interval,
        weights=all_of("weights"),
        temperatures=all_of("temperatures"),
        energies=all_of("energies"),
        notes=list(dict.fromkeys(note for part in parts for note in part.notes)),
    )
