"""Work on fixed tensors that is recorded once and replayed, or done anew each time."""

from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

#: Times that work is done before it is recorded: libraries set themselves up, kernels are compiled.
_WARM_UP: Final = 3


class Recorded:
    """A function without arguments or result, as one graph of a graphics processor.

    What it reads and writes are tensors that stay where they are. On other devices the function is
    called as it is, so that both do the same work on the same tensors.

    Args:
        function: Launches work; waits for nothing.
        device: Where the work is done.
        state: Tensors that the function changes from what they were, which are given back their
            values after it was tried out.
    """

    def __init__(
        self, function: Callable[[], None], device: torch.device, state: Sequence[Tensor] = ()
    ) -> None:
        self._work, self._device = function, device
        #: Whether work is replayed from a graph.
        self.captured = device.type == "cuda"
        if self.captured:
            self._graph = self._capture(function, device, state)

    def __call__(self) -> None:
        """Do the work; on a graphics processor, start it."""
        if self.captured:
            with torch.cuda.device(self._device):
                self._graph.replay()
        else:
            self._work()

    @staticmethod
    def _capture(
        function: Callable[[], None], device: torch.device, state: Sequence[Tensor]
    ) -> torch.cuda.CUDAGraph:
        with torch.cuda.device(device):
            before = [tensor.clone() for tensor in state]
            # Neither trying nor recording may happen on the default stream.
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    function()
            torch.cuda.current_stream().wait_stream(stream)
            for tensor, value in zip(state, before, strict=True):
                tensor.copy_(value)
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Threads that copy for other runs may go on meanwhile.
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):
                function()
        return graph
