"""Options that several adapters have: a prior beside the model, and its vocabulary."""

from pathlib import Path

from cgbench import config
from cgbench.adapters.base import Request
from cgbench.adapters.vocabulary import Vocabulary, read_vocabulary
from cgbench.models import PotentialSpec
from cgbench.models.programs import program_spec
from cgbench.priors import PriorParameters, read_published_prior


def said_of(path: Path, name: str | None) -> PotentialSpec:
    """Return what the JSON file beside a model says of it, or no more than a name.

    A file called ``model`` is named after its folder.

    Raises:
        IntegrityError: The JSON file cannot be parsed.
        ValidationError: It is not a valid specification.
    """
    beside = path.with_suffix(".json")
    if beside.is_file() and beside != path:
        return program_spec(path, name)
    parent = path.resolve().parent.name
    usual = f"{parent}/{path.stem}" if path.stem == "model" and parent else path.stem
    return PotentialSpec(name=name or usual)


def read_prior(path: Path) -> PriorParameters:
    """Read a prior: the published force field, or one that this package has written.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It cannot be parsed.
        ValidationError: It is neither.
    """
    data = config.read_data(path)
    if isinstance(data, dict) and data.get("format") == "cgbench-prior":
        return config.validate(PriorParameters, data, path)
    return read_published_prior(path)


def prior_option(request: Request) -> PriorParameters | None:
    """Return the prior that the option names; None without the option."""
    file = request.options.get("prior")
    return None if file is None else read_prior(Path(file).expanduser())


def vocabulary_option(request: Request) -> Vocabulary | None:
    """Return the vocabulary that the option names; None for ours."""
    file = request.options.get("vocabulary")
    return None if file is None else read_vocabulary(Path(file).expanduser())
