"""What a training run of NEMO keeps on disk: its numbers, and checkpoints."""

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cgbench import config as files
from cgbench.errors import IntegrityError

_VERSION = 1


@dataclass
class Position:
    """How far a run is.

    Attributes:
        step: Training steps done.
        best_step: The one with the least validation loss so far.
        best_loss: That loss.
        best_weights: The weights there.
        good_weights: Weights of the last step whose loss and gradient were finite.
        seconds: Spent before this process.
    """

    step: int = 0
    best_step: int = 0
    best_loss: float = math.inf
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    good_weights: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0


class Numbers:
    """The numbers of a run, as a CSV file that survives interruptions.

    Args:
        path: The file.
        until: Rows of an earlier process are kept up to this step.
    """

    def __init__(self, path: Path, until: int) -> None:
        self.path = path
        self.rows: list[dict[str, str]] = []
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as handle:
                earlier = [row for row in csv.DictReader(handle) if int(row["step"]) <= until]
            self.rows = [{key: value for key, value in row.items() if value} for row in earlier]

    def add(self, row: dict[str, float | str]) -> None:
        """Add a row; it must have a ``step``."""
        self.rows.append(
            {
                key: repr(value) if isinstance(value, float) else str(value)
                for key, value in row.items()
            }
        )

    def save(self) -> None:
        """Write the file."""
        names = dict.fromkeys(key for row in self.rows for key in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        files.write_atomic(self.path, text.getvalue())


def save_position(
    path: Path, place: Position, model: nn.Module, optimiser: torch.optim.Optimizer
) -> None:
    """Write a checkpoint, atomically."""
    content = {
        "version": _VERSION,
        "step": place.step,
        "best_step": place.best_step,
        "best_loss": place.best_loss,
        "seconds": place.seconds,
        "best_weights": place.best_weights,
        "good_weights": place.good_weights,
        "model": model.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    files.write_atomic(path, buffer.getvalue())


def load_position(path: Path, model: nn.Module, optimiser: torch.optim.Optimizer) -> Position:
    """Return how far a run was, and put its weights in place. Nothing in the file is executed.

    Raises:
        IntegrityError: It is damaged, holds more than tensors and plain data, or another model.
    """
    try:
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
        if content["version"] != _VERSION:
            raise ValueError(f"version {content['version']}")
        model.load_state_dict(content["model"])
        optimiser.load_state_dict(content["optimiser"])
        return Position(
            step=int(content["step"]),
            best_step=int(content["best_step"]),
            best_loss=float(content["best_loss"]),
            best_weights=dict(content["best_weights"]),
            good_weights=dict(content["good_weights"]),
            seconds=float(content["seconds"]),
        )
    # torch reports damage in many ways; whatever it was, the file cannot be used.
    except Exception as error:
        raise IntegrityError(
            f"{path}: the checkpoint cannot be read",
            found=(str(error).splitlines() or [type(error).__name__])[0][:300],
            fix="start over with --force",
        ) from error
