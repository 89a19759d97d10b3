"""What all adapters share: requests, trust, and a foreign model under the calling convention."""

import contextlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cgbench.adapters.vocabulary import Vocabulary
from cgbench.errors import UsageError, ValidationError
from cgbench.models import (
    ChainResult,
    NetworkPotential,
    Potential,
    PotentialSpec,
    ProgramPotential,
)
from cgbench.priors import PriorParameters
from cgbench.results.adapter import AdapterIdentity


@dataclass(frozen=True)
class AdapterChoice:
    """What was chosen on the command line.

    Attributes:
        name: Name of an adapter, or ``package.module:function``.
        options: Its options, as text.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, name: str | None, options: Sequence[str] | None) -> "AdapterChoice | None":
        """Return the choice of ``--adapter NAME --adapter-option KEY=VALUE …``; None without name.

        Raises:
            UsageError: Options without an adapter, or one that is no ``KEY=VALUE``.
        """
        if name is None:
            if options:
                raise UsageError("--adapter-option: only with --adapter")
            return None
        parsed: dict[str, str] = {}
        for option in options or ():
            key, equals, value = option.partition("=")
            if not equals or not key or key in parsed:
                raise UsageError(
                    f"--adapter-option {option}: not an option, or given twice",
                    expected="KEY=VALUE, each KEY once",
                )
            parsed[key] = value
        return cls(name, parsed)


@dataclass(frozen=True)
class Request:
    """What an adapter is asked for.

    Attributes:
        path: The model.
        options: Options as text.
        trust: Whether code that is not of this package may be run.
        name: What the potential is called; the file's own name if None.
    """

    path: Path
    options: Mapping[str, str]
    trust: bool
    name: str | None

    def known(self, *names: str) -> None:
        """Refuse options that the adapter does not have.

        Raises:
            UsageError: There is one.
        """
        if unknown := sorted(set(self.options) - set(names)):
            raise UsageError(
                f"--adapter-option {', '.join(unknown)}: the adapter has no such option",
                expected=", ".join(sorted(names)) or "no option",
            )

    def number(self, name: str) -> int | None:
        """Return an option that is a whole number above zero; None if it is not given.

        Raises:
            UsageError: It is something else.
        """
        text = self.options.get(name)
        if text is None:
            return None
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(
                f"--adapter-option {name}={text}: not a number", expected="a whole number above 0"
            )
        return int(text)

    def flag(self, name: str) -> bool:
        """Return an option that is ``true`` or ``false``; false if it is not given.

        Raises:
            UsageError: It is something else.
        """
        text = self.options.get(name, "false")
        if text not in ("true", "false"):
            raise UsageError(f"--adapter-option {name}={text}", expected="true or false")
        return text == "true"

    def recorded(self) -> dict[str, str]:
        """Return the options as results keep them: of a folder of this machine only the name."""
        return {
            key: Path(value).name if Path(value).expanduser().is_absolute() else value
            for key, value in self.options.items()
        }

    def require_trust(self, runs: str) -> None:
        """Refuse to go on unless the caller trusts what is about to be run.

        Raises:
            UsageError: It is not trusted.
        """
        if not self.trust:
            raise UsageError(
                f"{self.path}: opening it would run {runs}",
                found="code that is not of cgbench, and that nothing here confines",
                fix="give --trust if you know where it comes from",
            )


@dataclass(frozen=True)
class Adapted:
    """A potential, and how it came in."""

    potential: Potential
    identity: AdapterIdentity


class AdaptedPotential(ProgramPotential):
    """A model of another program under the calling convention of potentials.

    What the foreign code prints goes to the error stream, so that output for machines stays clean.

    Args:
        call: Takes bead types (n_beads,), positions (n_beads, 3) in Å and the system of each bead,
            and returns energies (n_systems,) in kcal/mol and forces (n_beads, 3) in kcal/mol/Å.
        spec: What is said of it.
        identity: How it came in.
        prior: Terms added to what the model gives.
        vocabulary: The model's numbers of the residues; ours if None.
        n_types: The model's bead types are below this number; not known if None.
        cutoffs: Distances in Å at which its interaction starts or ends; that of the
            specification if None.
    """

    kind = "adapted model"

    def __init__(
        self,
        call: Callable[..., Any],
        spec: PotentialSpec,
        identity: AdapterIdentity,
        *,
        prior: PriorParameters | None = None,
        vocabulary: Vocabulary | None = None,
        n_types: int | None = None,
        cutoffs: Sequence[float] | None = None,
    ) -> None:
        super().__init__(call, spec)
        self.identity = identity
        self.vocabulary = vocabulary
        self.n_types = n_types
        self.prior = None if prior is None else NetworkPotential(None, prior, spec)
        given = () if spec.cutoff is None else (spec.cutoff,)
        self.cutoffs = given if cutoffs is None else tuple(cutoffs)

    def forward(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies (n_systems,) and forces (n_beads, 3) of a flat batch.

        Raises:
            ValidationError: The model has no number for a bead, fails, or returns something else.
        """
        energy, forces = self.foreign(bead_types, pos, batch)
        if self.prior is not None:
            prior_energy, prior_forces = self.prior(bead_types, pos, batch)
            energy, forces = energy + prior_energy, forces + prior_forces
        return energy, forces

    def chains(self, bead_types: Tensor, pos: Tensor) -> ChainResult:
        """Return energies and forces of R replicas of one chain.

        Args:
            bead_types: (N,) int64.
            pos: (R, N, 3) in Å.

        Raises:
            ValidationError: The model has no number for a bead, fails, or returns something else.
        """
        n_replicas, n_beads, _ = pos.shape
        batch = torch.arange(n_replicas, device=pos.device).repeat_interleave(n_beads)
        energy, forces = self.foreign(bead_types.repeat(n_replicas), pos.reshape(-1, 3), batch)
        forces = forces.reshape(pos.shape)
        if self.prior is None:
            return ChainResult(energy, torch.zeros_like(energy), forces)
        prior = self.prior.chains(bead_types, pos)
        return ChainResult(energy, prior.prior_energy, forces + prior.forces)

    def foreign(self, bead_types: Tensor, pos: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the model alone gives: energies (n_systems,) and forces (n_beads, 3).

        Raises:
            ValidationError: The model has no number for a bead, fails, or returns something else.
        """
        if self.vocabulary is not None:
            bead_types = self.vocabulary.translated(bead_types, self.spec.name)
        if self.n_types is not None:
            self._check_types(bead_types, self.n_types)
        with contextlib.redirect_stdout(sys.stderr):
            energy, forces = super().forward(bead_types, pos, batch)
        n_systems = int(batch.max()) + 1 if len(batch) else 0
        if energy.numel() != n_systems or forces.shape != pos.shape:
            raise ValidationError(
                f"{self.spec.name}: wrong shapes from the {self.kind}",
                expected=f"energy ({n_systems},) and forces {tuple(pos.shape)}",
                found=f"{tuple(energy.shape)} and {tuple(forces.shape)}",
            )
        for what, tensor in (("energy", energy), ("forces", forces)):
            if tensor.dtype != pos.dtype:
                raise ValidationError(
                    f"{self.spec.name}: {what} in another precision than the positions",
                    expected=pos.dtype,
                    found=tensor.dtype,
                    fix="let the model compute in the precision of what it is given",
                )
        return energy.reshape(n_systems), forces

    def _check_types(self, bead_types: Tensor, n_types: int) -> None:
        lowest, highest = int(bead_types.min()), int(bead_types.max())
        if lowest < 0 or highest >= n_types:
            raise ValidationError(
                f"{self.spec.name}: bead types that the model does not have",
                expected=f"0 to {n_types - 1}",
                found=f"{lowest} to {highest}",
                fix="give the model's own numbers with --adapter-option vocabulary=FILE",
            )
