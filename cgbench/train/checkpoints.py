"""Training checkpoints: read as tensors alone, and checked before a run goes on from one."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cgbench.errors import IntegrityError, ValidationError
from cgbench.train.averaging import MovingAverage

_PREFIX = "network."


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Raises:
        IntegrityError: It is missing, damaged, or holds more than tensors and plain data.
    """
    try:
        checkpoint: Any = torch.load(path, map_location="cpu", weights_only=True)
    # torch reports damage in many ways; whatever it was, the file cannot be read.
    except Exception as error:
        raise IntegrityError(
            f"{path}: the checkpoint cannot be read",
            found=(str(error).splitlines() or [type(error).__name__])[0][:300],
            fix="start over with --force",
        ) from error
    if not isinstance(checkpoint, dict) or not isinstance(checkpoint.get("state_dict"), dict):
        raise IntegrityError(f"{path}: not a training checkpoint", fix="start over with --force")
    return checkpoint


def weights_of(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the network's weights of a checkpoint: their moving average where there is one."""
    callbacks = checkpoint.get("callbacks", {})
    average = callbacks.get(MovingAverage.__qualname__, {}).get("average")
    if average:
        return dict(average)
    return {
        name.removeprefix(_PREFIX): weight
        for name, weight in checkpoint["state_dict"].items()
        if name.startswith(_PREFIX)
    }


def check_architecture(path: Path, network: nn.Module) -> None:
    """Check that a checkpoint is of a network of this shape.

    Raises:
        IntegrityError: It cannot be read.
        ValidationError: It is of another network, or its weights are not finite.
    """
    found = {
        name: weight
        for name, weight in read_checkpoint(path)["state_dict"].items()
        if name.startswith(_PREFIX)
    }
    expected = {f"{_PREFIX}{name}": weight for name, weight in network.state_dict().items()}
    for name in sorted(expected.keys() | found.keys()):
        ours, theirs = expected.get(name), found.get(name)
        if ours is None or not isinstance(theirs, Tensor) or ours.shape != theirs.shape:
            raise ValidationError(
                f"{path}: a checkpoint of another architecture: {name.removeprefix(_PREFIX)}",
                expected="no such weight" if ours is None else tuple(ours.shape),
                found=tuple(theirs.shape) if isinstance(theirs, Tensor) else "missing",
                fix="resume with the settings that it was made with, or --force to start over",
            )
        if not bool(torch.isfinite(theirs).all()):
            raise ValidationError(
                f"{path}: weight {name.removeprefix(_PREFIX)} of the checkpoint is not finite",
                fix="start over with --force",
            )
