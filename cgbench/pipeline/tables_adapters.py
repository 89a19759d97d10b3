"""The table of adapters for terminals."""

from collections.abc import Sequence

from rich.table import Table

from cgbench.adapters import AdapterListing


def adapters_table(listed: Sequence[AdapterListing]) -> Table:
    """Return adapters with what they read and run."""
    table = Table(title="adapters")
    for column in ("name", "reads", "runs", "--trust", "installed"):
        table.add_column(column, overflow="fold")
    for one in listed:
        state = one.version or ("yes" if one.available else "no")
        table.add_row(
            one.name,
            one.reads,
            one.runs,
            one.needs_trust,
            state if one.note is None else one.note,
        )
    return table
