"""An exponential moving average of the weights, kept beside those that are trained."""

from typing import Any

import lightning
import torch
from torch import Tensor, nn

from cgbench.train.config import AveragingSettings


class MovingAverage(lightning.Callback):
    """Averages the network's weights over the steps; validation sees the average.

    After step n the average is ``d·average + (1 − d)·weights``, where d is the decay, or with
    warm-up (1 + n) / (10 + n) as long as that is less (Polyak & Juditsky, SIAM J. Control Optim.
    30, 838 (1992); the exponential form of Tarvainen & Valpola, arXiv 1703.01780, sec. 2).
    Checkpoints hold weights and average, so a resumed run goes on with both.

    Args:
        settings: Decay and warm-up.
    """

    def __init__(self, settings: AveragingSettings) -> None:
        self.settings = settings
        self.steps = 0
        self.average: dict[str, Tensor] = {}
        self._trained: dict[str, Tensor] = {}

    def decay(self, step: int) -> float:
        """Return the share of the average that step ``step``, counted from 1, keeps."""
        warm = (1 + step) / (10 + step) if self.settings.warm_up else 1.0
        return min(self.settings.decay, warm)

    def on_train_start(self, trainer: Any, module: Any) -> None:
        """Begin with the weights as they are, unless a checkpoint held an average."""
        weights = module.network.state_dict()
        found = self.average or weights
        self.average = {name: found[name].detach().to(weights[name]).clone() for name in weights}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_index: int
    ) -> None:
        """Take the weights of the step into the average."""
        if trainer.global_step == self.steps:
            return
        self.steps = trainer.global_step
        keep = self.decay(self.steps)
        for name, weight in module.network.state_dict().items():
            self.average[name].lerp_(weight, 1.0 - keep)

    def on_validation_start(self, trainer: Any, module: Any) -> None:
        """Put the average in place of the weights."""
        if self.average:
            self._trained = {
                name: weight.detach().clone() for name, weight in _state(module.network).items()
            }
            _write(module.network, self.average)

    def on_validation_end(self, trainer: Any, module: Any) -> None:
        """Put the weights back."""
        if self._trained:
            _write(module.network, self._trained)
            self._trained = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the average, as tensors, and the number of steps in it."""
        return {"steps": self.steps, "average": dict(self.average)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up the average of a checkpoint."""
        self.steps = int(state_dict["steps"])
        self.average = dict(state_dict["average"])


def _state(network: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = network.state_dict()
    return state


@torch.no_grad()
def _write(network: nn.Module, weights: dict[str, Tensor]) -> None:
    for name, weight in _state(network).items():
        weight.copy_(weights[name])
