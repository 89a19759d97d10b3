"""Force matching with Lightning, from a configuration file to ``model.pt``."""

from cgbench.train.config import (
    AveragingSettings,
    OptimiserSettings,
    SelectionSettings,
    TrainingConfig,
)
from cgbench.train.fitting import fit_system_prior, training_weights
from cgbench.train.kinds import read_config, train, train_sampler
from cgbench.train.records import SystemLoss, TrainingOutcome
from cgbench.train.run import prior_only
from cgbench.train.sampler_records import SamplerOutcome

__all__ = [
    "AveragingSettings",
    "OptimiserSettings",
    "SamplerOutcome",
    "SelectionSettings",
    "SystemLoss",
    "TrainingConfig",
    "TrainingOutcome",
    "fit_system_prior",
    "prior_only",
    "read_config",
    "train",
    "train_sampler",
    "training_weights",
]
