"""Frames for training: PyG dataset, shuffled loaders of one and of many proteins, data modules."""

from typing import TYPE_CHECKING, Any

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import FrameBatch, FrameTensors, MixedBatch
from cgbench.data.loader import BlockShuffleLoader
from cgbench.data.mixed import MixedLoader
from cgbench.data.weights import inverse_density, weights_of_frames

if TYPE_CHECKING:
    from cgbench.data.mixed_module import MultiProteinDataModule
    from cgbench.data.module import ForcesDataModule

__all__ = [
    "BlockShuffleLoader",
    "ForcesDataModule",
    "FrameBatch",
    "FrameTensors",
    "MixedBatch",
    "MixedLoader",
    "MultiProteinDataModule",
    "ProteinForcesDataset",
    "inverse_density",
    "weights_of_frames",
]


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import; loops without it should not wait for it.
    if name == "ForcesDataModule":
        from cgbench.data.module import ForcesDataModule

        return ForcesDataModule
    if name == "MultiProteinDataModule":
        from cgbench.data.mixed_module import MultiProteinDataModule

        return MultiProteinDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
