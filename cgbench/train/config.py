"""What a training run is: one YAML file, validated, frozen, fingerprinted."""

from pathlib import Path
from typing import Any, Literal

import pydantic

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import UsageError
from cgbench.models import GraphNetworkSettings
from cgbench.priors import PriorFitSettings


class OptimiserSettings(Frozen):
    """Adam with a plateau schedule; the defaults are the reference work's ``train.yaml``."""

    learning_rate: float = pydantic.Field(default=5e-4, gt=0)
    factor: float = pydantic.Field(default=0.8, gt=0, lt=1)
    patience: int = pydantic.Field(default=10, ge=0)
    minimum_learning_rate: float = pydantic.Field(default=1e-6, ge=0)
    weight_decay: float = pydantic.Field(default=0.0, ge=0)
    batch_size: int = pydantic.Field(default=256, ge=1)
    gradient_clip: float | None = pydantic.Field(default=None, gt=0)
    maximum_epochs: int = pydantic.Field(default=100, ge=1)
    maximum_minutes: float | None = pydantic.Field(default=None, gt=0)
    early_stopping_patience: int = pydantic.Field(default=30, ge=1)


class TrainingConfig(Frozen):
    """One force-matching run: data, prior, network, optimiser, seed.

    ``force_map`` is ``null`` for the store's default. ``threads`` is ``null`` for torch's default;
    runs with the same seed, engine and number of threads give the same weights. ``engine`` is what
    computes losses and gradients: ``fused``, compiled loops for processors, ``torch``, or ``auto``,
    the first where it fits and else the second.
    """

    name: str = pydantic.Field(pattern=r"^[a-z0-9][a-z0-9._/-]{0,127}$")
    description: str = ""
    system: str
    split: str = "block-v1"
    force_map: str | None = None
    network: GraphNetworkSettings = GraphNetworkSettings()
    prior: PriorFitSettings = PriorFitSettings()
    optimiser: OptimiserSettings = OptimiserSettings()
    seed: int = pydantic.Field(default=1, ge=0)
    threads: int | None = pydantic.Field(default=None, ge=1)
    accelerator: str = "cpu"
    engine: Literal["auto", "torch", "fused"] = "auto"
    licence: str = "MIT"

    @pydantic.field_validator("name")
    @classmethod
    def _no_parent_folders(cls, value: str) -> str:
        if ".." in value or value.endswith("/") or "//" in value:
            raise ValueError("a model name is a relative path without '..'")
        return value


def read_config(path: Path, overrides: list[str] | None = None) -> TrainingConfig:
    """Read a training configuration and apply ``key.subkey=value`` overrides.

    Raises:
        UsageError: An override is not of that form, or names a section that does not exist.
        ValidationError: A key is unknown or a value is of the wrong type or range.
    """
    data: Any = config.read_data(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: not a mapping of settings", found=type(data).__name__)
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise UsageError(f"--set {override}: not an override", expected="key.subkey=value")
        *sections, last = key.split(".")
        target = data
        for section in sections:
            target = target.setdefault(section, {})
            if not isinstance(target, dict):
                raise UsageError(f"--set {override}: {section} is a value, not a section")
        target[last] = config.parse_yaml(text, f"--set {override}")
    return config.validate(TrainingConfig, data, path)
