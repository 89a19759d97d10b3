"""Frames for training: PyG dataset, shuffled loader, LightningDataModule."""

from typing import TYPE_CHECKING, Any

from cgbench.data.dataset import ProteinForcesDataset
from cgbench.data.frames import FrameBatch, FrameTensors
from cgbench.data.loader import BlockShuffleLoader

if TYPE_CHECKING:
    from cgbench.data.module import ForcesDataModule

__all__ = [
    "BlockShuffleLoader",
    "ForcesDataModule",
    "FrameBatch",
    "FrameTensors",
    "ProteinForcesDataset",
]


def __getattr__(name: str) -> Any:
    # Lightning takes seconds to import; loops without it should not wait for it.
    if name == "ForcesDataModule":
        from cgbench.data.module import ForcesDataModule

        return ForcesDataModule
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
