"""Assembles the verbs, turns errors into messages and exit codes."""

import sys

import typer
from rich.console import Console

from cgbench.cli import (
    adapters,
    backmap,
    check,
    compare,
    convert,
    datasets,
    demo,
    doctor,
    download,
    evaluate,
    generate,
    info,
    leaderboard,
    models,
    mutants,
    preprocess,
    priors,
    reference,
    report,
    sample,
    simulate,
    specs,
    splits,
    submit,
    train,
    validate,
    viewer,
)
from cgbench.cli.completion import complete_names
from cgbench.errors import CgbenchError, UsageError
from cgbench.version import __version__

app = typer.Typer(
    name="cgbench",
    help="Data, baselines and one evaluation harness for coarse-grained protein potentials.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(requested: bool) -> None:
    if requested:
        typer.echo(f"cgbench {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Print the version and stop."
    ),
) -> None:
    """Options before the verb."""


app.command("demo")(demo.demo)
app.command("info")(info.info)
app.command("doctor")(doctor.doctor)
app.command("download")(download.download)
app.command("generate")(generate.generate)
app.command("preprocess")(preprocess.preprocess)
app.command("check")(check.check)
app.command("simulate")(simulate.simulate)
app.command("sample")(sample.sample)
app.command("evaluate")(evaluate.evaluate)
app.command("specs")(specs.specs)
app.command("mutants")(mutants.mutants)
app.command("compare")(compare.compare)
app.command("backmap")(backmap.backmap)
app.command("convert")(convert.convert)
app.command("report")(report.report)
app.command("validate")(validate.validate)
app.command("submit")(submit.submit)
app.add_typer(models.app, name="models")
app.add_typer(train.app, name="train")
app.add_typer(reference.app, name="reference")
app.add_typer(viewer.app, name="viewer")
app.add_typer(adapters.app, name="adapters")
app.add_typer(splits.app, name="splits")
app.add_typer(priors.app, name="priors")
app.add_typer(datasets.app, name="datasets")
app.add_typer(leaderboard.app, name="leaderboard")
complete_names(app)


#: Exit code after Ctrl-C, 128 + SIGINT as shells have it.
INTERRUPTED = 130


def main() -> None:
    """Run the command line; exit codes: 0 ok, 2 usage, 3 integrity, 4 validation, 5 simulation."""
    try:
        app()
    except CgbenchError as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error.message}", style="bold red", markup=False, soft_wrap=True
        )
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or a folder that may not be written: a fact about the machine, not a bug.
        if error.filename is None and error.errno is None:
            raise
        Console(stderr=True, highlight=False).print(
            f"error: {error.filename or 'file system'}: {error.strerror or error}\n"
            "  to do:    check the path, its permissions and the free space",
            style="bold red", markup=False, soft_wrap=True,
        )  # fmt: skip
        sys.exit(UsageError.exit_code)
    except (KeyboardInterrupt, SystemExit) as error:
        # Typer makes an exit code of an interrupt.
        if isinstance(error, SystemExit) and error.code != INTERRUPTED:
            raise
        Console(stderr=True).print(
            "interrupted: finished steps are kept; run the same command to continue", style="yellow"
        )
        sys.exit(INTERRUPTED)
