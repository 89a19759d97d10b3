"""``cgbench specs``: what the author of a sampler has to produce."""

from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli.common import AsJson, Home, print_json, progress_bars

if TYPE_CHECKING:
    from cgbench.pipeline.specs import SamplerSpecs


def specs(
    systems: Annotated[
        list[str] | None, typer.Argument(metavar="[SYSTEM…]", help="Systems (default: all).")
    ] = None,
    noise_floor: Annotated[
        int | None,
        typer.Option(
            "--noise-floor",
            min=1,
            metavar="N",
            help="Also score the reference against itself at N frames (some seconds a system).",
        ),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Tell a sampler's author what to produce: beads, units, formats, how many, what is scored."""
    from cgbench.pipeline.specs import sampler_specs

    with progress_bars() as progress:
        found = sampler_specs(
            systems or None, noise_floor=noise_floor, home=home, progress=progress
        )
    if as_json:
        print_json([one.model_dump(mode="json") for one in found])
        return
    if systems:
        for one in found:
            typer.echo(_sheet(one))
    else:
        _table(found)


def _table(found: "list[SamplerSpecs]") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title="what a sampler has to produce", title_justify="left")
    table.add_column("system", no_wrap=True)
    table.add_column("beads", justify="right")
    table.add_column("K", justify="right")
    table.add_column("reference", no_wrap=True)
    table.add_column("sequence", overflow="fold")
    for one in found:
        here = "here" if one.reference else "not here"
        table.add_row(one.system, str(one.n_beads), f"{one.temperature:g}", here, one.sequence)
    Console().print(table)
    typer.echo("'cgbench specs SYSTEM' says the rest.")


def _sheet(one: "SamplerSpecs") -> str:
    """Return everything about one system as text."""
    import textwrap

    def row(name: str, text: str) -> str:
        return textwrap.fill(
            text,
            100,
            initial_indent=f"{name:<14}",
            subsequent_indent=" " * 14,
            break_on_hyphens=False,
        )

    lines = [
        f"{one.system}: {one.name}",
        row("sequence", one.sequence),
        row("beads", f"{one.n_beads} Cα atoms: {' '.join(one.residues)}"),
        row("temperature", f"{one.temperature:g} K, Boltzmann distributed"),
        row("units", ", ".join(f"{what} {unit}" for what, unit in one.units.items())),
        *(row("format", f"{ending}: {text}") for ending, text in one.formats.items()),
        row(
            "how many",
            f"about {one.recommended_samples} independent samples; correlated ones as at least "
            f"{one.least_trajectories} trajectories",
        ),
        row("weights", one.weights),
        row("scored", ", ".join(one.scored)),
        *(row("n/a", f"{metric}: {reason}") for metric, reason in one.not_applicable.items()),
        row("novelty", one.novelty + ("" if one.training else " They are not here.")),
    ]
    if one.noise_floor is not None:
        values = ", ".join(f"{name} {value:.3g}" for name, value in one.noise_floor.metrics.items())
        lines.append(row("noise floor", f"at {one.noise_floor.n_frames} frames: {values}"))
    if one.fix is not None:
        lines.append(row("not here", " ".join(one.fix.split())))
    lines.append(row("command", one.command))
    return "\n".join(lines) + "\n"
