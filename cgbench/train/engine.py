"""Which code computes losses and gradients in training."""

from typing import Literal, NamedTuple

import torch

from cgbench.errors import UsageError
from cgbench.models import GraphNetwork, compiler_obstacle

EngineChoice = Literal["auto", "torch", "compiled", "fused"]


class Engine(NamedTuple):
    """The code that was chosen, ``torch``, ``compiled`` or ``fused``, and why."""

    name: str
    reason: str


def choose_engine(
    network: torch.nn.Module, device: torch.device, choice: EngineChoice = "auto"
) -> Engine:
    """Choose compiled loops where they fit: a graph network on a processor.

    In double precision they need tables so fine that they are slower than tensors for small
    batches: there they are taken only when asked for. What torch compiles is taken only when asked
    for, because that takes a minute and a compiler; where one is missing, tensors do without.

    Raises:
        UsageError: ``fused`` was asked for and does not fit.
    """
    if choice == "torch":
        return Engine("torch", "asked for")
    if choice == "compiled":
        missing = compiler_obstacle(device)
        return Engine("compiled", "asked for") if missing is None else Engine("torch", missing)
    obstacle = None
    if not isinstance(network, GraphNetwork):
        obstacle = f"no compiled loops for {type(network).__name__}"
    elif device.type != "cpu":
        obstacle = f"compiled loops are for processors, and batches are on {device.type}"
    elif network.fused_obstacle is not None:
        obstacle = network.fused_obstacle
    elif choice == "auto" and network.embedding.weight.dtype != torch.float32:
        obstacle = "double precision"
    if obstacle is None:
        return Engine("fused", "asked for" if choice == "fused" else "a graph network on a CPU")
    if choice == "fused":
        raise UsageError(
            "engine fused does not fit", found=obstacle, fix="set engine to torch, compiled or auto"
        )
    return Engine("torch", obstacle)
