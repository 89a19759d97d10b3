"""One random stream per replica, addressed by its step.

The normals of replica r at step s are a function of (seed, r, s) and the number of beads alone.
Which other replicas share the batch, how replicas are spread over devices and where a run was
restarted change nothing, not even a bit.

The generator is the counter-based Philox4x64-10 of Salmon et al., "Parallel random numbers: as
easy as 1, 2, 3" (SC11, 2011), as numpy implements it. The key of a replica is drawn from
``SeedSequence(seed, spawn_key=(replica,))``. The 256-bit counter has one word for the block of
steps (or the attempt to exchange) and one for the purpose: noise, initial velocities or exchanges
of temperature. numpy counts the draws within a block in the two lowest words, which no block
exhausts.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from cgbench.errors import ValidationError

#: Steps drawn at once. Part of the definition of a stream: another value gives other noise.
STEPS_PER_BLOCK: Final[int] = 64

_NOISE: Final[int] = 0
_VELOCITIES: Final[int] = 1
_EXCHANGES: Final[int] = 2


class ReplicaStreams:
    """Standard normals for the replicas of one batch.

    Normals are drawn in float64 and rounded to the dtype asked for, so that a float32 and a
    float64 run see the same noise up to that rounding. numpy keeps the values of its generators
    within a version; a new method for normals in numpy would change them.

    Args:
        seed: Seed of the whole ensemble, zero or larger.
        replicas: Global index of each replica of the batch; each has its own stream.
        n_beads: Beads per replica.
        dtype: ``torch.float32`` or ``torch.float64``.
        device: Where the normals are wanted.

    Raises:
        ValidationError: A seed or replica index is negative, or the dtype is another one.
    """

    def __init__(
        self,
        seed: int,
        replicas: Sequence[int],
        n_beads: int,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        if seed < 0 or any(replica < 0 for replica in replicas):
            raise ValidationError(
                "random streams: seeds and replica indices cannot be negative",
                found=f"seed {seed}, replicas from {min(replicas, default=0)}",
            )
        if dtype not in (torch.float32, torch.float64):
            raise ValidationError(
                "random streams: unsupported dtype", expected="float32 or float64", found=dtype
            )
        self.n_beads = n_beads
        self.device = torch.device(device)
        self._keys = [_key(seed, replica) for replica in replicas]
        self.dtype = dtype
        self._block_on_device: torch.Tensor | None = None
        self._block = -1

    def noise(self, step: int) -> torch.Tensor:
        """Return the normals of one step.

        Args:
            step: Step index from 0; any order, but blocks in order are drawn once.

        Returns:
            Normals (n_replicas, n_beads, 3), a view that is valid until a step of another block
            is asked for.
        """
        block, within = divmod(step, STEPS_PER_BLOCK)
        if self._block_on_device is None:
            shape = (STEPS_PER_BLOCK, self.n_replicas, self.n_beads, 3)
            self._buffer = np.empty(shape, self._numpy_dtype)
            self._draws = np.empty((STEPS_PER_BLOCK, self.n_beads, 3))
        if block != self._block or self._block_on_device is None:
            self.draw(block, self._buffer, self._draws)
            self._block_on_device = torch.from_numpy(self._buffer).to(self.device)
            self._block = block
        return self._block_on_device[within]

    def draw(
        self,
        block: int,
        out: NDArray[np.floating],
        scratch: NDArray[np.float64] | None = None,
        part: slice = slice(None),
    ) -> None:
        """Draw the normals of all steps of a block, in whatever thread.

        Args:
            block: Number of the block, from 0.
            out: (STEPS_PER_BLOCK, n_replicas, n_beads, 3); filled for the part.
            scratch: (STEPS_PER_BLOCK, n_beads, 3) to draw into; made if None.
            part: Replicas of the batch to draw for.
        """
        draws = np.empty((STEPS_PER_BLOCK, self.n_beads, 3)) if scratch is None else scratch
        for index in range(*part.indices(len(self._keys))):
            generator = np.random.Generator(
                np.random.Philox(key=self._keys[index], counter=[0, 0, block, _NOISE])
            )
            generator.standard_normal(out=draws)
            out[:, index] = draws

    @property
    def n_replicas(self) -> int:
        """Replicas of the batch."""
        return len(self._keys)

    @property
    def _numpy_dtype(self) -> type[np.floating]:
        return np.float32 if self.dtype is torch.float32 else np.float64

    def initial(self) -> torch.Tensor:
        """Return the normals for initial velocities (n_replicas, n_beads, 3), independent of
        those of every step.
        """
        normals = np.empty((self.n_replicas, self.n_beads, 3), self._numpy_dtype)
        for index, key in enumerate(self._keys):
            generator = np.random.Generator(
                np.random.Philox(key=key, counter=[0, 0, 0, _VELOCITIES])
            )
            normals[index] = generator.standard_normal((self.n_beads, 3))
        return torch.from_numpy(normals).to(self.device)


def exchange_numbers(seed: int, replica: int, attempt: int) -> np.random.Generator:
    """Return the random numbers of one attempt of a ladder to exchange temperatures.

    They are those of no step and of no other attempt.

    Args:
        seed: Seed of the whole ensemble.
        replica: Global index of the first replica of the ladder.
        attempt: Number of the attempt, from 0.
    """
    return np.random.Generator(
        np.random.Philox(key=_key(seed, replica), counter=[0, 0, attempt, _EXCHANGES])
    )


def _key(seed: int, replica: int) -> NDArray[Any]:
    return np.random.SeedSequence(seed, spawn_key=(replica,)).generate_state(2, np.uint64)
