"""Weighted frames of several systems, and their histograms side by side."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.priors.fit import PriorFitSettings, bin_edges
from cgbench.priors.histograms import ChainHistograms, Floats, Histogram, chain_histograms
from cgbench.priors.parameters import PriorOrigin
from cgbench.progress import Progress, silent
from cgbench.splits import Split
from cgbench.store import SystemStore

Balance = Literal["frames", "systems"]

#: Frames that are read from a store at once: 8 MB at 80 beads.
_BLOCK_FRAMES: Final = 8192
#: Systems whose temperatures differ by more have no common free energy, K.
_SAME_TEMPERATURE: Final = 1e-3


@dataclass(frozen=True, eq=False)
class PriorData:
    """Weighted frames of one system, in blocks, and where they are from.

    Attributes:
        system: Registry key, or the name of a user's own system.
        bead_types: (n_beads,) bead types.
        temperature: In K.
        weights: (n_frames,) equilibrium weights, not necessarily normalised.
        blocks: Gives the coordinates in Å from the first frame on, as arrays (n, n_beads, 3).
        store_fingerprint: ``sha256:…`` of the store; None for frames of other origin.
        split_id: Split that the frames are a part of, if any.
        split_fingerprint: ``sha256:…`` of that split.
        part: Part of the split.
    """

    system: str
    bead_types: NDArray[np.int64]
    temperature: float
    weights: NDArray[np.float64]
    blocks: Callable[[], Iterable[NDArray[Any]]]
    store_fingerprint: str | None = None
    split_id: str | None = None
    split_fingerprint: str | None = None
    part: str = "train"

    @classmethod
    def from_arrays(
        cls,
        system: str,
        coordinates: NDArray[Any],
        weights: NDArray[Any],
        bead_types: NDArray[Any],
        temperature: float,
    ) -> "PriorData":
        """Return the data of frames (n_frames, n_beads, 3) in Å that are in memory."""
        return cls(
            system=system,
            bead_types=np.asarray(bead_types, dtype=np.int64),
            temperature=temperature,
            weights=np.asarray(weights, dtype=np.float64),
            blocks=lambda: (coordinates,),
        )

    @classmethod
    def from_store(
        cls,
        store: SystemStore,
        split: Split,
        frames: NDArray[np.int64],
        weights: NDArray[np.float64],
        part: str = "train",
    ) -> "PriorData":
        """Return frames of a store, which are read block by block when they are needed.

        Args:
            store: The store.
            split: The split that the frames are a part of.
            frames: (n_frames,) ascending frame numbers, all valid.
            weights: (n_frames,) equilibrium weights.
            part: Part of the split.
        """

        def blocks() -> Iterator[NDArray[Any]]:
            edges = np.flatnonzero(np.diff(frames // _BLOCK_FRAMES)) + 1
            for chosen in np.split(frames, edges):
                first = int(chosen[0])
                yield store.coordinates(first, int(chosen[-1]) + 1)[chosen - first]

        return cls(
            system=store.metadata.system,
            bead_types=np.asarray(store.bead_types, dtype=np.int64),
            temperature=store.metadata.temperature,
            weights=np.asarray(weights, dtype=np.float64),
            blocks=blocks,
            store_fingerprint=store.fingerprint,
            split_id=split.id,
            split_fingerprint=split.fingerprint,
            part=part,
        )

    @property
    def origin(self) -> PriorOrigin:
        """What the prior's record says of these data."""
        return PriorOrigin(
            system=self.system,
            sequence=registry.bead_vocabulary().sequence_of_types(self.bead_types),
            store_fingerprint=self.store_fingerprint,
            split_id=self.split_id,
            split_fingerprint=self.split_fingerprint,
            part=self.part,
            n_frames=int((self.weights > 0).sum()),
        )


@dataclass(frozen=True, eq=False)
class PooledHistograms:
    """Histograms of all systems: a row for each bond, distant pair and dihedral of each.

    Attributes:
        chains: The rows, system after system; pairs are numbers in ``types``.
        types: (n,) bead types of all systems, each by its representative (:func:`shared_type`).
        bonded: (n_bonds, 2) the types that each bond joins, the smaller first.
        temperature: In K.
        origins: Where the rows are from.
        balance: What every system counts by.
    """

    chains: ChainHistograms
    types: NDArray[np.int64]
    bonded: NDArray[np.int64]
    temperature: float
    origins: tuple[PriorOrigin, ...]
    balance: Balance


def shared_type(bead_type: int) -> int:
    """Return the smallest bead type whose prior terms are those of this one.

    Raises:
        ValidationError: The vocabulary has no such bead type.
    """
    names = registry.bead_vocabulary().psf_types
    if bead_type not in names:
        raise ValidationError(
            f"bead type {bead_type} is none of {registry.bead_vocabulary().name}",
            expected=", ".join(map(str, sorted(names))),
        )
    return min(number for number, name in names.items() if name == names[bead_type])


