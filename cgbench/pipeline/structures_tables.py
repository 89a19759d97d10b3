"""Table of the structures task for the terminal."""

from rich import box
from rich.table import Table

from cgbench import registry
from cgbench.pipeline.structures_task import StructuresOutcome
from cgbench.registry import PublishedTMScores
from cgbench.splits.cath import DEPTH


def outcome_table(outcome: StructuresOutcome) -> Table:
    """Return the TM-scores by level beside those of the publication."""
    table = Table(box=box.SIMPLE_HEAD, title="TM-score by the level at which test domains are new")
    for name in ("", "total", *DEPTH):
        table.add_column(name, overflow="fold")
    for row in registry.sampler_constants().structures.published:
        table.add_row(f"{row.model}, {row.features} (published)", *_published_cells(row))
    own = [outcome.total, *(outcome.levels[level] for level in DEPTH)]
    table.add_section()
    models = f"of {outcome.n_models} models"
    table.add_row(f"{outcome.sampler}, representative {models}", *(_cell(one.tm) for one in own))
    table.add_row(f"best {models}", *(_cell(one.best_tm) for one in own))
    table.add_row(f"clusters {models}", *(_cell(one.n_clusters, 1) for one in own))
    table.add_row("domains", *(str(one.n_domains) for one in own))
    return table


def _published_cells(row: PublishedTMScores) -> list[str]:
    return [_cell(row.total), *(_cell(getattr(row, level)) for level in DEPTH)]


def _cell(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
