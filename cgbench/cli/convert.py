"""``cgbench convert``: a model of another program as a ``model.pt``."""

from pathlib import Path
from typing import Annotated

import typer

from cgbench.cli.adapters import AdapterOptions, TrainedOnOptions
from cgbench.cli.common import AsJson, Force, Home, console, print_json


def convert(
    source: Annotated[
        Path, typer.Argument(help="A checkpoint, or a folder or archive that holds some.")
    ],
    adapter: Annotated[
        str, typer.Option("--adapter", help="What reads it; only weights are converted.")
    ] = "torchmdnet",
    out: Annotated[Path, typer.Option("--out", help="The model.pt to write.")] = Path("model.pt"),
    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            help="Force field that the network was trained on top of: a file, or 'published'.",
        ),
    ] = None,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="YAML of hyper-parameters that the checkpoint lacks."),
    ] = None,
    system: Annotated[
        str | None,
        typer.Option("--system", help="Which system's checkpoint of a folder or archive."),
    ] = None,
    member: Annotated[
        str | None, typer.Option("--member", help="Which checkpoint, by its path inside.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="What the model is called.")] = None,
    licence: Annotated[
        str | None, typer.Option("--licence", help="Licence of the weights, if it is known.")
    ] = None,
    trained_on: TrainedOnOptions = None,
    adapter_option: AdapterOptions = None,
    force: Force = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Convert a TorchMD-Net graph network to a model.pt; no foreign code is run."""
    from cgbench.pipeline.convert import ConvertOptions, convert_model
    from cgbench.pipeline.programs import choice_of

    options = ConvertOptions(
        prior=prior,
        settings=settings,
        system=system,
        member=member,
        name=name,
        licence=licence,
        trained_on=tuple(trained_on or ()),
    )
    converted = convert_model(
        source, out, choice_of(adapter, adapter_option), options, force=force, home=home
    )
    if as_json:
        print_json(converted.model_dump(mode="json"))
        return
    console.print(f"model: {out} ({converted.hash})", soft_wrap=True)
    console.print(f"from: {converted.checkpoint}", soft_wrap=True)
    for note in converted.notes:
        console.print(note, soft_wrap=True)
