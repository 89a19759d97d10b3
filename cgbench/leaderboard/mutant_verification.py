"""Computes a test of variants again: from the trajectories of both its stages, or by simulation.

From the same frames everything comes out the same: what became of each control and variant, the
starts that were unfolded and those that reached the native state, and every metric. Simulated again
on another machine, chaos decides single trajectories: a control or a variant whose median Q lies
near the limit may fall on either side of it, and counts of trajectories are compared as shares. But
a recovery that counts has to be found again.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from scipy.stats import fisher_exact

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import read_reference
from cgbench.leaderboard.comparing import EXACT, Difference, compared, repeated, same_frames
from cgbench.leaderboard.known import known_reference
from cgbench.leaderboard.records import Submission
from cgbench.leaderboard.trajectories import (
    digest,
    read_stage_one,
    read_submitted,
    require_digest,
    stage_one_file,
    trajectories_file,
)
from cgbench.pipeline.mutant_outcomes import parent_outcome, variant_outcome
from cgbench.pipeline.mutant_rows import VariantRun, scored_variant
from cgbench.pipeline.mutant_screening import (
    Member,
    Screened,
    controls_of,
    group_of,
    looked_at,
    member_of,
)
from cgbench.pipeline.mutants import evaluate_mutants
from cgbench.progress import Progress, silent
from cgbench.results import Result, read_result
from cgbench.results.mutants import (
    ControlOutcome,
    MutantsOutcome,
    ParentOutcome,
    VariantOutcome,
)
from cgbench.store import find_reference

Found = tuple[list[Difference], dict[str, str]]

#: How near the limit the median Q of one trajectory may lie for either outcome to be taken, when it
#: is simulated again: chosen here, about the spread of the median over a few repetitions.
_NEAR: Final = 0.1
#: Rounding of a median that was written and read again.
_ROUNDING: Final = 1e-6
_SIMULATED: Final = ("stays", "unfolds", "lost")


def variants_from_trajectories(
    submission: Submission, path: Path, *, home: Path | None = None, progress: Progress = silent
) -> Found:
    """Compute a test of variants again from its trajectories.

    Args:
        submission: A submission of the mutants' track.
        path: The run folder, with the trajectories of both stages; not trusted.
        home: Data home, of native structures and of the parents' references.
        progress: Told how far it is.

    Returns:
        Every value that was compared, and the content of the trajectories by group.

    Raises:
        UsageError: Trajectories, native structures or references are not at hand.
        IntegrityError: A file is damaged or could do harm, or trajectories are not those that the
            submission names by their hash.
        ValidationError: Trajectories are of another model, protocol, seed or sequence.
    """
    result, outcome = submission.result, _outcome(submission)
    differences: list[Difference] = []
    digests: dict[str, str] = {}
    for parent in outcome.parents:
        family = [one for one in outcome.variants if one.parent == parent.parent]
        screened = _stage_one(submission, parent, family, path, home, digests)
        controls = parent_outcome(parent.parent, screened, None)
        differences += _parents(parent, controls, near=False)
        for one in family:
            if one.status not in _SIMULATED:
                continue
            run = None
            if one.unfolded_starts is not None:
                run = _stage_two(submission, one, path, home, digests, progress)
                differences += compared(result, one.key, run.row.result, same_frames, exact=EXACT)
            variant, _ = member_of(one.key, home)
            found = variant_outcome(variant, screened[one.key], run, None, controls)
            differences += _variants(one, found, near=False)
    return differences, digests


def variants_from_model(
    submission: Submission,
    model: Path,
    work: Path,
    *,
    home: Path | None = None,
    progress: Progress = silent,
) -> Found:
    """Simulate a test of variants again; the model was checked to be the one submitted.

    Args:
        submission: A submission of the mutants' track.
        model: A native ``model.pt``.
        work: Folder of the new trajectories.
        home: Data home.
        progress: Told how far it is.

    Raises:
        UsageError: Native structures or references are not at hand.
    """
    result, outcome = submission.result, _outcome(submission)
    keys = [one.key for one in outcome.variants if one.status in _SIMULATED]
    again = evaluate_mutants(
        model, keys, protocol=outcome.protocol, out=work, seed=outcome.seed, home=home,
        progress=progress,
    )  # fmt: skip
    differences: list[Difference] = []
    parents = {one.parent: one for one in again.parents}
    for parent in outcome.parents:
        if parent.parent in parents:
            differences += _parents(parent, parents[parent.parent], near=True)
    fresh = read_result(work / "result.json")
    compare = repeated(sum(len(item.metrics) for item in result.systems))
    variants = {one.key: one for one in again.variants}
    digests: dict[str, str] = {}
    for one in outcome.variants:
        if one.key not in variants:
            continue
        if variants[one.key].status == "missing":
            raise UsageError(f"{one.key}: not at hand", found=variants[one.key].reason)
        differences += _variants(one, variants[one.key], near=True)
        row = fresh.system(one.key)
        if one.unfolded_starts is not None and row is not None and row.status == "ok":
            differences += compared(result, one.key, row, compare, exact=("status",))
            file = trajectories_file(work)
            stored = read_submitted(file, one.key, fresh, sequence=variants[one.key].sequence)
            digests[one.key] = digest(stored)
    return differences, digests


def tested_variants(outcome: MutantsOutcome) -> tuple[str, ...]:
    """Return the variants that a test simulated."""
    return tuple(one.key for one in outcome.variants if one.status in _SIMULATED)


def trajectory_digests(result: Result, outcome: MutantsOutcome, path: Path) -> dict[str, str]:
    """Return the content of the trajectories of both stages, by group.

    Args:
        result: The result of the test.
        outcome: Its outcome, whose sequences the trajectories have to be of.
        path: The run folder.
    """
    found = {}
    for parent in outcome.parents:
        family = [one for one in outcome.variants if one.parent == parent.parent]
        for group, sequences in _groups(parent, family).items():
            stored = read_stage_one(stage_one_file(path), group, result, sequences)
            found[group] = digest(stored)
    for one in outcome.variants:
        if one.unfolded_starts is not None:
            file = trajectories_file(path)
            stored = read_submitted(file, one.key, result, sequence=one.sequence)
            found[one.key] = digest(stored)
    return found


def _groups(parent: ParentOutcome, family: Sequence[VariantOutcome]) -> dict[str, list[str]]:
    """Return the sequences of each batch of stage one, in the order of its trajectories."""
    groups: dict[str, list[str]] = {}
    chains: list[ControlOutcome | VariantOutcome] = [*parent.controls, *family]
    for one in chains:
        if one.status in _SIMULATED and one.sequence is not None:
            groups.setdefault(f"{parent.parent}-{len(one.sequence)}-beads", []).append(one.sequence)
    return groups


def _stage_one(
    submission: Submission,
    parent: ParentOutcome,
    family: Sequence[VariantOutcome],
    path: Path,
    home: Path | None,
    digests: dict[str, str],
) -> dict[str, Screened]:
    """Look at the trajectories of stage one again; members that were not simulated stay so."""
    protocol = registry.protocol(registry.mutant_screening().protocol)
    members: list[Member] = []
    screened: dict[str, Screened] = {}
    for one, member in zip(parent.controls, controls_of(parent.parent, home), strict=True):
        if one.status in _SIMULATED:
            members.append(member)
        else:
            screened[member.key] = Screened(one.status, None, one.reason)
    members += [member_of(one.key, home)[1] for one in family if one.status in _SIMULATED]
    for number in sorted({len(member.sequence) for member in members}):
        batch = [member for member in members if len(member.sequence) == number]
        group = group_of(parent.parent, batch[0])
        sequences = [member.sequence for member in batch]
        file = stage_one_file(path)
        stored = read_stage_one(file, group, submission.result, sequences)
        digests[group] = require_digest(submission, file, group, stored)
        screened |= looked_at(stored, batch, protocol)
    return screened


def _stage_two(
    submission: Submission,
    one: VariantOutcome,
    path: Path,
    home: Path | None,
    digests: dict[str, str],
    progress: Progress,
) -> VariantRun:
    result = submission.result
    variant, member = member_of(one.key, home)
    bundle = read_reference(find_reference(variant.parent, home))
    known = known_reference(variant.parent)
    if known is not None and known.fingerprint != bundle.fingerprint:
        raise ValidationError(
            f"{variant.parent}: the reference at hand is not the one that the leaderboard knows",
            expected=known.fingerprint,
            found=bundle.fingerprint,
        )
    if result.protocol is None:
        raise ValidationError(f"{one.key}: a second stage without a protocol")
    file = trajectories_file(path)
    stored = read_submitted(file, one.key, result, sequence=member.sequence)
    digests[one.key] = require_digest(submission, file, one.key, stored)
    run = scored_variant(
        stored,
        bundle,
        variant,
        member,
        registry.protocol(result.protocol.id),
        name=result.model.name,
        seed=result.seeds["resampling"],
        progress=progress,
    )
    stated = result.reference.fingerprints.get(one.key)
    if stated is not None and stated != run.reference:
        raise ValidationError(
            f"{one.key}: scored against another reference or native structure",
            expected=run.reference,
            found=stated,
        )
    return run


def _outcome(submission: Submission) -> MutantsOutcome:
    if submission.mutants is None:
        raise ValidationError(f"{submission.model}: not a result of the test of variants")
    return submission.mutants


def _parents(one: ParentOutcome, two: ParentOutcome, *, near: bool) -> list[Difference]:
    found = []
    again = {control.name: control for control in two.controls}
    for control in one.controls:
        where, other = f"{one.parent} {control.name}", again[control.name]
        found += _looked_at(where, control.status, control.median_q, other, near=near)
    if not near:
        found.append(_same(one.parent, "controls unfold", one.controls_unfold, two.controls_unfold))
    return found


def _variants(one: VariantOutcome, two: VariantOutcome, *, near: bool) -> list[Difference]:
    found = _looked_at(one.key, one.status, one.median_q, two, near=near)
    if not near:
        names = ("unfolded_starts", "reached_native", "recovered", "counts")
        return found + [
            _same(one.key, name, getattr(one, name), getattr(two, name)) for name in names
        ]
    # Only a recovery that counts gives a score, so that only it has to be found again.
    claimed, again = bool(one.recovered and one.counts), bool(two.recovered and two.counts)
    lost = math.inf if claimed and not again else 0.0
    found.append(Difference(one.key, "recovered and counts", str(claimed), str(again), lost))
    if one.unfolded_starts and two.unfolded_starts:
        shares = [(item.reached_native or 0, item.unfolded_starts or 0) for item in (one, two)]
        table = np.array([[hit, total - hit] for hit, total in shares])
        chance = float(fisher_exact(table).pvalue)
        level = (1.0 - registry.constants().confidence_level) / len(registry.mutants())
        ratio = math.log(max(chance, 1e-300)) / math.log(level)
        found.append(Difference(one.key, "reached native", shares[0][0], shares[1][0], ratio))
    return found


def _looked_at(
    where: str,
    status: str,
    median: float | None,
    two: ControlOutcome | VariantOutcome,
    *,
    near: bool,
) -> list[Difference]:
    """Compare what became of one chain in stage one."""
    if near and status != two.status and None not in (median, two.median_q):
        least = registry.mutant_screening().least_q
        apart = max(abs((one or 0.0) - least) for one in (median, two.median_q))
        return [Difference(where, "median Q", median, two.median_q, apart / _NEAR)]
    found = [_same(where, "status", status, two.status)]
    if not near and (median is not None or two.median_q is not None):
        ratio = (
            math.inf
            if median is None or two.median_q is None
            else abs(median - two.median_q) / _ROUNDING
        )
        found.append(Difference(where, "median Q", median, two.median_q, ratio))
    return found


def _same(where: str, what: str, one: object, two: object) -> Difference:
    return Difference(where, what, str(one), str(two), 0.0 if one == two else math.inf)