def pooled_histograms(
    parts: Sequence[PriorData],
    settings: PriorFitSettings,
    *,
    balance: Balance = "frames",
    progress: Progress = silent,
) -> PooledHistograms:
    """Return the histograms that a transferable prior is fitted to; frames are read part by part.

    Args:
        parts: The data of each system, in any order.
        settings: How the prior will be fitted.
        balance: ``frames``: every system counts by its number of frames, its weights being
            equilibrium weights among its own; ``systems``: every system counts alike.
        progress: Told of the systems done.

    Raises:
        UsageError: No part, or one system twice.
        ValidationError: Temperatures differ, or frames are unusable.
    """
    # Sums in floating point depend on their order.
    ordered = sorted(parts, key=lambda part: part.system)
    names = [part.system for part in ordered]
    if not names or len(set(names)) < len(names):
        raise UsageError(
            "transferable prior: systems",
            expected="one or more, each once",
            found=", ".join(names) or "none",
        )
    temperatures = [part.temperature for part in ordered]
    if not min(temperatures) > 0 or max(temperatures) - min(temperatures) > _SAME_TEMPERATURE:
        raise ValidationError(
            "transferable prior: systems without a common temperature above zero",
            expected="one temperature, K",
            found=", ".join(f"{part.system} {part.temperature:g}" for part in ordered),
        )
    chains = []
    for number, part in enumerate(ordered):
        progress(f"histograms for the prior ({part.system})", number, len(ordered))
        chains.append(_histograms(part, settings))
    progress("histograms for the prior", len(ordered), len(ordered))
    origins = tuple(part.origin for part in ordered)
    frames = np.array([origin.n_frames for origin in origins], dtype=np.float64)
    shares = frames / frames.sum() if balance == "frames" else np.full(len(frames), 1 / len(frames))
    types = [np.array([shared_type(int(item)) for item in part.bead_types]) for part in ordered]
    starts = np.cumsum([0, *(len(one) for one in types)])
    return PooledHistograms(
        chains=ChainHistograms(
            bonds=_stacked([one.bonds for one in chains], shares),
            distances=_stacked([one.distances for one in chains], shares),
            dihedrals=_stacked([one.dihedrals for one in chains], shares),
            pairs=np.concatenate(
                [one.pairs + start for one, start in zip(chains, starts[:-1], strict=True)]
            ),
        ),
        types=np.concatenate(types),
        bonded=np.concatenate(
            [np.sort(np.column_stack([one[:-1], one[1:]]), axis=1) for one in types]
        ),
        temperature=temperatures[0],
        origins=origins,
        balance=balance,
    )


def _histograms(part: PriorData, settings: PriorFitSettings) -> ChainHistograms:
    """Return the histograms of a part, its weights adding up to one."""
    weights, n_beads = part.weights, len(part.bead_types)
    usable = weights.ndim == 1 and np.isfinite(weights).all() and (weights >= 0).all()
    if not usable or not weights.sum() > 0:
        raise ValidationError(
            f"{part.system}: frame weights are not a distribution",
            expected="one for each frame, finite, not negative, not all zero",
        )
    weights = weights / weights.sum()
    bonds, distances, dihedrals = bin_edges(settings)
    total: ChainHistograms | None = None
    done = 0
    for block in part.blocks():
        if block.ndim != 3 or block.shape[1:] != (n_beads, 3):
            raise ValidationError(
                f"{part.system}: coordinates do not fit the bead types",
                expected=f"(n_frames, {n_beads}, 3)",
                found=block.shape,
            )
        own = weights[done : done + len(block)]
        done += len(block)
        if done > len(weights):
            continue
        used = own > 0
        if not np.isfinite(block[used]).all():
            raise ValidationError(
                f"{part.system}: coordinates hold values that are not finite numbers",
                fix="leave out the frames that the store marks as not valid",
            )
        found = chain_histograms(
            block[used],
            own[used],
            bond_edges=bonds,
            distance_edges=distances,
            dihedral_edges=dihedrals,
        )
        total = found if total is None else _added(total, found)
    if total is None or done != len(weights):
        raise ValidationError(
            f"{part.system}: there is not one weight for each frame",
            expected=f"{len(weights)} frames",
            found=done,
        )
    return total


def _added(first: ChainHistograms, second: ChainHistograms) -> ChainHistograms:
    def add(one: Histogram, other: Histogram) -> Histogram:
        return Histogram(one.edges, one.mass + other.mass, one.squared + other.squared)

    return ChainHistograms(
        add(first.bonds, second.bonds),
        add(first.distances, second.distances),
        add(first.dihedrals, second.dihedrals),
        first.pairs,
    )


def _stacked(histograms: Sequence[Histogram], shares: Floats) -> Histogram:
    """Return all rows below each other, the weights of each system scaled to its share."""
    return Histogram(
        histograms[0].edges,
        np.concatenate([one.mass * s for one, s in zip(histograms, shares, strict=True)]),
        np.concatenate([one.squared * s**2 for one, s in zip(histograms, shares, strict=True)]),
    )
