"""The conformance suites as pytest classes: subclass one to test a potential or sampler of yours.

Example::

    from cgbench.testing.conformance import PotentialConformance, SamplerConformance

    class TestMyPotential(PotentialConformance):
        def make_potential(self):
            return MyPotential()

        def make_systems(self):
            return {"chignolin": (bead_types, frames)}

    class TestMySampler(SamplerConformance):
        systems = ("chignolin", "trpcage")

        def make_sampler(self):
            return MySampler()
"""

from collections.abc import Mapping

import pytest
from torch import Tensor

from cgbench.models import Potential
from cgbench.models.conformance import CHECKS, Probe, default_cutoffs, describe, run_check
from cgbench.samplers import Sampler
from cgbench.samplers.conformance import SAMPLER_CHECKS, SamplerProbe, run_sampler_check


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


class SamplerConformance:
    """One test for each check of the conformance suite of samplers.

    A subclass, whose name starts with ``Test``, provides ``make_sampler`` and ``systems``.
    """

    #: Registry keys of the systems that the sampler draws; the first one is drawn most often.
    systems: tuple[str, ...] = ()

    def make_sampler(self) -> Sampler:
        """Return the sampler to test."""
        pytest.fail(f"{type(self).__name__} must define make_sampler")

    @pytest.mark.parametrize("check", sorted(SAMPLER_CHECKS))
    def test_conformance(self, check: str) -> None:
        """Run one check of the suite on a sampler made for it."""
        if not self.systems:
            pytest.fail(f"{type(self).__name__} must name systems")
        result = run_sampler_check(check, SamplerProbe(self.make_sampler(), self.systems))
        if not result.passed:
            pytest.fail(describe(result), pytrace=False)
