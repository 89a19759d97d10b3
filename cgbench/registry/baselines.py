"""Settings of the baselines that are trained on the published proteins."""

from functools import cache
from typing import Any

from pydantic import Field

from cgbench.config import Frozen, validate
from cgbench.registry.loader import DATA, read_data_file


class BaselineSettings(Frozen):
    """What the baselines of the published proteins have in common.

    Attributes:
        network: Settings of the network.
        optimiser: Settings of the optimiser.
        settings_source: Where both are from.
        frame_stride: Every so many frames train, of proteins that are not in ``all_frames``.
        all_frames: Proteins of which all frames train.
        frame_stride_source: Where that is from.
        seeds: Number of seeds.
        seeds_source: Where that is from.
        selection: How one of the seeds is chosen.
        selection_source: Where that is from.
    """

    network: dict[str, Any]
    optimiser: dict[str, Any]
    settings_source: str
    frame_stride: int = Field(ge=1)
    all_frames: tuple[str, ...]
    frame_stride_source: str
    seeds: int = Field(ge=1)
    seeds_source: str
    selection: dict[str, Any]
    selection_source: str

    def stride_of(self, system: str) -> int:
        """Return every how many frames of a protein train."""
        return 1 if system in self.all_frames else self.frame_stride


@cache
def baseline_settings() -> BaselineSettings:
    """Return the settings of the baselines."""
    return validate(BaselineSettings, read_data_file("baselines"), DATA / "baselines.yaml")
