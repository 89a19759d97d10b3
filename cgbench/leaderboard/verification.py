"""Computes a submission again: from its trajectories, or by simulating its model.

``trajectories_checked``: every metric that takes only trajectories is computed again from those
submitted, with the same seed. The same frames give the same numbers up to rounding, so that values
and ends of intervals have to agree within a tenth of the interval's width, much closer than within
the interval itself, where a number could be moved and still pass.

``reproduced``: the model is simulated again under the same protocol and seed. Another processor
rounds otherwise and chaos does the rest, so that values have to agree within the interval of their
difference, widened for the number of values compared (Bonferroni). The width is the one found here.

Neither runs anything of the submission: trajectories are arrays, and a model is read as plain tensors.
Programs (TorchScript, torch.export) and models behind adapters are refused.
"""

import datetime
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scipy.stats import norm

from cgbench import config, registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Ensemble, ReferenceBundle, read_reference, score
from cgbench.leaderboard.known import known_reference
from cgbench.leaderboard.records import Submission, VerificationRecord
from cgbench.leaderboard.trajectories import (
    digest,
    read_submitted,
    scored_keys,
    trajectories_file,
)
from cgbench.models import load_model, model_hash
from cgbench.models.files import is_program
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.progress import Progress, silent
from cgbench.results import MetricValue, Result, SystemResult
from cgbench.simulation import simulate
from cgbench.store import find_reference, read_trajectories
from cgbench.version import __version__

#: Share of an interval's width by which numbers of the same frames may differ.
_ROUNDING_SHARE: Final = 0.1
#: Relative rounding, for values without interval.
_RELATIVE: Final = 1e-5
#: The same for the reference's own values, which rest on an eigenvalue problem.
_TARGET_ROUNDING: Final = 1e-3
#: Factor by which widths of intervals of two simulations may differ.
_WIDTHS: Final = 10.0
#: Metrics that take more than trajectories: forces of the test part, training frames.
_MORE_THAN_TRAJECTORIES: Final = ("force_mse", "force_l1", "novelty")
#: What of a system has to be the same to the last digit, when it is of the same frames.
_EXACT: Final = (
    "status", "gates", "n_trajectories", "n_frames", "weights_status", "converged",
)  # fmt: skip


@dataclass(frozen=True)
class Difference:
    """One value, submitted and computed again.

    Attributes:
        system: Registry key.
        what: Metric id, or the field.
        submitted: What the submission says.
        recomputed: What was found.
        ratio: The difference over its tolerance; above 1 they disagree. Infinite for what has to be
            the same and is not.
    """

    system: str
    what: str
    submitted: float | str | None
    recomputed: float | str | None
    ratio: float


@dataclass(frozen=True)
class Recomputed:
    """What verifying a submission found.

    Attributes:
        level: What it was checked for.
        differences: Every value that was compared.
        not_recomputed: Metrics that were not.
        digests: Content of the trajectories, by system.
    """

    level: str
    differences: tuple[Difference, ...]
    not_recomputed: tuple[str, ...]
    digests: Mapping[str, str]

    @property
    def disagreements(self) -> list[Difference]:
        """What differs by more than its tolerance, the worst first."""
        found = [one for one in self.differences if one.ratio > 1.0]
        return sorted(found, key=lambda one: -one.ratio)

    def require(self, what: object) -> None:
        """Refuse a submission that does not agree.

        Raises:
            ValidationError: It does not; the message names the worst differences.
        """
        if not (worst := self.disagreements):
            return
        raise ValidationError(
            f"{what}: {len(worst)} of {len(self.differences)} values are not those that come out",
            found="\n".join(
                f"{one.system} {one.what}: submitted {_text(one.submitted)}, "
                f"found {_text(one.recomputed)}"
                for one in worst[:8]
            ),
            fix="submit the result that 'cgbench evaluate' wrote, with its own trajectories",
        )

    def record(self, submission: Submission, by: str) -> VerificationRecord:
        """Return the record of a submission that agrees.

        Raises:
            ValidationError: It does not agree, or ``by`` is no plain line of text.
        """
        self.require(submission.model)
        data = {
            "level": self.level,
            "by": by,
            "date": datetime.datetime.now(tz=datetime.UTC).date(),
            "suite_version": __version__,
            "result": submission.result_fingerprint,
            "systems": tuple(scored_keys(submission.result)),
            "n_metrics": len(self.differences),
            "largest_difference": max((one.ratio for one in self.differences), default=0.0),
            "not_recomputed": self.not_recomputed,
            "digests": dict(self.digests),
        }
        return config.validate(VerificationRecord, data, "verification")


