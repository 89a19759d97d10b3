"""Which code computes losses and gradients in training."""

from typing import Literal, NamedTuple

import torch

from cgbench.errors import UsageError
from cgbench.models import GraphNetwork

EngineChoice = Literal["auto", "torch", "fused"]


class Engine(NamedTuple):
    """The code that was chosen, ``torch`` or ``fused``, and why."""

    name: str
    reason: str


def choose_engine(
    network: torch.nn.Module, device: torch.device, choice: EngineChoice = "auto"
) -> Engine:
    """Choose compiled loops where they fit: a graph network on a processor.

    In double precision they need tables so fine that they are slower than tensors for small
    batches: there they are taken only when asked for.

    Raises:
        UsageError: ``fused`` was asked for and does not fit.
    """
    if choice == "torch":
        return Engine("torch", "asked for")
    obstacle = None
    if not isinstance(network, GraphNetwork):
        obstacle = f"no compiled loops for {type(network).__name__}"
    elif device.type != "cpu":
        obstacle = f"compiled loops are for processors, and batches are on {device.type}"
    elif choice == "auto" and network.embedding.weight.dtype != torch.float32:
        obstacle = "double precision"
    if obstacle is None:
        return Engine("fused", "asked for" if choice == "fused" else "a graph network on a CPU")
    if choice == "fused":
        raise UsageError(
            "engine fused does not fit", found=obstacle, fix="set engine to torch or auto"
        )
    return Engine("torch", obstacle)
