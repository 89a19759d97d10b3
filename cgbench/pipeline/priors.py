"""A prior of several systems from their stores and splits, and what it says of itself."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cgbench import config
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import read_reference
from cgbench.priors import (
    PriorData,
    PriorFitSettings,
    PriorParameters,
    fit_transferable_prior,
    plot_transferable_prior,
    pooled_histograms,
)
from cgbench.priors.parameters import describe_types
from cgbench.priors.pooled import Balance
from cgbench.progress import Progress, silent
from cgbench.splits import check_split, read_split
from cgbench.store import find_reference, find_split, open_store
from cgbench.train.fitting import training_weights


@dataclass(frozen=True)
class FittedPrior:
    """A prior and where it was written.

    Attributes:
        prior: The prior.
        path: Its file; the figure is beside it.
        skipped: Why systems that were named have no part in it, by name.
    """

    prior: PriorParameters
    path: Path
    skipped: dict[str, str]


def prior_data(
    system: str, split_id: str, *, stride: int = 1, home: Path | None = None
) -> PriorData | str:
    """Return the training frames of a system with their weights, or why it has none.

    Args:
        system: A system with a local store.
        split_id: Split id.
        stride: Every so many frames of each trajectory.
        home: Data home.

    Raises:
        UsageError: Store, split, or the reference that weighs the frames is not at hand.
        ValidationError: The split is wrong, or no frame has weight.
    """
    store = open_store(system, home)
    split = read_split(find_split(system, split_id, home))
    check_split(split, store)
    if not len(split.frames("train", np.asarray(store.valid, dtype=bool))):
        return split.settings.excluded_because or "the left-out protein"
    bundle = None
    if split.trajectories is not None:
        bundle = read_reference(find_reference(system, home))
    frames, weights = training_weights(store, split, bundle, stride)
    return PriorData.from_store(store, split, frames, weights)


def fit_prior(
    systems: Sequence[str],
    out: Path,
    *,
    left_out: str | None = None,
    split: str | None = None,
    balance: Balance = "frames",
    stride: int = 1,
    settings: PriorFitSettings | None = None,
    home: Path | None = None,
    progress: Progress = silent,
) -> FittedPrior:
    """Fit one prior to the training parts of several systems; write ``prior.json``, ``prior.png``.

    Args:
        systems: Systems with local stores.
        out: Folder.
        left_out: Protein that the prior is fitted without; its data and everything like them are
            left out of the systems that are named.
        split: Split id; ``block-v1`` or ``lopo-<left out>`` if None.
        balance: Whether every frame counts alike, or every system.
        stride: Every so many frames of each trajectory.
        settings: How to fit.
        home: Data home.
        progress: Told of the systems done.

    Raises:
        UsageError: A store, split or reference is not at hand, or the split is of another protein.
        ValidationError: Nothing is left to fit to, or the frames do not determine a term.
    """
    expected = "block-v1" if left_out is None else f"lopo-{left_out}"
    chosen = split or expected
    if left_out is not None and chosen != expected:
        raise UsageError(
            f"prior without {left_out}: split {chosen} does not leave it out", expected=expected
        )
    settings = settings or PriorFitSettings()
    parts: list[PriorData] = []
    skipped: dict[str, str] = {}
    for system in systems:
        found = prior_data(system, chosen, stride=stride, home=home)
        if isinstance(found, PriorData):
            parts.append(found)
        else:
            skipped[system] = found
    if not parts:
        raise ValidationError(
            f"no system has training frames in {chosen}",
            found="; ".join(f"{system}: {reason}" for system, reason in skipped.items()),
        )
    if chosen.startswith("lopo-"):
        left_out = chosen.removeprefix("lopo-")
    pooled = pooled_histograms(parts, settings, balance=balance, progress=progress)
    prior = fit_transferable_prior(pooled, settings, left_out=left_out)
    buffer = io.BytesIO()
    plot_transferable_prior(prior, pooled, settings).savefig(buffer, format="png", dpi=120)
    config.write_model(out / "prior.json", prior)
    config.write_atomic(out / "prior.png", buffer.getvalue())
    return FittedPrior(prior, out / "prior.json", skipped)


def read_prior(path: Path) -> PriorParameters:
    """Return the prior in a ``prior.json``, the folder that holds it, or a ``model.pt``.

    Raises:
        UsageError: There is none.
        IntegrityError: The file is damaged or unsafe.
        ValidationError: It is no prior.
    """
    if path.suffix == ".pt":
        from cgbench.models import load_model

        prior = load_model(path).prior
        if prior is None:
            raise UsageError(f"{path}: this model has no prior")
        return prior
    return config.read_model(PriorParameters, path / "prior.json" if path.is_dir() else path)


def described_prior(prior: PriorParameters) -> dict[str, object]:
    """Return what a prior says of itself as plain data."""
    told: dict[str, object] = {
        "fingerprint": prior.fingerprint,
        "source": prior.source,
        "temperature": prior.temperature,
        "bonds": len(prior.bonds),
        "repulsion": len(prior.repulsion),
        "dihedral_sets": len(prior.dihedrals),
        "transferable": None,
    }
    record = prior.transferable
    if record is not None:
        told["transferable"] = record.model_dump(mode="json")
    return told


def prior_lines(prior: PriorParameters) -> list[str]:
    """Return what a prior says of itself, for the terminal."""
    lines = [
        f"prior: {prior.fingerprint}",
        f"source: {prior.source or 'not stated'}",
        f"terms: {len(prior.bonds)} bonds, {len(prior.repulsion)} bead types with repulsion, "
        f"{len(prior.dihedrals)} dihedral set(s)",
    ]
    record = prior.transferable
    if record is None:
        return lines
    if record.left_out is not None:
        lines.append(f"fitted without: {record.left_out}")
    lines += [
        f"fitted on: {one.system}, {one.n_frames:,} frames of {one.split_id or 'no split'}"
        for one in record.fitted_on
    ]
    if record.bonds_from_pool:
        lines.append(
            f"bonds of all pairs together, for want of data: {len(record.bonds_from_pool)}"
        )
    if record.beads_from_pool:
        names = ", ".join(describe_types(kind) for kind in record.beads_from_pool)
        lines.append(f"repulsion of all bead types together, for want of data: {names}")
    return lines
