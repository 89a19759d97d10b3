"""Force matching with Lightning, from a configuration file to ``model.pt``."""

from cgbench.train.config import OptimiserSettings, TrainingConfig, read_config
from cgbench.train.fitting import fit_system_prior, training_weights
from cgbench.train.run import TrainingOutcome, prior_only, train

__all__ = [
    "OptimiserSettings",
    "TrainingConfig",
    "TrainingOutcome",
    "fit_system_prior",
    "prior_only",
    "read_config",
    "train",
    "training_weights",
]
