"""The noise of steps to come, drawn in threads and handed to a device block by block."""

import os
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from typing import Final

import numpy as np
import torch

from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams

#: Threads that draw, at most; the generators let go of the interpreter's lock.
_THREADS: Final = 8


class NoiseFeed:
    """Normals of replicas' streams, on a device where a recorded step reads them.

    While the device works on one block of steps, threads draw the next. Blocks are copied in the
    order of the steps, on the same stream, so that no step sees another's noise; the copy does not
    wait. The numbers are those of the streams.

    Args:
        streams: Random numbers of the replicas.
        n_threads: Threads that draw; one for each core up to eight if None.

    Attributes:
        block: (STEPS_PER_BLOCK, n_replicas, n_beads, 3) on the device, always the same tensor.
    """

    def __init__(self, streams: ReplicaStreams, n_threads: int | None = None) -> None:
        shape = (STEPS_PER_BLOCK, streams.n_replicas, streams.n_beads, 3)
        n_threads = n_threads or min(_THREADS, os.cpu_count() or 1)
        self.block = torch.zeros(shape, dtype=streams.dtype, device=streams.device)
        self._streams = streams
        self._pinned = streams.device.type == "cuda"
        self._host = [
            torch.empty(shape, dtype=streams.dtype, pin_memory=self._pinned) for _ in range(2)
        ]
        self._copied: list[torch.cuda.Event | None] = [None, None]
        edges = np.linspace(0, streams.n_replicas, min(n_threads, streams.n_replicas) + 1)
        self._parts = [slice(a, b) for a, b in pairwise(edges.round().astype(int).tolist())]
        self._pool = ThreadPoolExecutor(n_threads)
        self._jobs: dict[int, list[Future[None]]] = {}
        self._current = -1

    def load(self, step: int) -> int:
        """Let the block be that of a step, for everything that is launched from now on.

        Args:
            step: Step index from 0.

        Returns:
            Which of the block's steps it is.
        """
        number, within = divmod(step, STEPS_PER_BLOCK)
        if number == self._current:
            return within
        if number not in self._jobs:
            # The run goes on elsewhere: what was drawn ahead is of no use.
            self._finish(list(self._jobs))
            self._draw(number)
        self._finish([number])
        slot = number % 2
        with torch.cuda.device_of(self.block):  # type: ignore[no-untyped-call]
            self.block.copy_(self._host[slot], non_blocking=True)
            if self._pinned:
                # Threads sleep while they wait: others need the core to draw.
                copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                copied.record()
                self._copied[slot] = copied
        self._current = number
        self._draw(number + 1)
        return within

    def _draw(self, number: int) -> None:
        self._jobs[number] = [self._pool.submit(self._fill, number, part) for part in self._parts]

    def _fill(self, number: int, part: slice) -> None:
        copied = self._copied[number % 2]
        if copied is not None:
            # The copy before from these pages has to be over.
            copied.synchronize()
        self._streams.draw(number, self._host[number % 2].numpy(), part=part)

    def _finish(self, numbers: list[int]) -> None:
        for number in numbers:
            for job in self._jobs.pop(number):
                job.result()
