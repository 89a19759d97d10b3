"""Several processes that share the epochs of one run: who they are, and how they begin and end.

On one node ``train`` starts them itself. On several, a launcher starts one for each device on each
node (``torchrun`` or ``srun``), all with the same command.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from torch import distributed

from cgbench.errors import (
    CgbenchError,
    IntegrityError,
    SimulationError,
    UsageError,
    ValidationError,
)

#: Seconds between two looks for processes that have come.
_POLL: Final = 0.05
#: Longest wait of one process for another: an epoch's validation, or the fit of a prior.
_TIMEOUT: Final = timedelta(hours=2)
#: Tells a process that another one of the run has started it.
_HELPED: Final = "CGBENCH_TRAINING_HELPER"
#: Processes that were told to end have so many seconds.
_GRACE: Final = 10.0
_ERRORS: Final[dict[int, type[CgbenchError]]] = {
    error.exit_code: error
    for error in (UsageError, IntegrityError, ValidationError, SimulationError)
}


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that share a run.

    Attributes:
        rank: Its number.
        local_rank: Its number on its node.
        node_rank: Number of the node.
        world_size: How many there are.
        address: Where the first one is.
        port: Where that one listens.
        helped: Whether the first one has started the others, and not a launcher all of them.
    """

    rank: int
    local_rank: int
    node_rank: int
    world_size: int
    address: str
    port: int
    helped: bool = False

    def variables(self) -> dict[str, str]:
        """Return the environment variables that ``torchrun`` would set."""
        return {
            "RANK": str(self.rank),
            "LOCAL_RANK": str(self.local_rank),
            "GROUP_RANK": str(self.node_rank),
            "WORLD_SIZE": str(self.world_size),
            "MASTER_ADDR": self.address,
            "MASTER_PORT": str(self.port),
            _HELPED: "1" if self.helped else "",
        }


class Environment(ClusterEnvironment):
    """Tells Lightning where this process stands, whatever the environment variables say."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self._place = place

    @property
    def creates_processes_externally(self) -> bool:
        """Lightning starts none."""
        return True

    @property
    def main_address(self) -> str:
        """Where the first process is."""
        return self._place.address

    @property
    def main_port(self) -> int:
        """Where it listens."""
        return self._place.port

    @staticmethod
    def detect() -> bool:
        """It is given, never found."""
        return False

    def world_size(self) -> int:
        """Return how many processes there are."""
        return self._place.world_size

    def set_world_size(self, size: int) -> None:
        """Do nothing: it is known."""

    def global_rank(self) -> int:
        """Return the number of this process."""
        return self._place.rank

    def set_global_rank(self, rank: int) -> None:
        """Do nothing: it is known."""

    def local_rank(self) -> int:
        """Return its number on its node."""
        return self._place.local_rank

    def node_rank(self) -> int:
        """Return the number of the node."""
        return self._place.node_rank


def find_place(
    n_processes: int, num_nodes: int = 1, variables: Mapping[str, str] | None = None
) -> Place | None:
    """Return where this process stands by what a launcher has set; None if none started it.

    Args:
        n_processes: How many the settings want.
        num_nodes: On how many nodes.
        variables: Environment variables; those of this process by default.

    Raises:
        UsageError: There are as many processes as the settings do not want, or several nodes and
            no launcher.
    """
    known = os.environ if variables is None else variables
    place = None
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"} <= known.keys():
        place = Place(
            rank=int(known["RANK"]),
            local_rank=int(known.get("LOCAL_RANK", 0)),
            node_rank=int(known.get("GROUP_RANK", known.get("NODE_RANK", 0))),
            world_size=int(known["WORLD_SIZE"]),
            address=known["MASTER_ADDR"],
            port=int(known["MASTER_PORT"]),
            helped=bool(known.get(_HELPED)),
        )
    elif int(known.get("SLURM_NTASKS", 1)) > 1 and "SLURM_PROCID" in known:
        slurm = SLURMEnvironment(auto_requeue=False)
        place = Place(
            rank=int(known["SLURM_PROCID"]),
            local_rank=int(known.get("SLURM_LOCALID", 0)),
            node_rank=int(known.get("SLURM_NODEID", 0)),
            world_size=int(known["SLURM_NTASKS"]),
            address=slurm.main_address,
            port=slurm.main_port,
        )
    if place is not None and place.world_size != n_processes:
        raise UsageError(
            "a launcher started another number of processes than the settings want",
            expected=f"devices × num_nodes = {n_processes}",
            found=place.world_size,
            fix="set devices and num_nodes to what the launcher starts",
        )
    if place is None and num_nodes > 1:
        raise UsageError(
            f"training on {num_nodes} nodes needs a launcher that starts its processes",
            fix="torchrun --nnodes N --nproc-per-node DEVICES --no-python cgbench train …, or srun",
        )
    return place if place is not None and place.world_size > 1 else None


@contextlib.contextmanager
def joined(place: Place, lost: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Let processes know each other for as long as this lasts: gloo, and NCCL on GPUs.

    Args:
        place: Where this one stands.
        lost: Whether one of the others has ended before it came.

    Raises:
        RuntimeError: It has.
    """
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(place.local_rank % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    meeting: dict[str, Any] = {"init_method": f"tcp://{place.address}:{place.port}"}
    if place.helped:
        meeting = {"store": _met(place, lost)}
    distributed.init_process_group(
        backend,
        rank=place.rank,
        world_size=place.world_size,
        timeout=_TIMEOUT,
        **meeting,
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _met(place: Place, lost: Callable[[], bool]) -> Any:
    """Return the store of processes that have all come; torch would wait hours for a dead one."""
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        place.address,
        place.port,
        place.world_size,
        is_master=place.rank == 0,
        timeout=_TIMEOUT,
        wait_for_workers=False,
    )
    if place.rank > 0:
        store.set(f"here/{place.rank}", "1")
    else:
        others = [f"here/{rank}" for rank in range(1, place.world_size)]
        while not store.check(others):
            if lost():
                raise RuntimeError("a process of the training ended before it began")
            time.sleep(_POLL)
    return distributed.PrefixStore("training", store)  # type: ignore[attr-defined]


def tell(value: Any) -> Any:
    """Give a value of the first process, plain data or an error, to all of them."""
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]


