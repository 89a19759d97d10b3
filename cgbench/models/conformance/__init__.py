"""Does a potential keep its contract? Every property is measured and compared with a bound."""

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from cgbench.config import Frozen
from cgbench.errors import CgbenchError, ValidationError
from cgbench.models.conformance.checks import CHECKS
from cgbench.models.conformance.probe import Check, Probe
from cgbench.models.potential import Potential
from cgbench.progress import Progress, silent

__all__ = [
    "CHECKS",
    "Check",
    "ConformanceReport",
    "Probe",
    "check_potential",
    "default_cutoffs",
    "describe",
    "guarded",
    "run_check",
    "run_checks",
]

#: Chains shorter than this have no dihedral and too few distances to check anything on.
MINIMUM_BEADS = 5


class ConformanceReport(Frozen):
    """What the conformance suite measured.

    Attributes:
        potential: Name of the potential.
        systems: Names of the systems that it was checked on.
        checks: The checks in the order in which they ran; after a wrong interface no other runs.
    """

    potential: str
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

    @property
    def throughput(self) -> float | None:
        """Steps a second with 32 replicas of the first system, if it came to that."""
        return next((check.value for check in self.checks if check.name == "throughput"), None)

    def require(self, what: object) -> None:
        """Raise if any check failed.

        Args:
            what: The file or object that was checked, named in the message.

        Raises:
            ValidationError: Names the failed checks with measured value and bound.
        """
        if self.passed:
            return
        found = "; ".join(describe(check) for check in self.failed)
        raise ValidationError(
            f"{what}: not a conforming potential ({len(self.failed)} of {len(self.checks)} checks)",
            expected="every check passed",
            found=found,
        )


def describe(check: Check) -> str:
    """Return a check as one line: name, measured value, bound and detail."""
    numbers = ""
    if check.value is not None and check.bound is not None:
        numbers = f" {check.value:.2g}, bound {check.bound:.2g}"
    return f"{check.name}{numbers}: {check.detail}"


def check_potential(
    potential: Potential,
    systems: Mapping[str, tuple[Tensor, Tensor]],
    *,
    cutoffs: Sequence[float] | None = None,
    seed: int = 0,
    checks: Sequence[str] = tuple(CHECKS),
    progress: Progress = silent,
) -> ConformanceReport:
    """Run the conformance suite.

    Args:
        potential: The potential to check; it is not changed.
        systems: For each name, bead types (N,) int64 and frames (n, N, 3) in Å, N at least 5. A few
            frames are enough; no more than four of a system are used.
        cutoffs: Distances in Å at which interactions start or end; by default what the potential's
            ``cutoffs``, or else the ``cutoff`` of its spec, says.
        seed: Seed of random directions and rotations.
        checks: Names of the checks to run.
        progress: Told after each check.

    Raises:
        ValidationError: The structures do not fit the check. A potential that fails is no error:
            see the report.
    """
    _check_systems(systems)
    chosen = default_cutoffs(potential) if cutoffs is None else tuple(cutoffs)
    probe = Probe(potential, systems, chosen, seed)
    results = run_checks(checks, lambda name: run_check(name, probe), progress)
    spec = getattr(potential, "spec", None)
    return ConformanceReport(
        potential=getattr(spec, "name", type(potential).__name__),
        systems=tuple(systems),
        checks=results,
    )


def run_check(name: str, probe: Probe) -> Check:
    """Run one check; a potential that raises fails it."""
    return guarded(name, lambda: CHECKS[name](probe))


def run_checks(
    names: Sequence[str], run: Callable[[str], Check], progress: Progress
) -> tuple[Check, ...]:
    """Run checks in order; after a wrong interface no other is run.

    Args:
        names: Of the checks.
        run: Runs one.
        progress: Told after each check.
    """
    results: list[Check] = []
    for index, name in enumerate(names):
        results.append(run(name))
        progress("conformance", index + 1, len(names))
        if name == "interface" and not results[-1].passed:
            break
    return tuple(results)


def guarded(name: str, call: Callable[[], Check]) -> Check:
    """Return what a check finds; foreign code that raises fails it."""
    try:
        return call()
    except CgbenchError as error:
        detail = error.message.replace("\n ", ";")
    except Exception as error:  # noqa: BLE001 - foreign code may raise anything
        detail = f"the call failed: {type(error).__name__}: {error}"
    return Check(name=name, passed=False, value=None, bound=None, detail=detail)


def default_cutoffs(potential: Potential) -> tuple[float, ...]:
    """Return the distances in Å at which a potential says that interactions start or end."""
    own = getattr(potential, "cutoffs", None)
    if own is not None:
        return tuple(float(cutoff) for cutoff in own)
    cutoff = getattr(getattr(potential, "spec", None), "cutoff", None)
    return () if cutoff is None else (float(cutoff),)


def _check_systems(systems: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    if not systems:
        raise ValidationError("no structures to check a potential on")
    for name, (types, frames) in systems.items():
        shape = tuple(frames.shape)
        fits = len(shape) == 3 and shape[0] > 0 and shape[2] == 3 and shape[1] == len(types)
        if not fits or len(types) < MINIMUM_BEADS:
            raise ValidationError(
                f"{name}: structures do not fit the conformance check",
                expected=f"bead types (N,) and frames (n, N, 3) with N ≥ {MINIMUM_BEADS}",
                found=f"{tuple(types.shape)} and {shape}",
            )
