"""Does a sampler keep its contract: a ``sampler.pt``, or one that a function of the user makes?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from cgbench import registry
from cgbench.adapters.base import Request
from cgbench.adapters.functions import call_function
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.pipeline.sampling import open_sampler, read_profiles, systems_to_sample
from cgbench.progress import Progress, silent
from cgbench.samplers import LearnedSampler, SamplerConformanceReport, SamplerSpec, check_sampler
from cgbench.samplers.conformance import equal_frequencies

_EXPECTED: Final = "function(path) that returns a sampler: sample(system, n, *, temperature, seed)"


def check_sampler_file(
    path: Path,
    systems: Sequence[str] | None = None,
    *,
    profiles: Sequence[str] = (),
    progress: Progress = silent,
) -> SamplerConformanceReport:
    """Run the conformance suite on a ``sampler.pt``.

    A network of profiles is given one of equal frequencies where none is named.

    Args:
        path: The file.
        systems: Registry keys; those that it was trained on if None.
        profiles: Evolutionary profiles as ``SYSTEM=FILE``.
        progress: Told after each check.

    Raises:
        UsageError: No such file or system, or none is named.
        IntegrityError: The file is damaged or unsafe.
        ValidationError: Its parts do not fit together, or a profile is of another sequence.
    """
    opened = open_sampler(path)
    keys = systems_to_sample(opened, systems)
    sampler: LearnedSampler = opened.sampler
    sampler.profiles |= read_profiles(profiles)
    if sampler.network.settings.features == "profile":
        for key in keys:
            sampler.profiles.setdefault(key, equal_frequencies(len(sequence_of(key))))
    return check_sampler(sampler, keys, progress=progress)


def check_sampler_function(
    target: str,
    path: Path,
    systems: Sequence[str] | None = None,
    *,
    trust: bool,
    progress: Progress = silent,
) -> SamplerConformanceReport:
    """Run the conformance suite on what a function makes: any object with a method ``sample``.

    Args:
        target: ``package.module:function``, which gets the path.
        path: Whatever the function reads.
        systems: Registry keys; those that the sampler says it was trained on if None.
        trust: Whether the function may be run.
        progress: Told after each check.

    Raises:
        UsageError: The function is not trusted, or no system is named and the sampler names none.
        ValidationError: There is no such function, it fails, or returns no sampler.
    """
    made = call_function(target, Request(path, {}, trust, None), _EXPECTED)
    if not callable(getattr(made, "sample", None)):
        raise ValidationError(
            f"{target}: does not return a sampler", expected=_EXPECTED, found=type(made).__name__
        )
    keys = list(systems or _stated(made))
    if not keys:
        raise UsageError(
            f"{target}: its sampler does not say what it was trained on", fix="give --system"
        )
    return check_sampler(made, [registry.system(key).key for key in keys], progress=progress)


def _stated(made: Any) -> list[str]:
    """Return the systems that a sampler says it was trained on."""
    spec = getattr(made, "spec", None)
    stated = spec.trained_on if isinstance(spec, SamplerSpec) else ()
    return list(dict.fromkeys(item.system for item in stated))
