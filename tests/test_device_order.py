"""What has to happen in which order on a device: recording, noise blocks, snapshots.

Where there is no graphics processor, its calls are written down by stand-ins.
"""

import contextlib
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from numpy.typing import NDArray

from cgbench.kernels.device import choice, twin
from cgbench.kernels.device.graph import Recorded
from cgbench.simulation.noise import NoiseFeed
from cgbench.simulation.snapshots import SnapshotRing
from cgbench.simulation.streams import STEPS_PER_BLOCK, ReplicaStreams


class Card:
    """Stands in for ``torch.cuda``; ``calls`` is what was asked of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        card = self

        @contextlib.contextmanager
        def within(name: str, *arguments: Any, **options: Any) -> Iterator[None]:
            card.calls.append(f"enter {name}")
            yield
            card.calls.append(f"leave {name}")

        class Stream:
            def wait_stream(self, other: object) -> None:
                card.calls.append("wait stream")

        class Graph:
            def replay(self) -> None:
                card.calls.append("replay")

        class Event:
            def __init__(self, blocking: bool = False) -> None:
                self.over = threading.Event()

            def record(self) -> None:
                card.calls.append("record")

            def synchronize(self) -> None:
                assert self.over.wait(30)

        for name, stand_in in {
            "device": lambda device: within("device"),
            "stream": lambda stream: within("stream"),
            "graph": lambda graph, **options: within("graph"),
            "Stream": Stream,
            "current_stream": Stream,
            "CUDAGraph": Graph,
            "Event": Event,
            "synchronize": lambda: card.calls.append("synchronise"),
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)


def test_work_is_tried_put_back_and_then_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    card = Card(monkeypatch)
    state = torch.tensor([1.0, 2.0])

    def work() -> None:
        card.calls.append("work")
        state.add_(1.0)

    recorded = Recorded(work, torch.device("cuda:1"), [state])
    assert recorded.captured
    made = ["enter stream", "work", "work", "work", "leave stream", "wait stream", "synchronise"]
    made += ["enter graph", "work", "leave graph"]
    assert card.calls == ["enter device", "wait stream", *made, "leave device"]
    # The stand-in does the work that a graph would only hold; what was tried is undone.
    assert state.tolist() == [2.0, 3.0]
    card.calls.clear()
    recorded()
    assert card.calls == ["enter device", "replay", "leave device"]


def test_elsewhere_work_is_done_as_it_is() -> None:
    state = torch.zeros(1)
    recorded = Recorded(lambda: state.add_(1.0), torch.device("cpu"), [state])  # type: ignore[arg-type, return-value]
    assert not recorded.captured
    assert state.item() == 0.0
    recorded()
    recorded()
    assert state.item() == 2.0


def test_noise_is_not_drawn_over_pages_that_are_being_copied(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Card(monkeypatch)
    streams = ReplicaStreams(5, range(3), 4)
    feed = NoiseFeed(streams, 2)
    feed._pinned = True
    expected = ReplicaStreams(5, range(3), 4)
    feed.load(0)
    first = feed._host[0].clone()
    feed.load(STEPS_PER_BLOCK)
    # The copy of block 0 is not over, so block 2 may not take its place.
    jobs = feed._jobs[2]
    assert not any(job.done() for job in jobs)
    assert torch.equal(feed._host[0], first)
    feed._copied[0].over.set()  # type: ignore[union-attr]
    within = feed.load(2 * STEPS_PER_BLOCK + 7)
    assert torch.equal(feed.block[within], expected.noise(2 * STEPS_PER_BLOCK + 7))
    feed._copied[1].over.set()  # type: ignore[union-attr]
    feed._copied[0].over.set()  # type: ignore[union-attr]


def test_snapshots_wait_for_their_copies_and_keep_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Card(monkeypatch)
    tensor = torch.zeros(3)
    found: list[tuple[int, list[float]]] = []

    def consume(arrays: list[NDArray[Any]], note: int) -> None:
        found.append((note, arrays[0].tolist()))

    ring = SnapshotRing([tensor], consume, n_slots=4)
    events = []
    monkeypatch.setattr(ring, "_pinned", True)
    put = ring._taken.put
    monkeypatch.setattr(ring._taken, "put", lambda item: (events.append(item), put(item)))
    for number in range(3):
        tensor.fill_(number)
        ring.put([tensor], number)
    assert found == []
    for _, copied, _ in events:
        copied.over.set()
    ring.drain()
    assert found == [(number, [number] * 3) for number in range(3)]
    monkeypatch.undo()
    ring.close()


def test_a_slow_reader_holds_the_run_back() -> None:
    tensor, gate = torch.zeros(1), threading.Semaphore(0)

    def consume(arrays: list[NDArray[Any]], note: int) -> None:
        gate.acquire()

    ring: SnapshotRing[int] = SnapshotRing([tensor], consume, n_slots=2)
    ring.put([tensor], 0)
    ring.put([tensor], 1)
    third = threading.Thread(target=ring.put, args=([tensor], 2))
    third.start()
    third.join(0.2)
    assert third.is_alive()
    for _ in range(3):
        gate.release()
    third.join(30)
    assert not third.is_alive()
    ring.close()


def test_after_an_error_nothing_more_is_consumed() -> None:
    tensor = torch.zeros(1)
    found: list[int] = []

    def consume(arrays: list[NDArray[Any]], note: int) -> None:
        found.append(note)
        raise OSError("disk full")

    ring: SnapshotRing[int] = SnapshotRing([tensor], consume)
    ring.put([tensor], 0)
    with pytest.raises(OSError, match="disk full"):
        ring.drain()
    with pytest.raises(OSError, match="disk full"):
        ring.put([tensor], 1)
    ring.close()
    assert found == [0]


@pytest.mark.parametrize(
    ("installed", "words"), [(False, "not installed"), (True, "cannot be imported")]
)
def test_without_triton_plain_torch_is_taken_and_said_so(
    monkeypatch: pytest.MonkeyPatch, installed: bool, words: str
) -> None:
    spec = object() if installed else None
    monkeypatch.setattr(choice.importlib.util, "find_spec", lambda name: spec)
    monkeypatch.setitem(sys.modules, "cgbench.kernels.device.fused", None)
    operations, what = choice.choose_operations(torch.device("cuda"))
    assert operations is twin
    assert what.startswith("plain torch, because Triton")
    assert words in what


def test_operations_that_differ_are_found_out() -> None:
    class Wrong:
        """Twins of which one is off by a little."""

        def __getattr__(self, name: str) -> Any:
            return getattr(twin, name)

        def send_messages(self, lists: Any, table: Any, sent: Any, received: Any) -> None:
            twin.send_messages(lists, table, sent, received)
            received[3, 2] *= 1.001

    cpu = torch.device("cpu")
    assert choice.agree(twin, cpu)  # type: ignore[arg-type]
    assert not choice.agree(Wrong(), cpu)
    trial = choice._trial(twin, cpu)  # type: ignore[arg-type]
    assert all(bool(torch.isfinite(one).all()) for one in trial)
    assert all(bool(one.abs().sum() > 0) for one in trial[:3])