def verify_trajectories(
    submission: Submission,
    path: Path,
    *,
    home: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Recomputed:
    """Compute the metrics of a submission again from its trajectories.

    Args:
        submission: What is verified.
        path: A ``trajectories.zarr``, or the run folder that holds it; not trusted.
        home: Data home, of the reference bundles.
        workers: Threads that measure frames; all cores if None.
        progress: Told how far it is.

    Raises:
        UsageError: Trajectories or references are not at hand.
        IntegrityError: A file is damaged or could do harm, or trajectories are not those that the
            submission names by their hash.
        ValidationError: Trajectories are of another model, protocol, seed or protein, or they
            belong to a track whose numbers do not come from trajectories alone.
    """
    result = _verifiable(submission)
    file = trajectories_file(path)
    chosen = None if result.protocol is None else registry.protocol(result.protocol.id)
    stated = {} if submission.trajectories is None else submission.trajectories.digests
    differences: list[Difference] = []
    digests = {}
    for key in scored_keys(result):
        bundle = _bundle(result, key, home)
        stored = read_submitted(file, key, result)
        digests[key] = digest(stored)
        if key in stated and stated[key] != digests[key]:
            raise IntegrityError(
                f"{file}: other trajectories of {key} than those submitted",
                expected=stated[key],
                found=digests[key],
            )
        row = score(
            Ensemble.from_trajectory_set(stored, name=result.model.name),
            bundle,
            protocol=chosen,
            seed=result.seeds["resampling"],
            workers=workers,
            progress=progress,
        )
        differences += _compared(result, key, row.result, _same_frames, exact=_EXACT)
    return Recomputed("trajectories_checked", tuple(differences), _left_out(result), digests)


def verify_model(
    submission: Submission,
    model: Path,
    work: Path,
    *,
    home: Path | None = None,
    workers: int | None = None,
    progress: Progress = silent,
) -> Recomputed:
    """Simulate the model of a submission again and compare.

    Args:
        submission: What is verified.
        model: A native ``model.pt``; programs are never run.
        work: Folder of the new trajectories, so that an interrupted verification goes on.
        home: Data home.
        workers: Threads that measure frames; all cores if None.
        progress: Told how far it is.

    Raises:
        UsageError: The model is a program, or was opened through an adapter, or a reference is not
            at hand.
        IntegrityError: The model is damaged or unsafe.
        ValidationError: It is another model than the one submitted, or was trained on what it is
            tested on.
    """
    result = _verifiable(submission)
    if result.protocol is None or result.model.kind != "potential":
        raise UsageError(
            f"{submission.model}: only potentials can be simulated again",
            found=result.model.kind,
            fix="give --trajectories",
        )
    if result.model.adapter is not None or is_program(model):
        raise UsageError(
            f"{model}: a program or a model behind an adapter; verification never runs foreign "
            "code, whoever vouches for it",
            fix="give --trajectories",
        )
    found = model_hash(model)
    if found != result.model.hash:
        raise ValidationError(
            f"{model}: not the model that was submitted",
            expected=result.model.hash,
            found=found,
        )
    potential = load_model(model)
    chosen = registry.protocol(result.protocol.id)
    n_compared = sum(len(item.metrics) for item in result.systems)
    compare = _repeated(n_compared)
    differences: list[Difference] = []
    digests = {}
    for key in scored_keys(result):
        bundle = _bundle(result, key, home)
        target = work / "trajectories.zarr"
        simulate(
            potential,
            system_input(key, home, bundle),
            chosen,
            seed=result.seeds["simulation"],
            out=target,
            model_hash=found,
            progress=progress,
        )
        row = score_simulation(
            target,
            bundle,
            chosen,
            name=result.model.name,
            errors=None,
            seed=result.seeds["resampling"],
            workers=workers,
            progress=progress,
        )
        digests[key] = digest(read_trajectories(target, key))
        differences += _compared(result, key, row.result, compare, exact=("status",))
    return Recomputed("reproduced", tuple(differences), _left_out(result), digests)


def _verifiable(submission: Submission) -> Result:
    if submission.result.track == "mutants":
        raise ValidationError(
            f"{submission.model}: results of variants cannot be verified from trajectories yet",
            expected="a result on proteins",
            found="track mutants",
        )
    return submission.result


def _bundle(result: Result, key: str, home: Path | None) -> ReferenceBundle:
    bundle = read_reference(find_reference(key, home))
    known = known_reference(key)
    stated = result.reference.fingerprints.get(key, bundle.fingerprint)
    for expected in (stated, bundle.fingerprint if known is None else known.fingerprint):
        if bundle.fingerprint != expected:
            raise ValidationError(
                f"{key}: the reference at hand is not the one that the result names, or not the "
                "one that the leaderboard knows",
                expected=expected,
                found=bundle.fingerprint,
            )
    return bundle


#: Returns the difference of two values over their tolerance.
Compare = Callable[[MetricValue, MetricValue], float]


def _compared(
    result: Result, key: str, found: SystemResult, compare: Compare, *, exact: tuple[str, ...]
) -> list[Difference]:
    item = result.system(key)
    if item is None:  # pragma: no cover - keys are those of the result
        return []
    differences = []
    for name in exact:
        one, two = (getattr(side, name) for side in (item, found))
        same = 0.0 if one == two else math.inf
        differences.append(Difference(key, name, str(one)[:200], str(two)[:200], same))
    for metric in sorted(item.metrics.keys() | found.metrics.keys()):
        if metric in _MORE_THAN_TRAJECTORIES or ":" in metric:
            continue
        one, two = item.metrics.get(metric), found.metrics.get(metric)
        if one is None or two is None:
            absent = "absent"
            differences.append(
                Difference(
                    key, metric, absent if one is None else one.value,
                    absent if two is None else two.value, math.inf,
                )
            )  # fmt: skip
            continue
        ratio = compare(one, two)
        if exact == _EXACT and one.status != two.status:
            ratio = math.inf
        differences.append(Difference(key, metric, one.value, two.value, ratio))
        if exact == _EXACT:
            differences += _ends(key, metric, one, two)
    return differences


def _ends(key: str, metric: str, one: MetricValue, two: MetricValue) -> list[Difference]:
    """Compare what decides ranks beside the value: ends of the interval, and the target."""
    scale = _tolerance(two)
    # The target is the reference's own value, whatever the model's interval is.
    fixed = _TARGET_ROUNDING * max(1e-3, abs(two.target or 0.0))
    compared = (
        ("lower end", one.lo, two.lo, scale),
        ("upper end", one.hi, two.hi, scale),
        ("target", one.target, two.target, fixed),
    )
    return [
        Difference(key, f"{metric}, {name}", a, b, _ratio(a, b, tolerance))
        for name, a, b, tolerance in compared
    ]


def _same_frames(one: MetricValue, two: MetricValue) -> float:
    return _ratio(one.value, two.value, _tolerance(two))


def _tolerance(value: MetricValue) -> float:
    scale = _RELATIVE * max(1e-3, abs(value.value or 0.0))
    if value.lo is not None and value.hi is not None:
        scale = max(scale, _ROUNDING_SHARE * (value.hi - value.lo))
    return scale


def _repeated(n_values: int) -> Compare:
    """Return the comparison of two independent simulations, for so many values at once."""
    level = registry.constants().confidence_level
    tail = (1.0 - level) / 2.0
    widened = float(norm.isf(tail / max(1, n_values)) / norm.isf(tail))

    def compare(one: MetricValue, two: MetricValue) -> float:
        if (one.value, one.lo, one.hi) == (two.value, two.lo, two.hi):
            return 0.0
        if one.value is None:
            # Whether any frame is in a state is itself random, and what has no value scores 0.
            return 0.0
        if two.value is None:
            return math.inf
        if two.lo is None or two.hi is None:
            return _ratio(one.value, two.value, _tolerance(two))
        # The width that was found here counts for both: what a submission says of its own
        # interval makes no number pass.
        width = two.hi - two.lo
        half = math.hypot(width, width) / 2.0
        apart = abs(one.value - two.value) / max(
            widened * half, _RELATIVE * abs(two.value), _RELATIVE**2
        )
        if one.lo is None or one.hi is None or min(width, one.hi - one.lo) <= 0.0:
            return apart
        return max(apart, abs(math.log((one.hi - one.lo) / width)) / math.log(_WIDTHS))

    return compare


def _ratio(one: float | None, two: float | None, scale: float) -> float:
    if one is None or two is None:
        return 0.0 if one is two else math.inf
    return abs(one - two) / scale


def _left_out(result: Result) -> tuple[str, ...]:
    used = {metric for item in result.systems for metric in item.metrics}
    return tuple(
        sorted(one for one in used if one in _MORE_THAN_TRAJECTORIES or ":" in one)
    )


def _text(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
