"""The parts of a split as a LightningDataModule."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
from numpy.typing import NDArray

from cgbench.data.dataset import ProteinForcesDataset, resolve_split
from cgbench.data.loader import BlockShuffleLoader
from cgbench.data.stream import Mode
from cgbench.errors import UsageError, ValidationError
from cgbench.priors import PriorParameters
from cgbench.splits import Split
from cgbench.store import SystemStore, open_store


def frames_of_stride(
    store: SystemStore, frames: NDArray[np.int64], stride: int
) -> NDArray[np.bool_]:
    """Tell which frames (n,) are the first, and every ``stride``-th from there, of a trajectory.

    Raises:
        UsageError: The stride is below 1.
    """
    if stride < 1:
        raise UsageError("frame stride", expected="at least 1", found=stride)
    if stride == 1:
        return np.ones(len(frames), dtype=bool)
    starts = np.asarray(store.trajectory_bounds, dtype=np.int64)[:, 0]
    within = frames - starts[np.searchsorted(starts, frames, side="right") - 1]
    chosen: NDArray[np.bool_] = within % stride == 0
    return chosen


def thinned(dataset: ProteinForcesDataset, stride: int) -> ProteinForcesDataset:
    """Return the dataset of every so many frames of each trajectory.

    Raises:
        UsageError: The stride is below 1.
        ValidationError: No frame is left.
    """
    if stride == 1:
        return dataset
    chosen = np.flatnonzero(frames_of_stride(dataset.store, dataset.frames, stride))
    if not len(chosen):
        raise ValidationError(
            f"{dataset.system}: every {stride}th frame of the trajectories is none of part "
            f"{dataset.part!r}",
            fix="choose a smaller frame_stride",
        )
    return dataset.index_select(chosen)


class TrainerEpochs:
    """Makes a loader ask the trainer for the number of the epoch whenever an epoch begins."""

    trainer: lightning.Trainer | None = None
    set_epoch: Callable[[int], None]

    def __iter__(self) -> Iterator[Any]:
        # When the first batch is asked for: a trainer that resumes at the end of an epoch takes the
        # iterator before it has moved on to the next.
        if self.trainer is not None:
            self.set_epoch(self.trainer.current_epoch)
        yield from super().__iter__()  # type: ignore[misc]


class _TrainerLoader(TrainerEpochs, BlockShuffleLoader):
    """Batches of one part for a trainer."""


class ForcesDataModule(lightning.LightningDataModule):
    """Loaders of the training, validation and test part of one system.

    Training frames come in a new order every epoch, which depends on the seed and the number of
    the epoch alone: a resumed run goes on as the interrupted one would have, from the next batch
    where the checkpoint was written within an epoch. Under a Lightning trainer with several
    processes every process gets its share.

    Args:
        store: Name of a system with a local store, a store's folder, or an open store.
        split: Split id, split file, or a split.
        force_map: Name of the force map (default: the store's default).
        prior: Prior whose forces are subtracted.
        batch_size: Frames per batch.
        seed: Seed of the order of training frames.
        drop_last: Whether an incomplete last training batch is left out.
        mode: ``auto``, ``memory`` or ``stream``, see ``BlockShuffleLoader``.
        home: Data home to look names up in.
        threads: Blocks that are read at the same time in mode ``stream``.
        pin_memory: Whether training batches lie in page-locked memory.
        frame_stride: Every so many frames of each trajectory train; other parts have all.

    Raises:
        UsageError: No such store, split or force map, or a stride below 1.
        ValidationError: The split was made for another store.
    """

    def __init__(
        self,
        store: SystemStore | Path | str,
        split: Split | Path | str = "block-v1",
        *,
        force_map: str | None = None,
        prior: PriorParameters | None = None,
        batch_size: int = 256,
        seed: int = 0,
        drop_last: bool = False,
        mode: Mode = "auto",
        home: Path | None = None,
        threads: int = 1,
        pin_memory: bool = False,
        frame_stride: int = 1,
    ) -> None:
        super().__init__()
        self.store = store if isinstance(store, SystemStore) else open_store(store, home)
        self.split = resolve_split(split, self.store.metadata.system, home)
        self.force_map = self.store.force_map(force_map)
        self.prior = prior
        self.batch_size = batch_size
        self.seed = seed
        self.drop_last = drop_last
        self.mode = mode
        self.threads = threads
        self.pin_memory = pin_memory
        self.frame_stride = frame_stride
        self._loaders: dict[tuple[str, int, int], _TrainerLoader] = {}
        self._datasets: dict[str, ProteinForcesDataset] = {}
        # Now, so that a split of another store is told before a run begins; nothing is read yet.
        self.dataset("train")

    def dataset(self, part: str) -> ProteinForcesDataset:
        """Return the dataset of a part; the same object every time.

        Raises:
            UsageError: There is no such part.
            ValidationError: It holds no valid frame.
        """
        if part not in self._datasets:
            dataset = ProteinForcesDataset(self.store, part, self.split, self.force_map, self.prior)
            stride = self.frame_stride if part == "train" else 1
            self._datasets[part] = thinned(dataset, stride)
        return self._datasets[part]

    def _loader(self, part: str) -> _TrainerLoader:
        rank = 0 if self.trainer is None else self.trainer.global_rank
        world_size = 1 if self.trainer is None else self.trainer.world_size
        key = (part, rank, world_size)
        if key not in self._loaders:
            train = part == "train"
            self._loaders[key] = _TrainerLoader(
                self.dataset(part),
                self.batch_size,
                seed=self.seed,
                shuffle=train,
                drop_last=train and self.drop_last,
                mode=self.mode,
                rank=rank,
                world_size=world_size,
                threads=self.threads,
                pin_memory=train and self.pin_memory,
            )
        return self._loaders[key]

    def train_dataloader(self) -> BlockShuffleLoader:
        """Return shuffled batches of the training part."""
        loader = self._loader("train")
        loader.trainer = self.trainer
        return loader

    def val_dataloader(self) -> BlockShuffleLoader:
        """Return batches of the validation part, in order."""
        return self._loader("val")

    def test_dataloader(self) -> BlockShuffleLoader:
        """Return batches of the test part, in order."""
        return self._loader("test")

    def validation_variance(self) -> float:
        """Return the mean square of the validation (delta) forces, (kcal/mol/Å)².

        It is the loss of a network that predicts nothing, and, as internal forces add up to
        zero, their variance.
        """
        total, count = 0.0, 0
        for batch in BlockShuffleLoader(
            self.dataset("val"), self.batch_size, shuffle=False, mode=self.mode
        ):
            total += float(batch.forces.double().square().sum())
            count += batch.forces.numel()
        return total / count

    def _identity(self) -> dict[str, Any]:
        stride = {} if self.frame_stride == 1 else {"frame_stride": self.frame_stride}
        return stride | {
            "store_fingerprint": self.split.store_fingerprint,
            "split_fingerprint": self.split.fingerprint,
            "force_map": self.force_map,
            "prior_fingerprint": None if self.prior is None else self.prior.fingerprint,
            "seed": self.seed,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: which data in which order."""
        return self._identity()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Check that a run is resumed on the data that it was started with.

        Raises:
            ValidationError: Store, split, force map, prior or seed differ.
        """
        check_identity(str(self.store.path), self._identity(), state_dict)


def check_identity(what: str, identity: dict[str, Any], state_dict: dict[str, Any]) -> None:
    """Check that a checkpoint was made with the data at hand.

    Raises:
        ValidationError: Something differs.
    """
    for name, expected in identity.items():
        if state_dict.get(name) != expected:
            raise ValidationError(
                f"{what}: the checkpoint belongs to other data: {name}",
                expected=expected,
                found=state_dict.get(name),
                fix="resume with the data it was started with, or start a new run",
            )
