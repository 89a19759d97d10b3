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


def reference_tables(bundle: "ReferenceBundle") -> list[Table]:
    """Return what a bundle says, for people: facts, timescales, convergence."""
    facts = Table(title=bundle.system, title_justify="left", show_header=False)
    facts.add_column("fact", no_wrap=True)
    facts.add_column("value", overflow="fold")
    for key, value in reference_summary(bundle).items():
        if key in ("folded_population", "slowest_timescale_ps") and value is not None:
            text = f"{value['value']:.4g} ({value['lo']:.4g} to {value['hi']:.4g})"
            facts.add_row(key, text)
        elif key in ("analysis", "basins"):
            for name, one in value.items():
                if name == "source":
                    continue
                source = value.get("source", {}).get(name)
                facts.add_row(name, f"{one} ({source})" if source else str(one))
        elif key not in ("timescales", "convergence"):
            facts.add_row(key, str(value))
    return [facts, _timescale_table(bundle), *_convergence_tables(bundle)]


def _timescale_table(bundle: "ReferenceBundle") -> Table:
    convergence = bundle.metadata.convergence
    ranges = (
        {row.lag_ps: row.ranges_ps for row in convergence.timescale_ranges} if convergence else {}
    )
    table = Table(title="implied timescales in ps, with 95 % intervals", title_justify="left")
    table.add_column("lag (ps)", justify="right")
    rows = bundle.metadata.timescales
    for index in range(max((len(row.timescales_ps) for row in rows), default=0)):
        table.add_column(f"process {index + 1}", justify="right")
    for row in rows:
        cells = []
        for index, value in enumerate(row.timescales_ps):
            bounds = ranges[row.lag_ps][index] if row.lag_ps in ranges else None
            told = "-" if value is None else f"{value:.4g}"
            cells.append(told if bounds is None else f"{told} ({bounds[0]:.3g} to {bounds[1]:.3g})")
        table.add_row(f"{row.lag_ps:g}", *cells)
    return table


def _convergence_tables(bundle: "ReferenceBundle") -> list[Table]:
    convergence = bundle.metadata.convergence
    if convergence is None:
        return []
    halves = Table(
        title=f"difference of random halves, {convergence.n_divisions} divisions",
        title_justify="left",
    )
    for name in ("statistic", "mean", "95 %", "unit"):
        halves.add_column(name)
    for row in convergence.halves:
        if row.difference is None:
            halves.add_row(row.statistic, "-", "-", row.unit)
            continue
        spread = row.difference
        halves.add_row(
            row.statistic, f"{spread.mean:.3g}", f"{spread.lo:.3g} to {spread.hi:.3g}", row.unit
        )
    blocks = Table(title="folded population: standard error by block", title_justify="left")
    for name in ("block (ps)", "trajectories", "blocks", "standard error"):
        blocks.add_column(name, justify="right")
    for block in convergence.blocks:
        blocks.add_row(
            f"{block.block_ps:g}",
            str(block.trajectories),
            str(block.n_blocks),
            f"{block.standard_error:.3g}",
        )
    test = Table(title="Chapman-Kolmogorov test", title_justify="left", show_header=False)
    test.add_column("fact")
    test.add_column("value")
    if convergence.largest_deviation is not None:
        test.add_row("largest |predicted - estimated|", f"{convergence.largest_deviation:.3g}")
    if convergence.fraction_outside_range is not None:
        test.add_row("entries with intervals apart", f"{convergence.fraction_outside_range:.0%}")
    return [halves, blocks, test]
