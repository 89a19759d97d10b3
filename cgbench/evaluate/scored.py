"""A scored row: its result, the resampled values behind its intervals, and what a report draws."""

import io
import json
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError
from cgbench.evaluate.metrics.forces import ForceErrors
from cgbench.results import SystemResult

Float = NDArray[np.float64]

#: What a scored row's file is called beside its result.
SIDECAR: Final = "resamples.npz"
_FORMAT: Final = "cgbench-resamples"
_VERSION: Final = 1
#: Resampled values and thinned traces of one row take a few megabytes.
_MAXIMUM_BYTES: Final = 512 * 1024 * 1024


class MacrostatePopulation(Frozen):
    """One reference macrostate in the reference and in a model.

    Attributes:
        index: Number of the macrostate.
        native: Whether it holds the reference frame of least RMSD.
        reference_population: Weighted share of the reference.
        model_population: Weighted share of the model's living frames.
        reference_rmsd: Weighted mean RMSD in it in Å; None where it is empty.
        model_rmsd: As ``reference_rmsd``.
    """

    index: int
    native: bool
    reference_population: float
    model_population: float
    reference_rmsd: float | None
    model_rmsd: float | None


@dataclass(frozen=True)
class Marginal:
    """The distribution of one observable, on bins wide enough to draw.

    Attributes:
        edges: (n_bins + 1,).
        reference: (n_bins,) probability density.
        model: (n_bins,) probability density of what is alive and on the grid.
    """

    edges: Float
    reference: Float
    model: Float


@dataclass(frozen=True)
class Trace:
    """One trajectory in time, thinned, up to its first bad frame.

    Attributes:
        trajectory: Its index.
        time: (n,) ps from the start of the simulation.
        tic1: (n,) slowest coordinate.
        rmsd: (n,) RMSD to the native structure in Å.
    """

    trajectory: int
    time: Float
    tic1: Float
    rmsd: Float


@dataclass(frozen=True)
class Display:
    """What a report draws of one row.

    Attributes:
        fes_edges: (2, n_bins + 1) edges of the free-energy grid.
        fes_reference: (n_bins, n_bins) kcal/mol, least value zero, infinite where there is none.
        fes_model: As ``fes_reference``.
        native_tics: (2,) place of the native structure on the grid.
        marginals: By observable: ``tic1``, ``tic2``, ``rg``, ``end_to_end``, ``q``, ``rmsd``, and
            ``dihedral1`` to the last, in radians.
        traces: Empty for samples without time order.
        macrostates: In the order of their numbers.
    """

    fes_edges: Float
    fes_reference: Float
    fes_model: Float
    native_tics: Float
    marginals: dict[str, Marginal]
    traces: tuple[Trace, ...]
    macrostates: tuple[MacrostatePopulation, ...]


@dataclass(frozen=True)
class Scored:
    """One row: a model or a reference row on one system.

    Attributes:
        name: Name of the row.
        result: Values, intervals and statuses.
        seed: Seed of the resamples.
        n_trajectories: Trajectories that were resampled; rows with equal numbers, seeds and
            resamples took the same ones. 0 where a row was resampled in another way.
        resamples: (n_resamples,) values by metric, not-a-number where one does not exist.
        force_errors: Sums by test trajectory, if there are any.
        display: What a report draws; None for a system that failed.
    """

    name: str
    result: SystemResult
    seed: int
    n_trajectories: int
    resamples: dict[str, Float]
    force_errors: ForceErrors | None = None
    display: Display | None = None


class _Header(Frozen):
    format: str
    version: int
    name: str
    seed: int
    n_trajectories: int
    result: SystemResult
    force_map: str | None
    macrostates: tuple[MacrostatePopulation, ...] | None
    traces: tuple[int, ...]


_FORCE_ARRAYS: Final = ("trajectory", "squared", "absolute", "count")
_DISPLAY_ARRAYS: Final = ("fes_edges", "fes_reference", "fes_model", "native_tics")
_TRACE_ARRAYS: Final = ("time", "tic1", "rmsd")


