"""Results of benchmarks/samplers.py, and the tables of docs/samplers.md that are made of them."""

from pathlib import Path
from typing import Final

from cgbench.config import Frozen, read_model, write_atomic, write_model
from cgbench.provenance import Provenance
from cgbench.results.sequence_models import SequenceModels

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results"
PAGE: Final = ROOT / "docs" / "samplers.md"
METRICS: Final = ("w1_tic1", "fes_rmse", "js_2d", "native_population", "rg_w1", "clash_rate")


class Row(Frozen):
    """One model on one protein.

    Attributes:
        system: Key of the protein.
        row: What was scored.
        status: Whether it could be.
        metrics: Value, lower and upper end by metric; the ends are null without an interval.
        target: The reference's own value of metrics that have one.
        models: Clusters of the sampler's models; null for other rows.
        training_seconds: Wall time of the training; null for other rows.
    """

    system: str
    row: str
    status: str
    metrics: dict[str, tuple[float | None, float | None, float | None]]
    target: dict[str, float]
    models: SequenceModels | None = None
    training_seconds: float | None = None


class Run(Frozen):
    """What made the rows of a kind of sampler."""

    command: str
    seconds: float
    provenance: Provenance


class Benchmark(Frozen):
    """What came of it; ``runs`` by kind of sampler."""

    synthetic: bool
    quick: bool
    n_samples: int
    rows: tuple[Row, ...]
    runs: dict[str, Run]


def merged(path: Path, found: Benchmark, order: tuple[str, ...]) -> Benchmark:
    """Return results with the rows and runs of a file that they do not replace.

    Args:
        path: The file; it need not be there.
        found: What was made now.
        order: Of the proteins.
    """
    rows = {(row.system, row.row): row for row in found.rows}
    runs = dict(found.runs)
    if path.is_file():
        earlier = read_model(Benchmark, path)
        if (earlier.quick, earlier.n_samples) != (found.quick, found.n_samples):
            raise SystemExit(f"{path}: results of other settings; remove it, or give another --out")
        rows = {(row.system, row.row): row for row in earlier.rows} | rows
        runs = earlier.runs | runs
    place = {system: number for number, system in enumerate(order)}

    def rank(row: Row) -> tuple[int, bool, str]:
        # Samplers by their names, then what stands beside them as it was scored.
        name = row.row if row.models is not None else ""
        return place.get(row.system, len(place)), row.models is None, name

    return found.model_copy(
        update={
            "rows": tuple(sorted(rows.values(), key=rank)),
            "runs": dict(sorted(runs.items())),
        }
    )


def write_results(path: Path, found: Benchmark, order: tuple[str, ...]) -> None:
    """Write results at once, with what the file has of other samplers and proteins."""
    write_model(path, merged(path, found, order))


def table(rows: tuple[Row, ...]) -> str:
    """Return a Markdown table of rows."""
    head = ["protein", "row", *(f"`{key}`" for key in METRICS)]
    head += ["clusters", "representative, Å from the native", "ms a sample"]
    lines = [head, ["---"] * len(head)]
    for row in rows:
        cells = [f"`{row.system}`", row.row]
        for key in METRICS:
            value, lo, hi = row.metrics.get(key, (None, None, None))
            text = "–" if value is None else f"{value:.2f}"
            if lo is not None and hi is not None:
                text += f" [{lo:.2f}, {hi:.2f}]"
            if key in row.target:
                text += f" (reference {row.target[key]:.2f})"
            cells.append(text)
        models = row.models
        seconds = None if models is None else models.seconds_per_sample
        cells.append("–" if models is None else str(models.n_clusters))
        cells.append("–" if models is None else f"{models.representative_rmsd:.1f}")
        cells.append("–" if seconds is None else f"{1000 * seconds:.1f}")
        lines.append(cells)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def footnote(found: Benchmark) -> str:
    """Return how results were made."""
    lines = []
    for kind, run in found.runs.items():
        machine = run.provenance.hardware
        spent = [
            row.training_seconds
            for row in found.rows
            if row.training_seconds is not None and row.row.startswith(kind)
        ]
        lines.append(
            f"{kind}: `{run.command}` on {machine.processor}, {machine.cores} cores shared with "
            f"other work; {found.n_samples} structures a row, at most {max(spent):.0f} s of wall "
            "time for a training."
        )
    return "\n\n".join(lines)


def write_page() -> None:
    """Replace the tables of the page by those of the results."""
    page = PAGE.read_text(encoding="utf-8")
    for name in ("sample", "synthetic"):
        path = RESULTS / f"samplers-{name}.json"
        if not path.is_file():
            continue
        found = read_model(Benchmark, path)
        before, opened, rest = page.partition(f"<!-- {name} -->")
        _, closed, after = rest.partition(f"<!-- /{name} -->")
        if not opened or not closed:
            raise SystemExit(f"{PAGE}: no markers for {name}")
        page = f"{before}{opened}\n{table(found.rows)}\n\n{footnote(found)}\n{closed}{after}"
    write_atomic(PAGE, page)
