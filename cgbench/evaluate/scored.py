"""A scored row: its result, the resampled values behind its intervals, and what a report draws."""

import io
import json
import zipfile
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from cgbench import config
from cgbench.config import Frozen
from cgbench.errors import IntegrityError, UsageError
from cgbench.evaluate.drawings import (
    Contacts,
    Display,
    MacrostatePopulation,
    Marginal,
    Profile,
    Trace,
)
from cgbench.evaluate.metrics.forces import ForceErrors
from cgbench.results import SystemResult

Float = NDArray[np.float64]

#: What a scored row's file is called beside its result.
SIDECAR: Final = "resamples.npz"
_FORMAT: Final = "cgbench-resamples"
_VERSION: Final = 2
#: Resampled values and thinned traces of one row take a few megabytes.
_MAXIMUM_BYTES: Final = 512 * 1024 * 1024


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
        timings: Seconds by stage of scoring it; not kept in its file.
    """

    name: str
    result: SystemResult
    seed: int
    n_trajectories: int
    resamples: dict[str, Float]
    force_errors: ForceErrors | None = None
    display: Display | None = None
    timings: dict[str, float] = field(default_factory=dict)


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
        for name, profile in display.profiles.items():
            for field in fields(Profile):
                arrays[f"profiles/{name}/{field.name}"] = getattr(profile, field.name)
        if display.contacts is not None:
            for field in fields(Contacts):
                arrays[f"contacts/{field.name}"] = getattr(display.contacts, field.name)
        if display.structures is not None:
            arrays["structures"] = display.structures
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
            fix="score the model again: run 'cgbench evaluate' on the same folder",
        )
    return config.validate(_Header, data, path)


def _assembled(header: _Header, arrays: dict[str, NDArray[Any]]) -> Scored:
    errors = display = None
    if header.force_map is not None:
        parts = {name: arrays[f"forces/{name}"] for name in _FORCE_ARRAYS}
        errors = ForceErrors(force_map=header.force_map, **parts)
    if header.macrostates is not None:
        display = Display(
            **{name: arrays[f"display/{name}"] for name in _DISPLAY_ARRAYS},
            marginals=_grouped(arrays, "marginals", Marginal),
            profiles=_grouped(arrays, "profiles", Profile),
            contacts=None
            if "contacts/model" not in arrays
            else Contacts(
                **{item.name: arrays[f"contacts/{item.name}"] for item in fields(Contacts)}
            ),
            structures=arrays.get("structures"),
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


_Part = TypeVar("_Part", Marginal, Profile)


def _grouped(arrays: dict[str, NDArray[Any]], group: str, kind: type[_Part]) -> dict[str, _Part]:
    """Return the parts ``group/<name>/<field>`` by name, in the order of the file."""
    names = [key.split("/")[1] for key in arrays if key.startswith(f"{group}/")]
    return {
        name: kind(**{item.name: arrays[f"{group}/{name}/{item.name}"] for item in fields(kind)})
        for name in dict.fromkeys(names)
    }