def write_scored(path: Path, scored: Scored) -> None:
    """Write a row as one compressed numpy archive, atomically.

    Raises:
        UsageError: The path does not end in ``.npz``.
    """
    if path.suffix != ".npz":
        raise UsageError(f"{path}: scored rows are numpy archives", expected=".npz")
    display, errors = scored.display, scored.force_errors
    header = _Header(
        format=_FORMAT,
        version=_VERSION,
        name=scored.name,
        seed=scored.seed,
        n_trajectories=scored.n_trajectories,
        result=scored.result,
        force_map=None if errors is None else errors.force_map,
        macrostates=None if display is None else display.macrostates,
        traces=() if display is None else tuple(trace.trajectory for trace in display.traces),
    )
    arrays: dict[str, NDArray[Any]] = {
        "header": np.frombuffer(header.model_dump_json().encode(), dtype=np.uint8)
    }
    arrays |= {f"resamples/{name}": values for name, values in scored.resamples.items()}
    if errors is not None:
        arrays |= {f"forces/{name}": getattr(errors, name) for name in _FORCE_ARRAYS}
    if display is not None:
        arrays |= {f"display/{name}": getattr(display, name) for name in _DISPLAY_ARRAYS}
        for name, marginal in display.marginals.items():
            for field in fields(Marginal):
                arrays[f"marginals/{name}/{field.name}"] = getattr(marginal, field.name)
        for index, trace in enumerate(display.traces):
            for name in _TRACE_ARRAYS:
                arrays[f"traces/{index}/{name}"] = getattr(trace, name)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    config.write_atomic(path, buffer.getvalue())


def read_scored(path: Path) -> Scored:
    """Read a row that :func:`write_scored` wrote.

    Raises:
        UsageError: There is no such file.
        IntegrityError: It is damaged, too large, or of another format or version.
    """
    if not path.is_file():
        raise UsageError(f"{path}: no such file", fix="score the model again")
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(item.file_size for item in archive.infolist())
            if size > _MAXIMUM_BYTES:
                raise IntegrityError(f"{path}: too large for a scored row", found=size)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        header = _header(path, arrays)
        return _assembled(header, arrays)
    except IntegrityError:
        raise
    # Damaged bytes surface as whatever the decoder stumbles over first.
    except Exception as error:
        raise IntegrityError(
            f"{path}: the scored row is damaged",
            found=f"{type(error).__name__}: {error}",
            fix="score the model again",
        ) from error


def _header(path: Path, arrays: dict[str, NDArray[Any]]) -> _Header:
    data = json.loads(arrays["header"].tobytes())
    found = (data.get("format"), data.get("version"))
    if found != (_FORMAT, _VERSION):
        raise IntegrityError(
            f"{path}: not a scored row that can be read",
            expected=f"{_FORMAT} {_VERSION}",
            found=" ".join(str(item) for item in found),
        )
    return config.validate(_Header, data, path)


def _assembled(header: _Header, arrays: dict[str, NDArray[Any]]) -> Scored:
    errors = display = None
    if header.force_map is not None:
        parts = {name: arrays[f"forces/{name}"] for name in _FORCE_ARRAYS}
        errors = ForceErrors(force_map=header.force_map, **parts)
    if header.macrostates is not None:
        names = [key.split("/")[1] for key in arrays if key.startswith("marginals/")]
        display = Display(
            **{name: arrays[f"display/{name}"] for name in _DISPLAY_ARRAYS},
            marginals={
                name: Marginal(
                    **{
                        field.name: arrays[f"marginals/{name}/{field.name}"]
                        for field in fields(Marginal)
                    }
                )
                for name in dict.fromkeys(names)
            },
            traces=tuple(
                Trace(
                    trajectory, **{name: arrays[f"traces/{index}/{name}"] for name in _TRACE_ARRAYS}
                )
                for index, trajectory in enumerate(header.traces)
            ),
            macrostates=header.macrostates,
        )
    return Scored(
        name=header.name,
        result=header.result,
        seed=header.seed,
        n_trajectories=header.n_trajectories,
        resamples={
            key.removeprefix("resamples/"): values
            for key, values in arrays.items()
            if key.startswith("resamples/")
        },
        force_errors=errors,
        display=display,
    )
