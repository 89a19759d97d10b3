"""Draws from a submitted sampler again, and computes what results say of its models again.

``sampler.pt`` is plain tensors and data, never code. Drawn on the same machine with the same seed
the structures are the same. Another processor rounds otherwise, which can send a structure another
way, so that values are compared as those of two independent draws.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from cgbench import config, registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate import Ensemble, ReferenceBundle, score
from cgbench.leaderboard.comparing import EXACT, Difference, compared, repeated
from cgbench.leaderboard.records import Submission
from cgbench.leaderboard.trajectories import digest, scored_keys
from cgbench.pipeline.sampling import draw, open_sampler
from cgbench.pipeline.sequence_models import sequence_models
from cgbench.progress import Progress, silent
from cgbench.results import SystemResult
from cgbench.samplers import SamplerSpec
from cgbench.store import TrajectorySet, read_trajectories

#: Rounding of numbers of the same structures.
_ROUNDING: Final = 1e-5
#: What is not of the structures alone.
_TIMES: Final = ("seconds_per_sample",)
#: Name of the models among what was not computed again.
MODELS: Final = "models"


def models_differences(
    item: SystemResult, stored: TrajectorySet, bundle: ReferenceBundle, workers: int | None
) -> list[Difference]:
    """Compare the models of a sequence with those of the same structures.

    Args:
        item: What a result says of a system.
        stored: Its samples.
        bundle: The reference, with the native structure.
        workers: Threads of the search for TM-scores; one if None.
    """
    if item.models is None:
        return []
    first = np.concatenate(stored.coordinates)[: registry.sampler_constants().models.per_sequence]
    found = sequence_models(first, bundle.native, workers=workers or 1)
    differences = []
    for name in type(found).model_fields:
        if name in _TIMES:
            continue
        one, two = getattr(item.models, name), getattr(found, name)
        ratio = 0.0 if one == two else math.inf
        if isinstance(one, float) and isinstance(two, float):
            ratio = abs(one - two) / (_ROUNDING * max(1e-3, abs(two)))
        differences.append(Difference(item.system, f"{MODELS}: {name}", one, two, ratio))
    return differences


def draw_again(
    submission: Submission,
    path: Path,
    work: Path,
    bundle_of: Callable[[str], ReferenceBundle],
    *,
    workers: int | None = None,
    progress: Progress = silent,
) -> tuple[list[Difference], list[str], dict[str, str]]:
    """Draw from the sampler of a submission again and compare.

    Args:
        submission: What is verified.
        path: Its ``sampler.pt``.
        work: Folder of the new samples.
        bundle_of: Returns the reference of a system.
        workers: Threads that measure frames; all cores if None.
        progress: Told how far it is.

    Returns:
        Every value that was compared, what was not, and the content of the new samples by system.

    Raises:
        UsageError: No such file, or the sampler needs profiles, which a result does not hold.
        IntegrityError: The file is damaged or unsafe.
        ValidationError: It is another sampler, or the result says something else of it.
    """
    result = submission.result
    opened = open_sampler(path)
    if opened.hash != result.model.hash:
        raise ValidationError(
            f"{path}: not the model that was submitted",
            expected=result.model.hash,
            found=opened.hash,
        )
    said = config.validate(SamplerSpec, result.model.spec, f"{submission.model}: model.spec")
    if said.recorded() != opened.spec.recorded():
        other = [
            name for name, value in opened.spec.recorded().items() if said.recorded()[name] != value
        ]
        raise ValidationError(
            f"{submission.model}: the result says something else of the sampler than its file",
            found=f"another {', '.join(other)}",
        )
    if opened.sampler.network.settings.features == "profile":
        raise UsageError(
            f"{path}: made for sequences with a profile, which a result does not hold",
            fix="give --trajectories",
        )
    compare = repeated(sum(len(item.metrics) for item in result.systems))
    differences: list[Difference] = []
    digests, same = {}, True
    for key in scored_keys(result):
        item, bundle = result.system(key), bundle_of(key)
        if item is None or item.n_frames is None or "sampling" not in result.seeds:
            raise ValidationError(f"{submission.model}: {key}: number or seed of samples missing")
        target = work / "trajectories.zarr"
        draw(
            opened,
            key,
            item.n_frames,
            temperature=bundle.temperature,
            seed=result.seeds["sampling"],
            out=target,
        )
        stored = read_trajectories(target, key)
        digests[key] = digest(stored)
        row = score(
            Ensemble.from_trajectory_set(stored, name=result.model.name),
            bundle,
            seed=result.seeds["resampling"],
            workers=workers,
            progress=progress,
        )
        exact = tuple(name for name in EXACT if name in ("status", "n_trajectories", "n_frames"))
        found = compared(result, key, row.result, compare, exact=exact)
        differences += found
        if any(one.ratio > 0.0 for one in found):
            # Other structures, as another processor draws: their clusters are others, too.
            same = same and item.models is None
        else:
            differences += models_differences(item, stored, bundle, workers)
    return differences, [] if same else [MODELS], digests
