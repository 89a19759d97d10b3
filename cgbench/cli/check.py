"""``cgbench check``: does a model keep the contract of a potential, or of a sampler?"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cgbench.cli.adapters import Adapter, AdapterOptions, Trust
from cgbench.cli.common import AsJson, console, print_json, progress_bars
from cgbench.cli.evaluate_sampler import is_sampler_file
from cgbench.errors import UsageError

if TYPE_CHECKING:
    from cgbench.models.conformance import ConformanceReport
    from cgbench.samplers import SamplerConformanceReport


def check(
    model: Annotated[
        str, typer.Argument(help="A model.pt or sampler.pt, or the name of a shipped model.")
    ],
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Systems to check on (default: trained).")
    ] = None,
    adapter: Adapter = None,
    adapter_option: AdapterOptions = None,
    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="PACKAGE.MODULE:FUNCTION",
            help="A function of yours that makes a sampler of MODEL; needs --trust.",
        ),
    ] = None,
    profile: Annotated[
        list[str] | None,
        typer.Option("--profile", help="SYSTEM=FILE with frequencies, for a sampler.pt of them."),
    ] = None,
    trust: Trust = False,
    home: Annotated[Path | None, typer.Option("--home", help="Data home.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance suite of potentials or of samplers; exit code 4 if a check fails.

    Potentials: shapes, forces, invariances, batches, smoothness, throughput. Samplers: shapes, the
    same samples from the same seed, bonds, refused sequences, no global state.
    """
    from rich.console import Console

    from cgbench.pipeline.tables import conformance_table

    drawn = sampler is not None or is_sampler_file(model)
    if drawn and (adapter is not None or adapter_option):
        raise UsageError(f"{model}: --adapter opens potentials; give --sampler for a sampler")
    if profile and (sampler is not None or not drawn):
        raise UsageError("--profile: for the file of a sampler")
    report = (
        _of_sampler(model, system, sampler, profile or [], trust)
        if drawn
        else _of_potential(model, system, adapter, adapter_option, trust, home)
    )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        Console().print(conformance_table(report))
    report.require(model)
    console.print("every check passed")


def _of_potential(
    model: str,
    systems: list[str] | None,
    adapter: str | None,
    options: list[str] | None,
    trust: bool,
    home: Path | None,
) -> "ConformanceReport":
    from cgbench.pipeline.check import check_model
    from cgbench.pipeline.programs import choice_of

    with progress_bars() as progress:
        return check_model(
            model,
            systems or None,
            trust=trust,
            adapter=choice_of(adapter, options),
            home=home,
            progress=progress,
        )


def _of_sampler(
    model: str,
    systems: list[str] | None,
    function: str | None,
    profiles: list[str],
    trust: bool,
) -> "SamplerConformanceReport":
    from cgbench.pipeline.sampler_check import check_sampler_file, check_sampler_function

    with progress_bars() as progress:
        if function is None:
            return check_sampler_file(Path(model), systems, profiles=profiles, progress=progress)
        return check_sampler_function(
            function, Path(model), systems, trust=trust, progress=progress
        )
