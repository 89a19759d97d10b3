"""Checkpoints of a sampler's training: plain tensors and data, read as such and checked."""

import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgbench.config import write_atomic
from cgbench.errors import IntegrityError, ValidationError

_PARTS = {"fingerprint", "weights", "best_weights", "optimiser", "place"}


def write_state(path: Path, fingerprint: str, **parts: Any) -> None:
    """Write a checkpoint, atomically.

    Args:
        path: The file.
        fingerprint: Of the run that it belongs to.
        parts: ``weights``, ``best_weights``, ``optimiser`` and ``place``.
    """
    buffer = io.BytesIO()
    torch.save({"fingerprint": fingerprint, **parts}, buffer)
    write_atomic(path, buffer.getvalue())


def read_state(path: Path, fingerprint: str, expected: dict[str, Tensor]) -> dict[str, Any]:
    """Read a checkpoint; nothing in it is executed.

    Args:
        path: The file.
        fingerprint: Of the run that is to go on.
        expected: Weights of its network, whose shapes must be those of the file.

    Raises:
        IntegrityError: It is damaged, or of another run.
        ValidationError: Its weights are of another network, or not finite.
    """
    fix = "start over with --force"
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    # torch reports damage in many ways; whatever it was, the file cannot be read.
    except Exception as error:
        raise IntegrityError(
            f"{path}: the checkpoint cannot be read",
            found=(str(error).splitlines() or [type(error).__name__])[0][:300],
            fix=fix,
        ) from error
    if not isinstance(found, dict) or set(found) != _PARTS:
        raise IntegrityError(f"{path}: not a checkpoint of a sampler", fix=fix)
    if found["fingerprint"] != fingerprint:
        raise IntegrityError(
            f"{path}: a checkpoint of another run",
            expected=fingerprint,
            found=str(found["fingerprint"])[:100],
            fix=fix,
        )
    for part in ("weights", "best_weights"):
        weights = found[part]
        if part == "best_weights" and weights == {}:
            continue
        good = isinstance(weights, dict) and {
            name: tuple(one.shape) for name, one in weights.items() if isinstance(one, Tensor)
        } == {name: tuple(one.shape) for name, one in expected.items()}
        if not good or not all(bool(torch.isfinite(one).all()) for one in weights.values()):
            raise ValidationError(
                f"{path}: weights of the checkpoint are of another network, or not finite", fix=fix
            )
    return found
