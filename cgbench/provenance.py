"""What produced a result: versions, hardware, seeds and time."""

import datetime
import importlib.metadata
import os
import platform
import sys
from functools import cache
from pathlib import Path

from cgbench.config import Frozen
from cgbench.version import __version__

_PACKAGES = ("torch", "numpy", "scipy", "zarr", "xarray", "mdtraj", "deeptime", "lightning")


class Hardware(Frozen):
    """The machine, as far as it tells."""

    processor: str
    cores: int
    memory_bytes: int | None
    accelerator: str | None


class Provenance(Frozen):
    """Everything needed to say where a file came from."""

    suite_version: str
    created: str
    python: str
    platform: str
    packages: dict[str, str]
    hardware: Hardware
    seeds: dict[str, int]
    command: list[str]


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _accelerator() -> str | None:
    # Asked only when torch is loaded already: importing it here would slow every command.
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return str(torch.cuda.get_device_name())


@cache
def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware() -> Hardware:
    """Describe this machine; cores are those that this process may use."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:
        cores = os.cpu_count() or 1
    return Hardware(
        processor=_processor(), cores=cores, memory_bytes=_memory(), accelerator=_accelerator()
    )


def _without_folders(argument: str) -> str:
    """Return an argument, an absolute path as its last part: results say nothing of a machine."""
    path = Path(argument)
    return path.name if path.is_absolute() else argument


def collect(seeds: dict[str, int] | None = None) -> Provenance:
    """Collect the provenance of a file that is about to be written."""
    return Provenance(
        suite_version=__version__,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        python=platform.python_version(),
        platform=platform.platform(terse=True),
        packages=dict(_versions()),
        hardware=hardware(),
        seeds=dict(seeds or {}),
        command=[Path(sys.argv[0]).name, *map(_without_folders, sys.argv[1:])] if sys.argv else [],
    )
