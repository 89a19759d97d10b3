"""Copies of tensors that are worked on by a thread while the tensors change."""

import queue
import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

import torch
from numpy.typing import NDArray

Note = TypeVar("Note")

#: Snapshots that may be under way at once.
_SLOTS: Final = 8


class SnapshotRing(Generic[Note]):
    """Snapshots of tensors, taken without waiting and consumed in order.

    A snapshot is copied into one of a few sets of pages, on a graphics processor pinned ones and on
    the stream that changes the tensors, so that it shows them between two steps. A thread waits for
    the copy and hands it on. Where all sets are in use, the next snapshot waits for one: a disk
    that is too slow holds the run back instead of filling the memory.

    Args:
        tensors: Like those of every snapshot in shape, type and device.
        consume: Gets the arrays of a snapshot, which are its own until it returns, and the note.
        n_slots: Sets of pages.
    """

    def __init__(
        self,
        tensors: Sequence[torch.Tensor],
        consume: Callable[[list[NDArray[Any]], Note], None],
        n_slots: int = _SLOTS,
    ) -> None:
        self._consume = consume
        self._pinned = any(tensor.device.type == "cuda" for tensor in tensors)
        self._free: queue.SimpleQueue[list[torch.Tensor]] = queue.SimpleQueue()
        for _ in range(n_slots):
            self._free.put([self._page(tensor) for tensor in tensors])
        self._taken: queue.Queue[
            tuple[list[torch.Tensor], torch.cuda.Event | None, Note] | None
        ] = queue.Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="snapshots", daemon=True)
        self._thread.start()

    def put(self, tensors: Sequence[torch.Tensor], note: Note) -> None:
        """Take a snapshot; return before it is made.

        Args:
            tensors: What it shows.
            note: Goes with it.

        Raises:
            BaseException: What ``consume`` raised for one before.
        """
        self._raise()
        pages = self._free.get()
        copied = None
        with torch.cuda.device_of(tensors[0]):  # type: ignore[no-untyped-call]
            for page, tensor in zip(pages, tensors, strict=True):
                page.copy_(tensor, non_blocking=True)
            if self._pinned:
                copied = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
                copied.record()
        self._taken.put((pages, copied, note))

    def wait(self) -> None:
        """Wait until all snapshots are consumed, or dropped after an error."""
        self._taken.join()

    def drain(self) -> None:
        """Wait until all snapshots are consumed.

        Raises:
            BaseException: What ``consume`` raised.
        """
        self.wait()
        self._raise()

    def close(self) -> None:
        """Let the thread end after the snapshots that were taken."""
        self._taken.put(None)
        self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _page(self, tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=self._pinned)

    def _work(self) -> None:
        while (taken := self._taken.get()) is not None:
            pages, copied, note = taken
            try:
                # After an error nothing more is consumed: frames would be missing in between.
                if self._error is None:
                    if copied is not None:
                        copied.synchronize()
                    self._consume([page.numpy() for page in pages], note)
            except BaseException as error:  # noqa: BLE001 - raised where the run is
                self._error = error
            finally:
                self._free.put(pages)
                self._taken.task_done()
        self._taken.task_done()
