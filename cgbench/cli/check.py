"""``cgbench check``: does a model keep the contract of a potential?"""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.adapters import Adapter, AdapterOptions, Trust
from cgbench.cli.common import AsJson, console, print_json, progress_bars


def check(
    model: Annotated[str, typer.Argument(help="A model.pt, or the name of a shipped model.")],
    system: Annotated[
        list[str] | None, typer.Option("--system", help="Systems to check on (default: trained).")
    ] = None,
    adapter: Adapter = None,
    adapter_option: AdapterOptions = None,
    trust: Trust = False,
    home: Annotated[Path | None, typer.Option("--home", help="Data home.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run the conformance suite: shapes, forces, invariances, batches, smoothness, throughput."""
    from rich.console import Console

    from cgbench.pipeline.check import check_model
    from cgbench.pipeline.programs import choice_of
    from cgbench.pipeline.tables import conformance_table

    with progress_bars() as progress:
        report = check_model(
            model,
            system or None,
            trust=trust,
            adapter=choice_of(adapter, adapter_option),
            home=home,
            progress=progress,
        )
    if as_json:
        print_json(report.model_dump(mode="json"))
    else:
        Console().print(conformance_table(report))
    report.require(model)
    console.print("every check passed")