def total(value: float) -> float:
    """Return the sum of a number over all processes of the run; each has to ask for it."""
    if not distributed.is_initialized():
        return value
    summed = torch.tensor(value, dtype=torch.float64)
    distributed.all_reduce(summed)
    return float(summed)


@contextlib.contextmanager
def helpers(out: Path, world_size: int, options: list[str]) -> Iterator[Place]:
    """Start the other processes of a run on this node; within, all know each other.

    Each writes what it has to say to ``logs/process-<rank>.log``.

    Args:
        out: The run folder, whose ``config.yaml`` they read.
        world_size: Number of processes, this one included.
        options: Further options of :mod:`cgbench.train.worker`.

    Raises:
        CgbenchError: One of them failed: its error, or where it did not say any a SimulationError.
    """
    (out / "logs").mkdir(exist_ok=True)
    port = _free_port()
    first, *others = (
        Place(rank, rank, 0, world_size, "127.0.0.1", port, helped=True)
        for rank in range(world_size)
    )
    started: list[tuple[subprocess.Popen[bytes], Path]] = []
    try:
        for place in others:
            log = out / "logs" / f"process-{place.rank}.log"
            with log.open("wb") as handle:
                child = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "cgbench.train.worker", str(out), *options],
                    env=os.environ | place.variables(),
                    stdin=subprocess.DEVNULL,
                    stdout=handle,
                    stderr=subprocess.STDOUT,
                )
            started.append((child, log))
        try:
            with joined(first, lambda: any(child.poll() for child, _ in started)):
                yield first
        except RuntimeError as error:
            # What this process sees of another's end is a broken connection.
            raise _cause(started) or error from error
    finally:
        _end(started)


def _cause(started: list[tuple[subprocess.Popen[bytes], Path]]) -> CgbenchError | None:
    """Return the error of the first process that failed by itself, if one did."""
    for child, log in started:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(_GRACE)
        if child.returncode:
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            kind = _ERRORS.get(child.returncode, SimulationError)
            return kind(
                f"a process of the training ended with exit code {child.returncode}",
                found="\n".join(lines[-8:]) or "it said nothing",
                fix=f"see {log}; --resume goes on from the last checkpoint",
            )
    return None


def _end(started: list[tuple[subprocess.Popen[bytes], Path]]) -> None:
    for child, _ in started:
        try:
            child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
