"""Several systems as one LightningDataModule: mixed batches, and a validation of each system."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning
import numpy as np

from cgbench.data.dataset import ProteinForcesDataset, resolve_split
from cgbench.data.mixed import MixedLoader
from cgbench.data.module import TrainerEpochs, check_identity, thinned
from cgbench.data.stream import Mode
from cgbench.data.weights import FrameWeights, ProteinWeights
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import PriorParameters
from cgbench.splits import Split
from cgbench.store import SystemStore, open_store


class _TrainerLoader(TrainerEpochs, MixedLoader):
    """Mixed batches for a trainer."""


class MultiProteinDataModule(lightning.LightningDataModule):
    """Loaders of the parts of several systems.

    Training batches mix the systems, in the shares and the order that ``MixedLoader`` describes.
    Validation and test have one loader for each system, so that each has its own loss: Lightning
    passes ``dataloader_idx``, a number in ``systems("val")`` or ``systems("test")``. All batches
    are ``MixedBatch``, those of one system with one part, and system 0 in it. A system without a
    frame in a part, as in splits that leave a protein out, is left out of that part.

    Args:
        stores: Names of systems with local stores, folders of stores, or open stores.
        split: Split id for all systems, or a split, file or id for each.
        force_map: Name of the force map, for all or by system (default: each store's default).
        prior: Prior whose forces are subtracted, for all or by system.
        batch_size: Frames per batch, of all systems together.
        seed: Seed of the order of training frames.
        protein_weights: Shares of the systems in training, see ``MixedLoader``.
        frame_weights: By system, how often each of its training frames comes.
        epoch_frames: Frames of a training epoch (default: those of all systems).
        drop_last: Whether an incomplete last training batch is left out.
        mode: ``auto``, ``memory`` or ``stream``.
        home: Data home to look names up in.
        threads: Blocks that are read at the same time for each streamed system.
        pin_memory: Whether training batches lie in page-locked memory.
        frame_stride: Every so many frames of each trajectory train, for all systems or by system
            (those that are not named have all); other parts have all frames.

    Raises:
        UsageError: No such store, split or force map, or a system is named twice.
        ValidationError: A split was made for another store, or weights are no weights.
    """

    def __init__(
        self,
        stores: Sequence[SystemStore | Path | str],
        split: Mapping[str, Split | Path | str] | str = "block-v1",
        *,
        force_map: Mapping[str, str] | str | None = None,
        prior: Mapping[str, PriorParameters] | PriorParameters | None = None,
        batch_size: int = 256,
        seed: int = 0,
        protein_weights: ProteinWeights = "frames",
        frame_weights: Mapping[str, FrameWeights] | None = None,
        epoch_frames: int | None = None,
        drop_last: bool = False,
        mode: Mode = "auto",
        home: Path | None = None,
        threads: int = 1,
        pin_memory: bool = False,
        frame_stride: Mapping[str, int] | int = 1,
    ) -> None:
        super().__init__()
        opened = [
            item if isinstance(item, SystemStore) else open_store(item, home) for item in stores
        ]
        self.stores = {store.metadata.system: store for store in opened}
        if not opened or len(self.stores) < len(opened):
            raise UsageError(
                "data module: systems",
                expected="one store for each of them",
                found=", ".join(store.metadata.system for store in opened) or "none",
            )
        chosen = split if isinstance(split, Mapping) else dict.fromkeys(self.stores, split)
        maps = (
            force_map if isinstance(force_map, Mapping) else dict.fromkeys(self.stores, force_map)
        )
        priors = prior if isinstance(prior, Mapping) else dict.fromkeys(self.stores, prior)
        for what, named in (("splits", chosen), ("force maps", maps), ("priors", priors)):
            if set(named) != set(self.stores):
                raise UsageError(
                    f"data module: {what} by system",
                    expected=", ".join(sorted(self.stores)),
                    found=", ".join(sorted(named)),
                )
        self.splits = {key: resolve_split(chosen[key], key, home) for key in self.stores}
        self.force_maps = {key: store.force_map(maps[key]) for key, store in self.stores.items()}
        self.priors = {key: priors[key] for key in self.stores}
        self.batch_size = batch_size
        self.seed = seed
        self.protein_weights = protein_weights
        self.frame_weights = frame_weights
        self.epoch_frames = epoch_frames
        self.drop_last = drop_last
        self.mode = mode
        self.threads = threads
        self.pin_memory = pin_memory
        self.frame_stride = {
            key: frame_stride if isinstance(frame_stride, int) else frame_stride.get(key, 1)
            for key in self.stores
        }
        self._datasets: dict[str, tuple[ProteinForcesDataset, ...]] = {}
        self._train: tuple[tuple[int, int], _TrainerLoader] | None = None
        # Now, so that a split of another store is told before a run begins; nothing is read yet.
        self.datasets("train")

    def datasets(self, part: str) -> tuple[ProteinForcesDataset, ...]:
        """Return the datasets of a part, one for each system that has frames in it.

        Raises:
            UsageError: There is no such part.
            ValidationError: No system has a frame in it.
        """
        if part not in self._datasets:
            self._datasets[part] = tuple(
                thinned(
                    ProteinForcesDataset(
                        store, part, self.splits[key], self.force_maps[key], self.priors[key]
                    ),
                    self.frame_stride[key] if part == "train" else 1,
                )
                for key, store in self.stores.items()
                if len(self.splits[key].frames(part, np.asarray(store.valid, dtype=bool)))
            )
        if not self._datasets[part]:
            raise ValidationError(f"data module: no system has a frame in part {part!r}")
        return self._datasets[part]

    def systems(self, part: str) -> tuple[str, ...]:
        """Return the systems of a part, in the order of its numbers in batches and of loaders."""
        return tuple(dataset.system for dataset in self.datasets(part))

    def _rank(self) -> tuple[int, int]:
        if self.trainer is None:
            return 0, 1
        return self.trainer.global_rank, self.trainer.world_size

    def train_dataloader(self) -> MixedLoader:
        """Return shuffled batches of all systems."""
        place = self._rank()
        if self._train is None or self._train[0] != place:
            loader = _TrainerLoader(
                self.datasets("train"),
                self.batch_size,
                protein_weights=self.protein_weights,
                frame_weights=self.frame_weights,
                epoch_frames=self.epoch_frames,
                seed=self.seed,
                drop_last=self.drop_last,
                mode=self.mode,
                rank=place[0],
                world_size=place[1],
                threads=self.threads,
                pin_memory=self.pin_memory,
            )
            self._train = place, loader
        self._train[1].trainer = self.trainer
        return self._train[1]

    def _each(self, part: str, rank: int = 0, world_size: int = 1) -> list[MixedLoader]:
        return [
            MixedLoader(
                (dataset,),
                self.batch_size,
                shuffle=False,
                mode=self.mode,
                rank=rank,
                world_size=world_size,
                threads=self.threads,
            )
            for dataset in self.datasets(part)
        ]

    def val_dataloader(self) -> list[MixedLoader]:
        """Return batches of the validation part, in order, for each of ``systems("val")``."""
        return self._each("val", *self._rank())

    def test_dataloader(self) -> list[MixedLoader]:
        """Return batches of the test part, in order, for each of ``systems("test")``."""
        return self._each("test", *self._rank())

    def validation_variance(self) -> dict[str, float]:
        """Return the mean square of the validation (delta) forces by system, (kcal/mol/Å)²."""
        found = {}
        for system, loader in zip(self.systems("val"), self._each("val"), strict=True):
            total, count = 0.0, 0
            for batch in loader:
                for part in batch.parts:
                    total += float(part.forces.double().square().sum())
                    count += part.forces.numel()
            found[system] = total / count
        return found

    def _identity(self) -> dict[str, Any]:
        strides = " ".join(map(str, self.frame_stride.values()))
        thin = {"frame_strides": strides} if max(self.frame_stride.values()) > 1 else {}
        return thin | {
            "systems": " ".join(self.stores),
            "store_fingerprints": " ".join(item.store_fingerprint for item in self.splits.values()),
            "split_fingerprints": " ".join(item.fingerprint for item in self.splits.values()),
            "force_maps": " ".join(self.force_maps.values()),
            "prior_fingerprints": " ".join(
                "none" if item is None else item.fingerprint for item in self.priors.values()
            ),
            "seed": self.seed,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: which data in which order."""
        return self._identity()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a run is resumed on the data that it was started with.

        Raises:
            ValidationError: Systems, stores, splits, force maps, priors or seed differ.
        """
        check_identity(", ".join(self.stores), self._identity(), state_dict)
