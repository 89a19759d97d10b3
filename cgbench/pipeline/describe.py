"""Tables of what is on disk, for the terminal; nothing here needs torch."""

from typing import TYPE_CHECKING, Any

from rich.table import Table

from cgbench.store import SystemStore

if TYPE_CHECKING:
    from cgbench.evaluate import ReferenceBundle


def store_table(store: SystemStore) -> Table:
    """Return what a store says of itself."""
    table = Table(title=str(store.path), title_justify="left", show_header=False)
    table.add_column("fact", no_wrap=True)
    table.add_column("value", overflow="fold")
    metadata = store.metadata
    table.add_row("fingerprint", store.fingerprint)
    table.add_row("frames", f"{store.n_frames} ({int(store.valid.sum())} valid)")
    table.add_row("trajectories", str(len(store.trajectory_bounds)))
    table.add_row("beads", str(store.n_beads))
    for key, value in metadata.model_dump(mode="json").items():
        if key not in ("sources", "start_kind") and value is not None:
            table.add_row(key, str(value))
    return table


def reference_summary(bundle: "ReferenceBundle") -> dict[str, Any]:
    """Return what a bundle says, for machines."""
    return {"fingerprint": bundle.fingerprint, **bundle.metadata.model_dump(mode="json")}


def reference_table(bundle: "ReferenceBundle") -> Table:
    """Return what a bundle says, for people."""
    table = Table(title=bundle.system, title_justify="left", show_header=False)
    table.add_column("fact", no_wrap=True)
    table.add_column("value", overflow="fold")
    for key, value in reference_summary(bundle).items():
        table.add_row(key, str(value))
    return table
