"""The numbers of a run, epoch by epoch, as a CSV file that survives interruptions."""

import csv
import io
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from cgbench import config


class MetricsLog(Logger):
    """Writes ``metrics.csv``; Lightning's own CSV logger would delete that of a resumed run.

    Rows of an earlier process are kept up to the step at which this one goes on. Of processes that
    share an epoch the first one writes.

    Args:
        path: The file. The folder must exist.
        keep: Whether rows that are there are kept.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        super().__init__()
        self.path = path
        self._earlier: list[dict[str, str]] = []
        self._rows: list[dict[str, str]] = []
        if keep and path.is_file():
            with path.open(encoding="utf-8", newline="") as handle:
                self._earlier = list(csv.DictReader(handle))

    @property
    def name(self) -> str:
        """Lightning asks for a name; folders are not made from it."""
        return "metrics"

    @property
    def version(self) -> str:
        """Lightning asks for a version; folders are not made from it."""
        return "1"

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the resolved configuration lies beside the log."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add numbers to the row of a step."""
        number = -1 if step is None else step
        if not self._rows:
            self._earlier = [row for row in self._earlier if _step(row) < number]
        if not self._rows or _step(self._rows[-1]) != number:
            self._rows.append({"step": str(number)})
        self._rows[-1] |= {key: repr(float(value)) for key, value in metrics.items()}
        if "epoch" in metrics:
            self._rows[-1]["epoch"] = str(int(metrics["epoch"]))

    @rank_zero_only
    def save(self) -> None:
        """Write the file; Lightning calls it after every epoch."""
        rows = [*self._earlier, *self._rows]
        names = {"epoch": None, "step": None} | dict.fromkeys(key for row in rows for key in row)
        text = io.StringIO()
        writer = csv.DictWriter(text, list(names), restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        config.write_atomic(self.path, text.getvalue())

    def finalize(self, status: str) -> None:
        """Write the file, however the run ended."""
        self.save()


def _step(row: dict[str, str]) -> int:
    try:
        return int(row.get("step") or -1)
    except ValueError:
        return -1
