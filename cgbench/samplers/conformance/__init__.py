"""Does a sampler keep its contract? Every property is measured and compared with a bound.

What any :class:`~cgbench.samplers.Sampler` promises is checked by its method ``sample``. Samplers
that also have ``structures``, as every ``sampler.pt`` has, are checked on sequences of their own:
of all lengths, with letters that are no residue, and with profiles that do not belong to them.
"""

from collections.abc import Sequence

from cgbench.config import Frozen
from cgbench.errors import ValidationError
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.models.conformance import Check, describe, guarded, run_checks
from cgbench.progress import Progress, silent
from cgbench.samplers.conformance.checks import SAMPLER_CHECKS
from cgbench.samplers.conformance.probe import SamplerProbe, equal_frequencies
from cgbench.samplers.contract import Sampler

__all__ = [
    "SAMPLER_CHECKS",
    "SamplerConformanceReport",
    "SamplerProbe",
    "check_sampler",
    "equal_frequencies",
    "run_sampler_check",
]


class SamplerConformanceReport(Frozen):
    """What the conformance suite measured.

    Attributes:
        sampler: Name of the sampler.
        systems: Registry keys of the systems that it was checked on.
        checks: The checks in the order in which they ran; after a wrong interface no other runs.
    """

    sampler: str
    systems: tuple[str, ...]
    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if not check.passed)

    def require(self, what: object) -> None:
        """Raise if any check failed.

        Args:
            what: The file or object that was checked, named in the message.

        Raises:
            ValidationError: Names the failed checks with measured value and bound.
        """
        if self.passed:
            return
        raise ValidationError(
            f"{what}: not a conforming sampler ({len(self.failed)} of {len(self.checks)} checks)",
            expected="every check passed",
            found="; ".join(describe(check) for check in self.failed),
        )


def check_sampler(
    sampler: Sampler,
    systems: Sequence[str],
    *,
    seed: int = 1,
    checks: Sequence[str] | None = None,
    progress: Progress = silent,
) -> SamplerConformanceReport:
    """Run the conformance suite.

    Args:
        sampler: The sampler to check.
        systems: Registry keys of systems or variants that it draws, at least one.
        seed: Seed of the draws.
        checks: Names of the checks to run; all if None.
        progress: Told after each check.

    Raises:
        ValidationError: No system is named. A sampler that fails is no error: see the report.
        UsageError: A system is unknown.
    """
    if not systems:
        raise ValidationError("no system to check a sampler on")
    for key in systems:
        sequence_of(key)
    names = tuple(SAMPLER_CHECKS) if checks is None else tuple(checks)
    probe = SamplerProbe(sampler, systems, seed)
    results = run_checks(names, lambda name: run_sampler_check(name, probe), progress)
    spec = getattr(sampler, "spec", None)
    return SamplerConformanceReport(
        sampler=getattr(spec, "name", type(sampler).__name__),
        systems=tuple(systems),
        checks=results,
    )


def run_sampler_check(name: str, probe: SamplerProbe) -> Check:
    """Run one check; a sampler that raises fails it."""
    return guarded(name, lambda: SAMPLER_CHECKS[name](probe))
