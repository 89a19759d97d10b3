"""The conformance suite as a pytest class: subclass it to test a potential of your own.

Example::

    from cgbench.testing.conformance import PotentialConformance

    class TestMyPotential(PotentialConformance):
        def make_potential(self):
            return MyPotential()

        def make_systems(self):
            return {"chignolin": (bead_types, frames)}
"""

from collections.abc import Mapping

import pytest
from torch import Tensor

from cgbench.models import Potential
from cgbench.models.conformance import CHECKS, Probe, default_cutoffs, describe, run_check


class PotentialConformance:
    """One test for each check of the conformance suite.

    A subclass, whose name starts with ``Test``, provides ``make_potential`` and ``make_systems``.
    """

    #: Distances in Å at which interactions start or end; None for what the potential says.
    cutoffs: tuple[float, ...] | None = None

    def make_potential(self) -> Potential:
        """Return the potential to test."""
        pytest.fail(f"{type(self).__name__} must define make_potential")

    def make_systems(self) -> Mapping[str, tuple[Tensor, Tensor]]:
        """Return for each name bead types (N,) and frames (n, N, 3) in Å, N at least 5."""
        pytest.fail(f"{type(self).__name__} must define make_systems")

    @pytest.mark.parametrize("check", sorted(CHECKS))
    def test_conformance(self, check: str) -> None:
        """Run one check of the suite on a potential made for it."""
        potential = self.make_potential()
        cutoffs = default_cutoffs(potential) if self.cutoffs is None else self.cutoffs
        result = run_check(check, Probe(potential, self.make_systems(), cutoffs))
        if not result.passed:
            pytest.fail(describe(result), pytrace=False)
