"""How a model of another program came into a benchmark."""

from typing import Literal

import pydantic

from cgbench.config import Frozen
from cgbench.results.fields import Name, Text


class AdapterIdentity(Frozen):
    """The adapter that a model was opened through.

    Attributes:
        name: Name given on the command line, as ``torchmdnet`` or ``package.module:function``.
        version: Version of the adapter; of its distribution where another package brings it.
        origin: Whether this package, an entry point or a function named by its user brought it.
        foreign_code: Whether code that is not of this package computed the energies and forces.
        runs: The packages and functions that were run, with versions; empty if none.
        options: What was given with ``--adapter-option``.
        notes: What the adapter changed or could not keep.
    """

    name: Name
    version: Name
    origin: Literal["built-in", "entry point", "function"]
    foreign_code: bool
    runs: tuple[Name, ...] = ()
    options: dict[Name, Text] = pydantic.Field(default_factory=dict, max_length=50)
    notes: tuple[Text, ...] = pydantic.Field(default=(), max_length=50)
