"""Write the tables of README.md from a demo's results.

    python docs/readme_table.py cgbench-demo/demo.json [--check] [--readme README.md]

With ``--check`` nothing is written, and the exit code is 1 where README.md differs.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from cgbench import registry
from cgbench.config import read_model, read_text, write_atomic
from cgbench.errors import CgbenchError, UsageError
from cgbench.pipeline.demo import DemoOutcome
from cgbench.report import Cell, cell_text
from cgbench.results import MetricValue

BEGIN = "<!-- demo-table -->"
END = "<!-- /demo-table -->"
README = Path(__file__).parent.parent / "README.md"

COLUMNS = ("force_mse", "rg_w1", "dihedral_js", "w1_tic1", "fes_rmse")
PAIRED = ("force_mse", "rg_w1", "dihedral_js")
BASELINE = "prior_only"


def _heading(metric: str) -> str:
    unit = registry.metric(metric).unit
    return f"`{metric}`" if unit == "1" else f"`{metric}`, {unit}"


def _cell(value: MetricValue | None) -> str:
    if value is None or value.value is None:
        return "–"
    text = cell_text(Cell(value.value, value.lo, value.hi))
    return text if value.status == "ok" else f"{text} ({value.status})"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *("---:" for _ in heading[1:])]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heading, rule, *rows))


def tables(outcome: DemoOutcome) -> str:
    """Return both tables: the rows, and the paired differences to the prior alone."""
    if outcome.quick:
        raise UsageError("results of 'cgbench demo --quick' mean nothing and are not shown")
    rows = _table(
        ["row", *(_heading(metric) for metric in COLUMNS)],
        [
            [f"`{row.name}`", *(_cell(row.metrics.get(metric)) for metric in COLUMNS)]
            for row in outcome.rows
        ],
    )
    differences = {
        (item.a, item.metric): cell_text(Cell(item.diff, item.lo, item.hi))
        for item in outcome.paired
        if item.b == BASELINE
    }
    paired = _table(
        [f"difference to `{BASELINE}`", *(_heading(metric) for metric in PAIRED)],
        [
            [f"`{name}`", *(differences.get((name, metric), "–") for metric in PAIRED)]
            for name in dict.fromkeys(name for name, _ in differences)
        ],
    )
    return f"{rows}\n\n{paired}"


def updated(readme: str, outcome: DemoOutcome) -> str:
    """Return the text of README.md with the tables of an outcome between the two markers."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise UsageError("README.md: the markers of the table are missing", expected=BEGIN + END)
    return f"{before}{BEGIN}\n{tables(outcome)}\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("demo", type=Path, help="demo.json of a demo")
    parser.add_argument("--readme", type=Path, default=README)
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args(arguments)
    try:
        found = read_text(options.readme)
        wanted = updated(found, read_model(DemoOutcome, options.demo))
    except CgbenchError as error:
        print(error.message, file=sys.stderr)
        return error.exit_code
    if not options.check:
        write_atomic(options.readme, wanted)
        return 0
    if found != wanted:
        print(f"{options.readme}: its tables are not those of {options.demo}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
