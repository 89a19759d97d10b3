"""Trajectory files and archives of them, as they are published, made into a store."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final, Unpack

from cgbench.errors import UsageError
from cgbench.fetch.archive import Limits, extract
from cgbench.ingest.hashing import HashedWhileWriting, LocalFile, RawFile
from cgbench.ingest.preprocess import (
    WriteOptions,
    check_against_registry,
    preprocess_source,
    system_metadata,
)
from cgbench.ingest.topology import natural_order
from cgbench.ingest.trajectory_files import STATES_TIMES
from cgbench.ingest.trajectory_source import TrajectorySource, make_whole
from cgbench.progress import Progress, silent
from cgbench.registry import System
from cgbench.store import Manifest

__all__ = [
    "TrajectorySource",
    "find_trajectories",
    "make_whole",
    "open_trajectories",
    "preprocess_trajectories",
    "unpack_archives",
]

#: What is looked for in folders. Files that may be topologies as well must be named one by one.
SEARCHED: Final = frozenset(STATES_TIMES) - {".pdb", ".h5", ".hdf5"}
#: Endings of archives, which are unpacked beside themselves.
ARCHIVES: Final = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar", ".zip")


def preprocess_trajectories(
    system: System,
    inputs: Sequence[Path],
    out: Path,
    *,
    topology: Path | None = None,
    stride: int = 1,
    interval: float | None = None,
    force_maps: Sequence[str] | None = None,
    work: Path | None = None,
    limits: Limits | None = None,
    **options: Unpack[WriteOptions],
) -> Manifest:
    """Make a store of a system from its reference trajectories.

    The trajectories are all files of a trajectory format, however deep in folders, input by input
    and in natural order within each. Their boundaries are those of the files. The frame interval
    is what the files state, which must be the registry's; where they state none, it is the
    registry's, as its publishers state it. Some of the published files have their times in
    femtoseconds where the format says picoseconds: a file that states a thousand times the
    registry's interval is read so, and the store's description says how many do.

    Args:
        system: The registry's entry.
        inputs: Archives, folders, or trajectory files.
        out: Folder of the store, ``<home>/store/<system>-reference.zarr`` by convention.
        topology: Topology of the trajectories; where None, files with more atoms than the system
            has beads need one beside them.
        stride: Keep every so many frames of each trajectory.
        interval: Time between frames of the files in ps, where it is not the registry's.
        force_maps: Which maps to store, in this order; all that the files have by default.
        work: Folder for the contents of archives, which are kept there and resumed if need be;
            by default beside each archive under its name, as ``cgbench download --extract`` does.
        limits: How much an archive may hold.
        options: As for :func:`cgbench.ingest.preprocess_source`.

    Raises:
        UsageError: An input does not exist, or holds no trajectories.
        IntegrityError: An archive or a trajectory is damaged, cut off or unsafe.
        ValidationError: A trajectory is of another protein, or intervals differ.
    """
    source = open_trajectories(
        system,
        inputs,
        topology=topology,
        stride=stride,
        interval=interval,
        force_maps=force_maps,
        work=work,
        limits=limits,
        progress=options.get("progress", silent),
    )
    check_against_registry(system, source, {"coordinates": source.files[0].path})
    description = f"{source.n_frames} frames of {len(source.files)} reference trajectories."
    if source.n_in_femtoseconds:
        description += (
            f" {source.n_in_femtoseconds} files state times in femtoseconds; they were read so."
        )
    archives = [path for path in inputs if _is_archive(path)]
    raw: list[tuple[str, RawFile]] = [
        (f"archive/{number}", LocalFile(path)) for number, path in enumerate(archives)
    ]
    if len(archives) < len(inputs):
        raw += source.raw_files(topology)
    verified = source.frame_interval
    stated = system.frame_interval if interval is None else interval
    if verified is None and stated is not None:
        description += " They state no times: their interval is what the publishers state."
        stated *= stride
    metadata = system_metadata(
        system,
        source,
        frame_interval=verified or stated,
        frame_interval_source="verified" if verified else "stated" if stated else None,
        boundaries_source="files",
        description=description,
    )
    return preprocess_source(source, metadata, out, raw=HashedWhileWriting(raw), **options)


def open_trajectories(
    system: System,
    inputs: Sequence[Path],
    *,
    topology: Path | None = None,
    stride: int = 1,
    interval: float | None = None,
    force_maps: Sequence[str] | None = None,
    work: Path | None = None,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> TrajectorySource:
    """Return all trajectories of archives, folders and files as one source of frames.

    Arguments and errors are those of :func:`preprocess_trajectories`.
    """
    folders = unpack_archives(inputs, work, limits, progress)
    return TrajectorySource(
        find_trajectories(folders),
        system.sequence,
        topology=topology,
        search=[folder for folder in folders if folder.is_dir()],
        stride=stride,
        interval=system.frame_interval if interval is None else interval,
        force_maps=force_maps,
        progress=progress,
    )


def unpack_archives(
    inputs: Iterable[Path],
    work: Path | None = None,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> list[Path]:
    """Unpack the archives among the inputs; return folders and files in the same order.

    Raises:
        UsageError: An input does not exist.
        IntegrityError: An archive is damaged or unsafe.
    """
    found = []
    for path in inputs:
        if path.is_file() and _is_archive(path):
            folder = (path.parent if work is None else work) / _stem(path.name)
            extract(path, folder, limits=limits, progress=progress)
            found.append(folder)
        else:
            found.append(path)
    return found


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES)


def _stem(name: str) -> str:
    ending = next(ending for ending in ARCHIVES if name.lower().endswith(ending))
    return name[: -len(ending)]


def find_trajectories(inputs: Iterable[Path]) -> list[Path]:
    """Return trajectory files: those named, and all below the folders named, in natural order.

    Raises:
        UsageError: An input does not exist, a folder holds none, or files of several formats.
    """
    found: list[Path] = []
    for path in inputs:
        if path.is_dir():
            files = [
                file
                for file in path.rglob("*")
                # Names with a leading dot are what other programs keep for themselves.
                if file.suffix.lower() in SEARCHED
                and not file.name.startswith(".")
                and file.is_file()
            ]
            kinds = sorted({file.suffix.lower() for file in files})
            if len(kinds) != 1:
                raise UsageError(
                    f"{path}: {'which trajectories?' if kinds else 'no trajectories'}",
                    expected=f"files of one of {', '.join(sorted(SEARCHED))}",
                    found=", ".join(kinds) or "none",
                    fix="name the files by a pattern" if kinds else None,
                )
            found += sorted(files, key=lambda file: natural_order(file.relative_to(path)))
        elif path.is_file():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return found
