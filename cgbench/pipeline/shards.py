"""A simulation shared among processes or devices, here or on several machines."""

import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cgbench import provenance
from cgbench.errors import CgbenchError, UsageError
from cgbench.pipeline.check import systems_of
from cgbench.pipeline.programs import load_potential
from cgbench.pipeline.simulate import simulate_model
from cgbench.progress import Progress, silent
from cgbench.simulation import SimulationOutcome, export_xtc
from cgbench.simulation.shards import Shard, finished_parts, join_parts

if TYPE_CHECKING:
    from cgbench.adapters import AdapterChoice


def environment_shard() -> tuple[Shard, int] | None:
    """Return the part that a launcher like torchrun gave to this process, and its place here.

    ``RANK``, ``WORLD_SIZE`` and ``LOCAL_RANK`` are read; None where they are not set or there is
    one process only.

    Raises:
        UsageError: They make no sense.
    """
    rank, size = os.environ.get("RANK"), os.environ.get("WORLD_SIZE")
    if rank is None or size is None or size == "1":
        return None
    shard = Shard.parse(f"{rank}/{size}")
    local = os.environ.get("LOCAL_RANK", rank)
    return shard, int(local) if local.isdecimal() else shard.index


def simulate_parts(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    shard: str | None = None,
    processes: int | None = None,
    devices: str | None = None,
    merge: bool = False,
    out: Path,
    xtc: bool = False,
    **options: Any,
) -> tuple[dict[str, SimulationOutcome], bool]:
    """Simulate as the options of ``cgbench simulate`` say.

    Args:
        model: As for ``simulate_model``.
        systems: As for ``simulate_model``.
        shard: Part of the replicas as ``I/N``; that of the launcher, if there is one, if None.
        processes: Number of processes here; one for each device if None.
        devices: Torch devices separated by commas.
        merge: Only join the parts that are there.
        out: Run folder.
        xtc: Also export the whole.
        options: As for ``simulate_model``.

    Returns:
        Outcomes, and whether ``trajectories.zarr`` holds all replicas.

    Raises:
        UsageError: Options exclude each other, or what ``simulate_model`` raises.
    """
    if (shard is not None) + (processes is not None) + merge > 1:
        raise UsageError("simulate: only one of --shard, --processes and --merge")
    places = [place.strip() for place in devices.split(",")] if devices else []
    given = None if shard is None else (Shard.parse(shard), 0)
    if given is None and processes is None and not merge:
        given = environment_shard()
    joined = True
    if merge:
        names = ("trust", "adapter", "force", "home")
        kept = {name: options[name] for name in names if name in options}
        outcomes = join_shards(model, systems, out=out, **kept)
    elif given is not None:
        part, local = given
        device = places[local % len(places)] if places else None
        outcomes, joined = simulate_shard(
            model, systems, shard=part, device=device, out=out, **options
        )
    elif processes is not None or len(places) > 1:
        count = len(places) if processes is None else processes
        outcomes = simulate_processes(
            model, systems, processes=count, devices=places, out=out, **options
        )
    else:
        device = places[0] if places else None
        outcomes = simulate_model(model, systems, device=device, out=out, **options)
    if xtc and joined:
        for key in outcomes:
            export_xtc(out / "trajectories.zarr", out / "xtc", system=key)
    return outcomes, joined


def simulate_shard(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    shard: Shard,
    out: Path,
    force: bool = False,
    **options: Any,
) -> tuple[dict[str, SimulationOutcome], bool]:
    """Run one part of the replicas; join all parts of a system when this is the last of them.

    Args:
        model: As for ``simulate_model``.
        systems: As for ``simulate_model``.
        shard: Which part.
        out: Run folder, the same for all parts; parts lie in ``parts/`` below it.
        force: Start this part anew.
        options: As for ``simulate_model``.

    Returns:
        Outcomes, of all parts where they were joined, and whether all were.
    """
    target = out / "trajectories.zarr"
    outcomes = simulate_model(
        model, systems, out=shard.path(target).parent, shard=shard, force=force, **options
    )
    joined = True
    for key in outcomes:
        parts = finished_parts(target, key, shard.count)
        joined &= parts is not None
        if parts is not None:
            outcomes[key] = join_parts(parts, target, key, force=force)
    return outcomes, joined


def join_shards(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    out: Path,
    trust: bool = False,
    adapter: "AdapterChoice | None" = None,
    force: bool = False,
    home: Path | None = None,
) -> dict[str, SimulationOutcome]:
    """Join the parts that lie below a run folder, for every system.

    Raises:
        UsageError: There are none, there are divisions into different numbers of parts, or a part
            is missing or unfinished.
    """
    counts = sorted({folder.name.rpartition("-")[2] for folder in out.glob("parts/*-of-*")})
    if len(counts) != 1 or not counts[0].isdecimal():
        raise UsageError(
            f"{out / 'parts'}: not the parts of one division",
            expected="folders I-of-N of one N",
            found=f"divisions into {', '.join(counts)}" if counts else "none",
            fix="run the parts with --shard, or remove those of another division",
        )
    target, count = out / "trajectories.zarr", int(counts[0])
    parts = [Shard(index, count).path(target) for index in range(count)]
    potential = load_potential(model, home, trust=trust, adapter=adapter)
    return {
        key: join_parts(parts, target, key, force=force)
        for key in systems_of(potential, systems, model)
    }


def simulate_processes(
    model: str | Path,
    systems: list[str] | None = None,
    *,
    processes: int,
    devices: Sequence[str] = (),
    threads: int | None = None,
    progress: Progress = silent,
    **options: Any,
) -> dict[str, SimulationOutcome]:
    """Run all parts in processes of this machine, and join them.

    Args:
        model: As for ``simulate_model``.
        systems: As for ``simulate_model``.
        processes: Number of parts.
        devices: Torch devices, one for each process in turn; the processor if empty.
        threads: Of each process; an equal share of the cores if None.
        progress: Called as parts end.
        options: As for ``simulate_shard``.

    Raises:
        UsageError: Fewer than one process, or more than there are replicas.
        CgbenchError: What a part failed with; the others are finished first.
    """
    if processes < 1:
        raise UsageError("processes: at least one is needed", found=processes)
    share = threads or max(1, provenance.hardware().cores // processes)
    failed: list[CgbenchError] = []
    outcomes: dict[str, SimulationOutcome] = {}
    # Not forked: a copy of a process with threads may wait forever for one that it does not have.
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        jobs = [
            pool.submit(
                _part,
                model,
                systems,
                shard=Shard(index, processes),
                device=devices[index % len(devices)] if devices else None,
                threads=share,
                **options,
            )
            for index in range(processes)
        ]
        for done, job in enumerate(jobs, start=1):
            found, error = job.result()
            if error is not None:
                failed.append(error)
            elif found is not None and found[1]:
                # Of the part that ended last; the others know only themselves.
                outcomes = found[0]
            progress("parts of the replicas", done, processes)
    if failed:
        raise failed[0]
    return outcomes


def _part(
    model: str | Path, systems: list[str] | None, **options: Any
) -> tuple[tuple[dict[str, SimulationOutcome], bool] | None, CgbenchError | None]:
    # Errors of this package are returned: not every exception survives the way between processes.
    try:
        return simulate_shard(model, systems, **options), None
    except CgbenchError as error:
        return None, error
    except KeyboardInterrupt:
        # The parent says so; this part has written its checkpoint.
        sys.exit(130)
