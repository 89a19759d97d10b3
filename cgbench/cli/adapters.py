"""``cgbench adapters``: which models of other programs can be opened; options to name them."""

from typing import Annotated

import typer

from cgbench.cli.common import AsJson, print_json

app = typer.Typer(help="Adapters for models of other programs.", no_args_is_help=True)

#: Options of every verb that opens a model.
Adapter = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        help="Open a model of another program: see 'cgbench adapters list', or give "
        "package.module:function.",
    ),
]
AdapterOptions = Annotated[
    list[str] | None,
    typer.Option("--adapter-option", help="KEY=VALUE for the adapter; may be repeated."),
]
TrainedOnOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--trained-on",
        metavar="SYSTEM[:SPLIT]",
        help="What a model that says nothing of it was trained on: a system, or the training part "
        "of a split of it; may be repeated. Recorded as your word.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run what the model needs and is not of cgbench: a program, a package, a function.",
    ),
]


@app.callback()
def _adapters() -> None:
    """Keep ``list`` a verb of its own."""


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List adapters: what they read, what they run, and whether what they need is installed."""
    from rich.console import Console

    from cgbench.adapters import list_adapters
    from cgbench.pipeline.tables_adapters import adapters_table

    listed = list_adapters()
    if as_json:
        print_json([one.model_dump(mode="json") for one in listed])
    else:
        Console().print(adapters_table(listed))
