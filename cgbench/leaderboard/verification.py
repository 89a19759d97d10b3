"""Computes a submission again: from its trajectories, by simulating its model or by drawing.

``trajectories_checked``: every metric that takes only trajectories is computed again from those
submitted, with the same seed. The same frames give the same numbers up to rounding, so that values
and ends of intervals have to agree within a tenth of the interval's width, much closer than within
the interval itself, where a number could be moved and still pass.

``reproduced``: the model is simulated again under the same protocol and seed, or a sampler drawn
from again with the same number and seed. Another processor rounds otherwise and chaos does the
rest, so that values have to agree within the interval of their difference, widened for the number
of values compared (Bonferroni); its width is that found here.

Neither runs anything of the submission: trajectories are arrays, and a model is read as plain
tensors. Programs (TorchScript, torch.export) and models behind adapters are refused.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cgbench import config, registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import Ensemble, ReferenceBundle, read_reference, score
from cgbench.leaderboard.comparing import (
    EXACT,
    MORE_THAN_TRAJECTORIES,
    Difference,
    compared,
    repeated,
    same_frames,
)
from cgbench.leaderboard.known import known_reference
from cgbench.leaderboard.mutant_verification import (
    tested_variants,
    variants_from_model,
    variants_from_trajectories,
)
from cgbench.leaderboard.records import Submission, VerificationRecord
from cgbench.leaderboard.sampler_verification import draw_again, models_differences
from cgbench.leaderboard.trajectories import (
    digest,
    read_submitted,
    require_digest,
    scored_keys,
    trajectories_file,
)
from cgbench.models import load_model, model_hash
from cgbench.models.files import is_program
from cgbench.pipeline.simulate import score_simulation, system_input
from cgbench.progress import Progress, silent
from cgbench.results import Result
from cgbench.simulation import simulate
from cgbench.store import find_reference, read_trajectories
from cgbench.version import __version__


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
            "systems": tuple(scored_keys(submission.result))
            if submission.mutants is None
            else tested_variants(submission.mutants),
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
        ValidationError: Trajectories are of another model, protocol, seed or protein.
    """
    result = submission.result
    if submission.mutants is not None:
        return Recomputed(
            "trajectories_checked",
            *_frozen(variants_from_trajectories(submission, path, home=home, progress=progress)),
        )
    file = trajectories_file(path)
    chosen = None if result.protocol is None else registry.protocol(result.protocol.id)
    differences: list[Difference] = []
    digests = {}
    for key in scored_keys(result):
        bundle = _bundle(result, key, home)
        stored = read_submitted(file, key, result)
        digests[key] = require_digest(submission, file, key, stored)
        row = score(
            Ensemble.from_trajectory_set(stored, name=result.model.name),
            bundle,
            protocol=chosen,
            seed=result.seeds["resampling"],
            workers=workers,
            progress=progress,
        )
        differences += compared(result, key, row.result, same_frames, exact=EXACT)
        if (item := result.system(key)) is not None:
            differences += models_differences(item, stored, bundle, workers)
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
    """Simulate the model of a submission again, or draw from its sampler, and compare.

    Args:
        submission: What is verified.
        model: A native ``model.pt`` or a ``sampler.pt``; programs are never run.
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
    result = submission.result
    if result.model.kind == "sampler":
        drawn, left_out, digests = draw_again(
            submission,
            model,
            work,
            lambda key: _bundle(result, key, home),
            workers=workers,
            progress=progress,
        )
        not_again = (*_left_out(result), *left_out)
        return Recomputed("reproduced", tuple(drawn), not_again, digests)
    if (result.protocol is None and submission.mutants is None) or result.model.kind != "potential":
        raise UsageError(
            f"{submission.model}: only potentials can be simulated again, and samplers drawn from",
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
    if submission.mutants is not None or result.protocol is None:
        return Recomputed(
            "reproduced",
            *_frozen(variants_from_model(submission, model, work, home=home, progress=progress)),
        )
    potential = load_model(model)
    chosen = registry.protocol(result.protocol.id)
    n_values = sum(len(item.metrics) for item in result.systems)
    compare = repeated(n_values)
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
        differences += compared(result, key, row.result, compare, exact=("status",))
    return Recomputed("reproduced", tuple(differences), _left_out(result), digests)


def _frozen(
    found: tuple[list[Difference], dict[str, str]],
) -> tuple[tuple[Difference, ...], tuple[str, ...], dict[str, str]]:
    """Return what a test of variants gave; all of its metrics come from trajectories."""
    return tuple(found[0]), (), found[1]


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


def _left_out(result: Result) -> tuple[str, ...]:
    used = {metric for item in result.systems for metric in item.metrics}
    return tuple(sorted(one for one in used if one in MORE_THAN_TRAJECTORIES or ":" in one))


def _text(value: float | str | None) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
