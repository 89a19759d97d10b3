"""Raw files into stores: reading, checking, screening."""

from cgbench.ingest.folder import preprocess_folder
from cgbench.ingest.npy import NpySource
from cgbench.ingest.preprocess import preprocess_npy
from cgbench.ingest.screening import ScreeningBlock, screen

__all__ = ["NpySource", "ScreeningBlock", "preprocess_folder", "preprocess_npy", "screen"]
