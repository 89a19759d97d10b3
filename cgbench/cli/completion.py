"""Completion of names by the shell: systems, models, protocols, variants, splits, tracks.

A parameter completes by its name in the code, so that every verb with a ``system`` does. Nothing
here is slower than reading the registry: a shell asks after each press of the tab key.
"""

import inspect
import typing
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, Final

import typer
from typer.models import ParameterInfo

Names = list[tuple[str, str]]
Completer = Callable[[str], Names]


def complete_systems(incomplete: str) -> Names:
    """Return systems of the registry, and stores of the data home, that begin so."""
    from cgbench import registry
    from cgbench.config import data_home

    known = {system.key: f"{system.name}, {system.n_beads} beads" for system in registry.systems()}
    for path in sorted((data_home() / "store").glob("*.zarr")):
        known.setdefault(path.stem, "a store of the data home")
    return _that_begin(known, incomplete)


def complete_models(incomplete: str) -> Names:
    """Return models of the zoo and of the data home that begin so."""
    from cgbench import registry
    from cgbench.config import data_home

    known = {
        model.name: "shipped" if model.shipped else "of the zoo"
        for model in registry.zoo()
        if model.superseded_by is None
    }
    folder = data_home() / "models"
    for path in sorted(folder.glob("**/model.pt")):
        known.setdefault(path.parent.relative_to(folder).as_posix(), "of the data home")
    return _that_begin(known, incomplete)


def complete_protocols(incomplete: str) -> Names:
    """Return protocols that begin so."""
    from cgbench import registry

    known = {protocol.id: f"{protocol.n_replicas} replicas" for protocol in registry.protocols()}
    return _that_begin(known, incomplete)


def complete_variants(incomplete: str) -> Names:
    """Return mutants that begin so."""
    from cgbench import registry

    return _that_begin({mutant.key: mutant.pdb_id for mutant in registry.mutants()}, incomplete)


def complete_splits(incomplete: str) -> Names:
    """Return splits that begin so."""
    from cgbench import registry

    return _that_begin({split.id: "" for split in registry.splits()}, incomplete)


def complete_files(incomplete: str) -> Names:
    """Return nothing, so that the shell offers files."""
    return []


_BY_PARAMETER: Final[dict[str, Completer]] = {
    "system": complete_systems,
    "systems": complete_systems,
    "left_out": complete_systems,
    "model": complete_models,
    "protocol": complete_protocols,
    "split": complete_splits,
}

#: Parameters that are called the same, or otherwise, and mean another thing in a verb.
_BY_VERB: Final[dict[tuple[str, str], Completer]] = {
    ("info", "store"): complete_systems,
    ("models get", "name"): complete_models,
    ("mutants", "system"): complete_variants,
    ("generate", "protein"): complete_systems,
    ("leaderboard verify", "model"): complete_files,
    ("submit", "model"): complete_files,
}


def complete_names(app: typer.Typer) -> None:
    """Let every parameter of a command line that takes names complete them."""
    for verb, function in _verbs(app):
        for name, parameter in inspect.signature(function).parameters.items():
            completer = _BY_VERB.get((verb, name)) or _BY_PARAMETER.get(name)
            for information in _information(parameter.annotation):
                if completer is not None and information.autocompletion is None:
                    information.autocompletion = completer


def _verbs(app: typer.Typer, before: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in app.registered_commands:
        if command.callback is not None:
            yield before + (command.name or command.callback.__name__), command.callback
    groups = ((group, group.typer_instance) for group in app.registered_groups)
    yield from chain.from_iterable(
        _verbs(inner, f"{before}{group.name} ") for group, inner in groups if inner is not None
    )


def _information(annotation: Any) -> Iterator[ParameterInfo]:
    for extra in typing.get_args(annotation)[1:]:
        if isinstance(extra, ParameterInfo):
            yield extra


def _that_begin(known: dict[str, str], incomplete: str) -> Names:
    return [(name, told) for name, told in known.items() if name.startswith(incomplete)]
