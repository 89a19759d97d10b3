"""The structures task: models of test domains against their structures, level by level."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final, Literal

import numpy as np
import pydantic
from scipy.stats import rankdata

from cgbench import config, provenance, registry
from cgbench.config import Frozen
from cgbench.errors import CgbenchError, SimulationError, UsageError
from cgbench.pipeline.sampling import OpenedSampler, open_sampler
from cgbench.pipeline.sequence_models import sequence_models
from cgbench.progress import Progress, silent
from cgbench.provenance import Provenance
from cgbench.registry import Level
from cgbench.results.sequence_models import SequenceModels
from cgbench.splits.cath import DEPTH
from cgbench.splits.cath_split import StructureSplit, part_of
from cgbench.splits.cath_structures import Structure, StructureSet, open_structures
from cgbench.train.recurrent_data import profile_of

RECORD: Final = "structures.json"
#: Fewer domains have no correlation worth a number.
_LEAST_DOMAINS: Final = 3


class DomainScore(Frozen):
    """Models of one test domain.

    Attributes:
        name: As in the list of domains.
        code: Its classification.
        level: The level at which it is new.
        n_residues: Its length.
        models: What came of them; None where none could be drawn.
        reason: Why none could.
    """

    name: str
    code: str
    level: Level
    n_residues: int
    models: SequenceModels | None = None
    reason: str | None = None


class LevelScore(Frozen):
    """Means over the test domains of a level, or of all.

    Attributes:
        n_domains: Domains with models.
        tm: Mean TM-score of the representatives; None without domains.
        mean_tm: Mean TM-score of all models.
        best_tm: Mean of the best TM-score of each domain.
        rmsd: Mean RMSD of the representatives in Å.
        n_clusters: Mean number of clusters.
    """

    n_domains: Annotated[int, pydantic.Field(ge=0)]
    tm: float | None = None
    mean_tm: float | None = None
    best_tm: float | None = None
    rmsd: float | None = None
    n_clusters: float | None = None


class StructuresOutcome(Frozen):
    """What a sampler did on a split of structures (``structures.json``).

    Attributes:
        sampler: Its name.
        sampler_hash: Names its file.
        split: Id of the split.
        split_fingerprint: Of the split.
        n_models: Models of each domain.
        seed: Of the draws.
        total: Over all test domains.
        levels: By the level at which domains are new.
        confidence: Rank correlation (Spearman) of the number of clusters with the TM-score of the
            representative: negative where few clusters mean a good model; None where it has no
            meaning.
        seconds_per_sample: Mean wall time of one model.
        training_seconds: Wall time of the training.
        domains: Every test domain.
        notes: What a reader has to know.
    """

    format: Literal["cgbench-structures"] = "cgbench-structures"
    version: Literal[1] = 1
    sampler: str
    sampler_hash: str
    split: str
    split_fingerprint: str
    n_models: int
    seed: int
    total: LevelScore
    levels: dict[Level, LevelScore]
    confidence: float | None
    seconds_per_sample: float | None
    training_seconds: float | None
    domains: tuple[DomainScore, ...]
    notes: tuple[str, ...]
    provenance: Provenance


class _Kept(Frozen):
    """The score of a domain with what it was made from."""

    fingerprint: str
    score: DomainScore


def score_structures(
    path: Path,
    structures: Path,
    *,
    n: int | None = None,
    profiles: Path | None = None,
    out: Path,
    seed: int = 1,
    workers: int = 1,
    force: bool = False,
    progress: Progress = silent,
) -> StructuresOutcome:
    """Draw models of every test domain, cluster them and compare the representative.

    A domain is kept when it is done, so that the same command goes on where it was interrupted.

    Args:
        path: A ``sampler.pt``.
        structures: Folder of ``cgbench splits make --cath``.
        n: Models of each domain; the registry's if None.
        profiles: Folder of the profiles of domains.
        out: Folder to write.
        seed: Of the draws.
        workers: Threads of the searches.
        force: Do everything again.
        progress: Told of domains done.

    Raises:
        UsageError: A file is not there, the split tests nothing, or one model is no ensemble.
        IntegrityError: A file is damaged.
        ValidationError: The split is not one.
        SimulationError: No domain could be modelled.
    """
    constants = registry.sampler_constants()
    n_models = constants.models.per_sequence if n is None else n
    if n_models < 2:
        raise UsageError("--n: too few models to cluster", expected="at least 2", found=n_models)
    opened = open_sampler(path)
    split, known = open_structures(structures)
    tested = [(level, name) for level in DEPTH for name in split.parts[part_of(level)]]
    if not tested:
        raise UsageError(
            f"{structures}: no level could be held out, so that there is nothing to test",
            fix="make the split of more domains",
        )
    scores: list[DomainScore] = []
    for number, (level, name) in enumerate(tested):
        progress("domains", number, len(tested))
        scores.append(
            _score(opened, split, known[name], level, n_models, profiles, out, seed, workers, force)
        )
    progress("domains", len(tested), len(tested))
    if not any(one.models for one in scores):
        raise SimulationError(
            f"{path}: no test domain could be modelled", found=scores[0].reason or "no reason"
        )
    outcome = _outcome(opened, split, known, scores, n_models, seed)
    config.write_model(out / RECORD, outcome)
    return outcome


def _score(
    opened: OpenedSampler,
    split: StructureSplit,
    structure: Structure,
    level: Level,
    n: int,
    profiles: Path | None,
    out: Path,
    seed: int,
    workers: int,
    force: bool,
) -> DomainScore:
    """Return what came of one domain, or what an earlier run left of it."""
    path = out / "domains" / f"{structure.name}.json"
    identity = config.fingerprint(
        {
            "sampler": opened.hash,
            "split": split.fingerprint,
            "n": n,
            "seed": seed,
            "profiles": profiles is not None,
            "clustering": registry.sampler_constants().clustering.model_dump(mode="json"),
        }
    )
    if not force and path.is_file():
        try:
            found = config.read_model(_Kept, path)
        except CgbenchError:
            found = None
        if found is not None and found.fingerprint == identity:
            return found.score
    score = DomainScore(
        name=structure.name,
        code=split.codes[structure.name],
        level=level,
        n_residues=structure.n_residues,
    )
    try:
        profile = (
            None if profiles is None else profile_of(profiles, structure.name, structure.sequence)
        )
        began = time.perf_counter()
        models = opened.sampler.structures(structure.sequence, n, profile=profile, seed=seed)
        seconds = time.perf_counter() - began
        found_models = sequence_models(
            models, structure.coordinates, seconds_per_sample=seconds / n, workers=workers
        )
        score = score.model_copy(update={"models": found_models})
    except CgbenchError as error:
        score = score.model_copy(update={"reason": error.message[:2000]})
    config.write_model(path, _Kept(fingerprint=identity, score=score))
    return score


def _outcome(
    opened: OpenedSampler,
    split: StructureSplit,
    known: StructureSet,
    scores: Sequence[DomainScore],
    n_models: int,
    seed: int,
) -> StructuresOutcome:
    done = [one.models for one in scores if one.models is not None]
    times = [one.seconds_per_sample for one in done if one.seconds_per_sample is not None]
    return StructuresOutcome(
        sampler=opened.spec.name,
        sampler_hash=opened.hash,
        split=split.id,
        split_fingerprint=split.fingerprint,
        n_models=n_models,
        seed=seed,
        total=level_score(scores),
        levels={
            level: level_score([one for one in scores if one.level == level]) for level in DEPTH
        },
        confidence=rank_correlation(
            [float(one.n_clusters) for one in done],
            [one.representative_tm for one in done],
        ),
        seconds_per_sample=float(np.mean(times)) if times else None,
        training_seconds=opened.spec.training_cost_s,
        domains=tuple(scores),
        notes=_notes(opened, split, scores, known),
        provenance=provenance.collect({"sampling": seed}),
    )


def level_score(scores: Sequence[DomainScore]) -> LevelScore:
    """Return means over domains; those without models or too short for a TM-score count nowhere."""
    done = [
        one.models
        for one in scores
        if one.models is not None and one.models.representative_tm is not None
    ]
    if not done:
        return LevelScore(n_domains=0)
    return LevelScore(
        n_domains=len(done),
        tm=float(np.mean([one.representative_tm for one in done])),
        mean_tm=float(np.mean([one.mean_tm for one in done])),
        best_tm=float(np.mean([one.best_tm for one in done])),
        rmsd=float(np.mean([one.representative_rmsd for one in done])),
        n_clusters=float(np.mean([one.n_clusters for one in done])),
    )


def rank_correlation(first: Sequence[float], second: Sequence[float | None]) -> float | None:
    """Return Spearman's rank correlation, ties sharing their mean rank.

    None for fewer than three pairs, or where all numbers of one side are the same.
    """
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if b is not None]
    if len(pairs) < _LEAST_DOMAINS:
        return None
    ranks = np.array([rankdata([one[side] for one in pairs]) for side in (0, 1)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _notes(
    opened: OpenedSampler,
    split: StructureSplit,
    scores: Sequence[DomainScore],
    known: StructureSet,
) -> tuple[str, ...]:
    notes = []
    trained = opened.spec.structures
    if trained is None:
        notes.append(
            "The sampler was not trained on structures of this split: whether it has seen test "
            "domains cannot be told."
        )
    elif trained.split_fingerprint != split.fingerprint:
        seen = set(trained.sequences)
        same = sum(known[one.name].sequence in seen for one in scores)
        notes.append(
            "The sampler was trained on another split: it may have seen test domains."
            if not seen
            else f"The sampler was trained on another split: {same} of the {len(scores)} test "
            "domains have a sequence that it was trained on; domains alike are not looked for."
        )
    if failed := [one for one in scores if one.models is None]:
        notes.append(f"{len(failed)} domain(s) without models, the first: {failed[0].reason}")
    notes.append(
        "Published numbers are shown as published, of other domains and not re-scored: they cannot "
        "be compared with scores of another split."
    )
    return tuple(notes)
