"""How the conformance suite asks a sampler for structures, and how it compares them."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate import Ensemble
from cgbench.evaluate.sequence_match import sequence_of
from cgbench.nemo.features import AMINO_ACIDS, Profile
from cgbench.samplers.contract import Sampler

Float = NDArray[np.float64]

#: Structures of most draws, and of one that takes several batches of any sampler.
FEW = 6
MANY = 70


class SamplerProbe:
    """A sampler and what it is asked for.

    Args:
        sampler: The sampler.
        systems: Registry keys; the first one is asked for most often.
        seed: Seed of the draws.
    """

    def __init__(self, sampler: Sampler, systems: Sequence[str], seed: int = 1) -> None:
        self.sampler, self.systems, self.seed = sampler, tuple(systems), seed
        self.structures: Callable[..., Any] | None = getattr(sampler, "structures", None)
        network = getattr(sampler, "network", None)
        features = getattr(getattr(network, "settings", None), "features", None)
        self.needs_profile = features == "profile"
        self._drawn: dict[str, Float] = {}

    def drawn(self, system: str) -> Float:
        """Return a few structures of a system, drawn once."""
        if system not in self._drawn:
            self._drawn[system] = self.draw(system, FEW, self.seed)
        return self._drawn[system]

    def draw(self, system: str, n: int, seed: int, *, at: float | None = None) -> Float:
        """Return structures (n, N, 3) in Å after a check of what holds them.

        Args:
            system: Registry key.
            n: Number of structures.
            seed: Seed of the draw.
            at: Temperature in K; None for that of the training data.

        Raises:
            ValidationError: They are no ensemble without time order, of another system or number.
        """
        ensemble: object = self.sampler.sample(system, n, temperature=at, seed=seed)
        if not isinstance(ensemble, Ensemble):
            raise ValidationError(
                f"sample({system!r}, {n}): no ensemble",
                expected="a cgbench.evaluate.Ensemble",
                found=type(ensemble).__name__,
            )
        frames = np.concatenate(ensemble.trajectories).astype(np.float64)
        order = "in time order" if ensemble.time_ordered else "without time order"
        expected = (system, (n, len(sequence_of(system)), 3), "without time order")
        found = (ensemble.system, frames.shape, order)
        if found != expected:
            raise ValidationError(
                f"sample({system!r}, {n}): another ensemble than was asked for",
                expected=", ".join(map(str, expected)),
                found=", ".join(map(str, found)),
            )
        return frames

    def of_sequence(self, sequence: str, profile: Profile | None = None) -> Float:
        """Return structures of a sequence; with a profile of equal frequencies if one is needed."""
        assert self.structures is not None  # noqa: S101 - asked by the checks first
        if self.needs_profile and profile is None:
            profile = equal_frequencies(len(sequence))
        found = self.structures(sequence, FEW, profile=profile, seed=self.seed)
        return np.asarray(found, dtype=np.float64)


def equal_frequencies(n_residues: int) -> Profile:
    """Return a profile that says nothing, which stands in where a network needs one."""
    return np.full((n_residues, len(AMINO_ACIDS)), 1 / len(AMINO_ACIDS), dtype=np.float32)


def difference(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the largest difference in Å; structures that are not finite are equal in that."""
    if one.shape != other.shape:
        return float("inf")
    if not (np.isfinite(one) == np.isfinite(other)).all():
        return float("inf")
    finite_ones = np.isfinite(one)
    return float(np.abs(one[finite_ones] - other[finite_ones]).max(initial=0.0))


def known(one: NDArray[Any], others: NDArray[Any]) -> bool:
    """Tell whether a structure is among others."""
    return bool((np.nan_to_num(others) == np.nan_to_num(one)).all(axis=(1, 2)).any())


def global_numbers() -> dict[str, object]:
    """Return what is global and decides random numbers or precision."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002 - the global state is looked at
    return {
        "random": random.getstate(),
        "numpy.random": (
            legacy["state"]["key"].tobytes(),
            legacy["state"]["pos"],
            legacy["has_gauss"],
            legacy["gauss"],
        ),
        "torch's generator": torch.get_rng_state().numpy().tobytes(),
        "torch's default precision": torch.get_default_dtype(),
        "torch's threads": torch.get_num_threads(),
        "torch's gradients": torch.is_grad_enabled(),
    }


@contextlib.contextmanager
def kept_state() -> Iterator[None]:
    """Put everything global back as it was."""
    python, numpy_state = random.getstate(), np.random.get_state()  # noqa: NPY002
    generator, precision = torch.get_rng_state(), torch.get_default_dtype()
    threads, gradients = torch.get_num_threads(), torch.is_grad_enabled()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy_state)  # noqa: NPY002
        torch.set_rng_state(generator)
        torch.set_default_dtype(precision)
        torch.set_num_threads(threads)
        torch.set_grad_enabled(gradients)
