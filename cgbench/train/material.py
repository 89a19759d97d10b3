"""What a run is trained on: stores, splits and references, checked before anything is written."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cgbench import config, registry
from cgbench.data import ForcesDataModule, MultiProteinDataModule
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import ReferenceBundle, read_reference
from cgbench.models import TrainedOn
from cgbench.priors import PriorParameters
from cgbench.splits import Split, check_store, read_split, relation
from cgbench.store import SystemStore, find_reference, find_split, open_store
from cgbench.train.config import TrainingConfig


@dataclass(frozen=True, eq=False)
class SystemMaterial:
    """The data of one system.

    Attributes:
        store: Its frames.
        split: Which of them train.
        bundle: The reference that weighs the frames; None where the split is not of whole
            trajectories, and all frames weigh the same.
        stride: Every so many frames of each trajectory train.
    """

    store: SystemStore
    split: Split
    bundle: ReferenceBundle | None
    stride: int

    @property
    def system(self) -> str:
        """Registry key."""
        return self.store.metadata.system

    @property
    def trains(self) -> bool:
        """Whether the split has training frames of it."""
        return bool(len(self.split.frames("train", np.asarray(self.store.valid, dtype=bool))))


@dataclass(frozen=True, eq=False)
class Material:
    """The data of a run, in the order of its configuration."""

    settings: TrainingConfig
    systems: tuple[SystemMaterial, ...]

    @property
    def training(self) -> tuple[SystemMaterial, ...]:
        """Those systems whose splits have training frames."""
        return tuple(item for item in self.systems if item.trains)

    @property
    def together(self) -> bool:
        """Whether batches are mixed and the prior is common to all sequences."""
        return len(self.systems) > 1 or self.settings.left_out is not None

    @property
    def fingerprint(self) -> str:
        """Hash over the settings, the stores and the splits."""
        identity: dict[str, Any] = {"config": self.settings.training_identity()}
        if len(self.systems) == 1:
            (only,) = self.systems
            identity |= {"store": only.store.fingerprint, "split": only.split.fingerprint}
        else:
            identity |= {
                "store": {item.system: item.store.fingerprint for item in self.systems},
                "split": {item.system: item.split.fingerprint for item in self.systems},
            }
        return config.fingerprint(identity)

    @property
    def force_map(self) -> str | None:
        """The force map, or those of all stores if they differ."""
        names = {
            self.settings.force_map or item.store.metadata.default_force_map
            for item in self.training
        }
        return " + ".join(sorted(name for name in names if name is not None)) or None

    def trained_on(self) -> tuple[TrainedOn, ...]:
        """Return what a model says of the data that it was trained on."""
        return tuple(trained_on(item.store, item.split) for item in self.training)

    def data_module(self, prior: PriorParameters) -> ForcesDataModule | MultiProteinDataModule:
        """Return the loaders, with forces of the prior subtracted."""
        settings = self.settings
        pinned = settings.accelerator not in ("cpu", "auto")
        if not self.together:
            (only,) = self.systems
            return ForcesDataModule(
                only.store,
                split=only.split,
                force_map=settings.force_map,
                prior=prior,
                batch_size=settings.optimiser.batch_size,
                seed=settings.seed,
                frame_stride=only.stride,
                pin_memory=pinned,
            )
        return MultiProteinDataModule(
            [item.store for item in self.systems],
            {item.system: item.split for item in self.systems},
            force_map=settings.force_map,
            prior=prior,
            batch_size=settings.optimiser.batch_size,
            seed=settings.seed,
            protein_weights="uniform" if settings.balance == "systems" else "frames",
            frame_stride={item.system: item.stride for item in self.systems},
            pin_memory=pinned,
        )


def trained_on(store: SystemStore, split: Split) -> TrainedOn:
    """Return what a model says of one system that it was trained on."""
    return TrainedOn(
        system=store.metadata.system,
        split_id=split.id,
        split_fingerprint=split.fingerprint,
        store_fingerprint=store.fingerprint,
        part="train",
    )


def open_material(settings: TrainingConfig, home: Path | None = None) -> Material:
    """Open and check everything that a run needs.

    Raises:
        UsageError: A system, split, force map or reference is not at hand.
        ValidationError: A split is of another store or its parts overlap, a residue is not in the
            vocabulary or not in the network's, two systems are the same data, the left-out protein
            is among them, or no system has training frames.
    """
    found: list[SystemMaterial] = []
    missing: list[UsageError] = []
    for system in settings.systems:
        try:
            found.append(_open(settings, system, home))
        except UsageError as error:
            missing.append(error)
    if len(missing) == 1:
        raise missing[0]
    if missing:
        raise UsageError(
            f"{settings.name}: of {len(settings.systems)} systems {len(missing)} cannot be trained",
            found="; ".join(dict.fromkeys(one.what for one in missing)),
            fix="; ".join(dict.fromkeys(one.fix for one in missing if one.fix)) or None,
        )
    material = Material(settings, tuple(found))
    known: dict[str, str] = {}
    for name, item in zip(settings.systems, material.systems, strict=True):
        other = known.setdefault(item.store.fingerprint, name)
        if other != name:
            raise ValidationError(f"{settings.name}: {other} and {name} are the same data")
    if not material.training:
        raise ValidationError(
            f"{settings.name}: split {settings.split} has no training frame of any system",
            found=", ".join(settings.systems),
        )
    return material


def _open(settings: TrainingConfig, system: str, home: Path | None) -> SystemMaterial:
    store = open_store(system, home)
    store.force_map(settings.force_map)
    check_bead_types(settings, store)
    split = read_split(find_split(system, settings.split, home))
    check_store(split, store)
    _check_left_out(settings, store, split)
    bundle = None
    if split.trajectories is not None:
        bundle = read_reference(find_reference(system, home))
    return SystemMaterial(store, split, bundle, settings.stride_of(system))


def check_bead_types(settings: TrainingConfig, store: SystemStore) -> None:
    """Check that every bead of a store is a residue of the vocabulary and of the network.

    Raises:
        ValidationError: One is not, or types and sequence disagree.
    """
    vocabulary = registry.bead_vocabulary()
    found = np.asarray(store.bead_types, dtype=np.int64)
    known = {bead.type for bead in vocabulary.beads}
    unknown = sorted(set(found.tolist()) - known)
    if unknown:
        raise ValidationError(
            f"{store.path}: bead types that are no residue of the vocabulary {vocabulary.name}",
            expected=", ".join(map(str, sorted(known))),
            found=", ".join(map(str, unknown)),
            fix="preprocess the system again: models compare by this numbering alone",
        )
    letters = vocabulary.sequence_of_types(found)
    expected = np.asarray(vocabulary.types(store.metadata.sequence), dtype=np.int64)
    if not np.array_equal(found, expected):
        raise ValidationError(
            f"{store.path}: bead types in another numbering than {vocabulary.name}",
            expected=f"those of its sequence, {store.metadata.sequence}",
            found=f"{letters} by its bead types",
            fix="preprocess the system again",
        )
    limit = settings.network.max_bead_type
    if int(found.max()) >= limit:
        raise ValidationError(
            f"{settings.name}: residues of {store.metadata.system} that the network does not have",
            expected=f"network.max_bead_type above {int(found.max())}",
            found=limit,
        )


def _check_left_out(settings: TrainingConfig, store: SystemStore, split: Split) -> None:
    """Check that nothing of the left-out protein trains."""
    if settings.left_out is None:
        return
    if split.settings.left_out != settings.left_out:
        raise ValidationError(
            f"{settings.name}: split {split.id} of {store.metadata.system} does not leave out "
            f"{settings.left_out}",
            expected=settings.left_out,
            found=split.settings.left_out or "none",
            fix=f"leave split away, or set it to lopo-{settings.left_out}",
        )
    if not len(split.frames("train")):
        return
    try:
        found = relation(settings.left_out, store.metadata.system, store.metadata.sequence)
    except UsageError:
        # A protein of the user's own has no entry: its name is all that there is to compare.
        return
    if found.excluded:
        raise ValidationError(
            f"{settings.name}: {store.metadata.system} is trained on and must be left out with "
            f"{settings.left_out}",
            found=found.reason,
            fix=f"cgbench splits make {store.metadata.system} --split lopo-{settings.left_out}",
        )
