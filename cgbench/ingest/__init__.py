"""Raw files into stores: reading, checking, screening."""

from cgbench.ingest.boundaries import Boundaries, match_trajectories
from cgbench.ingest.folder import preprocess_folder
from cgbench.ingest.npy import NpySource
from cgbench.ingest.preprocess import preprocess_npy, preprocess_source
from cgbench.ingest.recipe import Recipe, read_recipe
from cgbench.ingest.recipe_store import preprocess_recipe
from cgbench.ingest.screening import ScreeningBlock, screen
from cgbench.ingest.stream import RangeSource
from cgbench.ingest.stream_store import preprocess_stream
from cgbench.ingest.trajectories import TrajectorySource, preprocess_trajectories

__all__ = [
    "Boundaries",
    "NpySource",
    "RangeSource",
    "Recipe",
    "ScreeningBlock",
    "TrajectorySource",
    "match_trajectories",
    "preprocess_folder",
    "preprocess_npy",
    "preprocess_recipe",
    "preprocess_source",
    "preprocess_stream",
    "preprocess_trajectories",
    "read_recipe",
    "screen",
]
