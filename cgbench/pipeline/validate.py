"""Checks a file of any of the suite's formats and says what it is."""

import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pydantic

from cgbench import config, registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import Ensemble, ReferenceMetadata, read_reference, read_scored
from cgbench.force_maps import ForceMapFile, read_force_map
from cgbench.generate import GenerationCard
from cgbench.ingest import Recipe
from cgbench.models import ConformanceReport, load_model, model_hash
from cgbench.models.files import is_program
from cgbench.pipeline.scored_rows import RowRecord
from cgbench.pipeline.selection import SelectionOutcome
from cgbench.pipeline.structures_task import StructuresOutcome
from cgbench.pipeline.sweep import SweepOutcome
from cgbench.priors import PriorParameters
from cgbench.progress import Progress, silent
from cgbench.provenance import Provenance
from cgbench.results import read_result
from cgbench.results.comparison import RunComparison
from cgbench.results.mutants import MutantsOutcome
from cgbench.samplers import is_sampler, load_sampler, sampler_hash
from cgbench.simulation.checkpoint import RunRecord
from cgbench.splits import read_split
from cgbench.splits.cath_split import StructureSplit
from cgbench.splits.cath_structures import SPLIT_FILE, STRUCTURES_FILE, open_structures
from cgbench.store import Manifest, read_trajectories, stored_systems, verify_store
from cgbench.store.untrusted import (
    check_array_metadata,
    read_group_attributes,
    refuse_links,
)
from cgbench.train import TrainingOutcome, read_config

#: Types of the arrays in a reference bundle.
_BUNDLE_TYPES: Final = ("float32", "float64", "int32", "int64", "bool")
#: Reads a file and returns facts about it.
Reader = Callable[[Path], Mapping[str, Any]]


@dataclass(frozen=True)
class Validated:
    """A file that is in order.

    Attributes:
        path: The file or folder.
        kind: What it is.
        facts: What is worth telling of it.
    """

    path: Path
    kind: str
    facts: Mapping[str, Any]

    def record(self) -> dict[str, Any]:
        """Return it as plain data."""
        return {"path": str(self.path), "kind": self.kind, "valid": True, **self.facts}


def validate_file(
    path: Path, more: Mapping[str, tuple[str, Reader]] | None = None, progress: Progress = silent
) -> Validated:
    """Check a file or folder of any format that names itself, as if it came from a stranger.

    Args:
        path: A store, an ensemble, a reference bundle, a run folder, a model, a result, a split, a
            prior, a scored row, a configuration, or a record of one of these as JSON.
        more: Further JSON and YAML formats: kind and reader by the format's name.
        progress: Told how far a store is.

    Raises:
        UsageError: There is no such file, or it is of no known format.
        IntegrityError: It is damaged, or could do harm.
        ValidationError: Its content is wrong.
    """
    if path.is_symlink():
        raise IntegrityError(f"{path}: a symbolic link", expected="the file itself")
    if path.is_dir():
        return _folder(path, more or {}, progress)
    if not path.is_file():
        raise UsageError(f"{path}: no such file")
    if path.suffix in (".json", ".yaml", ".yml"):
        return _document(path, more or {})
    if path.suffix == ".npz":
        return _archive(path)
    if path.suffix in (".pt", ".pt2", ".ts") or zipfile.is_zipfile(path):
        if is_sampler(path):
            return Validated(path, "sampler", _sampler(path))
        return Validated(path, "model", _model(path))
    raise UsageError(
        f"{path}: not a format of this suite",
        expected="a .zarr folder, a run folder, .pt, .npz, .json, or .yaml",
        found=path.suffix or "no suffix",
    )


def _archive(path: Path) -> Validated:
    """Check arrays: a force map, which has a description beside it, or a scored row."""
    beside = path.with_suffix(".json")
    data = config.read_data(beside) if beside.is_file() and not beside.is_symlink() else None
    if isinstance(data, dict) and data.get("format") == "cgbench-force-map":
        found = read_force_map(path)
        facts: dict[str, Any] = {"name": found.name, "beads": found.n_beads}
        return Validated(path, "force map", facts | {"consistent": found.consistent})
    row = read_scored(path)
    facts = {"name": row.name, "system": row.result.system, "metrics": len(row.result.metrics)}
    return Validated(path, "scored row", facts)


def _folder(path: Path, more: Mapping[str, tuple[str, Reader]], progress: Progress) -> Validated:
    if (path / "zarr.json").is_file():
        refuse_links(path)
        name = read_group_attributes(path).get("format")
        known: dict[str, tuple[str, Reader]] = {
            "cgbench-store": ("store", lambda place: _store(place, progress)),
            "cgbench-trajectories": ("ensemble", _ensemble),
            "cgbench-reference": ("reference bundle", _reference),
        }
        if name not in known:
            raise UsageError(
                f"{path}: a zarr folder of no known format",
                expected=", ".join(known),
                found=repr(name)[:100],
            )
        kind, reader = known[name]
        return Validated(path, kind, reader(path))
    if any((path / name).exists() for name in _RUN_MARKERS):
        return Validated(path, "run folder", _run(path))
    if (path / SPLIT_FILE).is_file() and (path / STRUCTURES_FILE).is_file():
        split, structures = open_structures(path)
        facts = {"id": split.id, "fingerprint": split.fingerprint, "domains": len(structures)}
        return Validated(path, "split of structures", facts)
    for marker, (kind, reader) in more.items():
        if marker.endswith("/") and (path / marker).is_dir():
            return Validated(path, kind, reader(path))
    raise UsageError(
        f"{path}: a folder of no known format",
        expected="a store, an ensemble, a reference bundle, or a run folder with result.json",
    )


def _document(path: Path, more: Mapping[str, tuple[str, Reader]]) -> Validated:
    data = config.read_data(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: holds no format of this suite", found=type(data).__name__)
    name = data.get("format")
    if isinstance(name, str) and name in more:
        kind, reader = more[name]
        return Validated(path, kind, reader(path))
    if name == "cgbench-result":
        return Validated(path, "result", _result(path))
    if name == "cgbench-split":
        split = read_split(path)
        facts = {"id": split.id, "system": split.system, "fingerprint": split.fingerprint}
        return Validated(path, "split", facts)
    if isinstance(name, str) and name in _RECORDS:
        kind, model = _RECORDS[name]
        found = config.validate(model, data, path)
        return Validated(path, kind, {"fingerprint": config.fingerprint(found)})
    if name is None and path.suffix != ".json":
        return _unnamed(path, data)
    for fields, (kind, model) in _UNNAMED_RECORDS.items() if name is None else ():
        if set(fields) <= data.keys():
            config.validate(model, data, path)
            return Validated(path, kind, {})
    raise UsageError(
        f"{path}: not a format of this suite",
        expected=", ".join(sorted({"cgbench-result", "cgbench-split", *_RECORDS, *more})),
        found=repr(name)[:100],
    )


#: JSON records that name their format: what they are, and the model that reads them.
_RECORDS: Final[Mapping[str, tuple[str, type[pydantic.BaseModel]]]] = {
    "cgbench-prior": ("prior", PriorParameters),
    "cgbench-comparison": ("comparison", RunComparison),
    "cgbench-mutants": ("outcome of the mutants' test", MutantsOutcome),
    "cgbench-scored-row": ("record of a scored row", RowRecord),
    "cgbench-force-map": ("force map", ForceMapFile),
    "cgbench-generation": ("card of a generated data set", GenerationCard),
    "cgbench-reference": ("metadata of a reference bundle", ReferenceMetadata),
    "cgbench-run": ("record of a simulation", RunRecord),
    "cgbench-selection": ("outcome of a selection", SelectionOutcome),
    "cgbench-store-manifest": ("manifest of a store", Manifest),
    "cgbench-structure-split": ("split of structures", StructureSplit),
    "cgbench-structures": ("outcome of the structures task", StructuresOutcome),
    "cgbench-sweep": ("outcome of a sweep", SweepOutcome),
}

#: Parts of a run folder that name no format, by fields that no other has.
_UNNAMED_RECORDS: Final[Mapping[tuple[str, ...], tuple[str, type[pydantic.BaseModel]]]] = {
    ("suite_version", "hardware"): ("provenance", Provenance),
    ("validation_loss", "best_epoch"): ("outcome of a training", TrainingOutcome),
    ("potential", "checks"): ("conformance report", ConformanceReport),
}
#: A folder with one of these is that of an evaluation, a training or a simulation.
_RUN_MARKERS: Final = ("result.json", "training.json", "trajectories.zarr")
#: What else a run folder may hold, and is checked there.
_RUN_PARTS: Final = (
    "provenance.json", "training.json", "prior.json", "selection.json", "trajectories.*.run.json",
    "check/*.json", "scored/*.json", "scored/*.npz",
)  # fmt: skip


def _unnamed(path: Path, data: Mapping[str, Any]) -> Validated:
    """Check YAML that people write: recipes and training configurations name no format."""
    if {"key", "temperature"} <= data.keys():
        recipe = config.validate(Recipe, data, path)
        return Validated(path, "recipe", {"fingerprint": config.fingerprint(recipe)})
    settings = read_config(path)
    facts = {"name": settings.name, "fingerprint": config.fingerprint(settings)}
    return Validated(path, "training configuration", facts)


def _store(path: Path, progress: Progress) -> Mapping[str, Any]:
    report = verify_store(path, progress)
    if not report.ok:
        raise IntegrityError(f"{path}: the store is damaged", found="; ".join(report.problems[:5]))
    return {"shards": len(report.shards), "fingerprint": report.fingerprint}


def _ensemble(path: Path) -> Mapping[str, Any]:
    systems = stored_systems(path)
    if not systems:
        raise ValidationError(f"{path}: holds no system")
    known = {entry.key for entry in registry.systems()}
    facts: dict[str, Any] = {"systems": {}}
    for key in systems:
        found = read_trajectories(path, key)
        if key in known:
            # Its beads have to be those of the protein.
            Ensemble.from_trajectory_set(found, name=key)
        facts["systems"][key] = {
            "trajectories": len(found.coordinates),
            "frames": sum(len(part) for part in found.coordinates),
            "complete": found.complete,
            "protocol": found.attributes.protocol,
            "model_hash": found.attributes.model_hash,
        }
    return facts


def _reference(path: Path) -> Mapping[str, Any]:
    for metadata in sorted(path.rglob("zarr.json")):
        data = config.read_data(metadata)
        if isinstance(data, dict) and data.get("node_type") == "array":
            shape = data.get("shape")
            dimensions = len(shape) if isinstance(shape, list) else 0
            # Sizes and codecs, before zarr believes them.
            check_array_metadata(data, metadata.parent, _BUNDLE_TYPES, dimensions)
    bundle = read_reference(path)
    return {
        "system": bundle.system,
        "version": bundle.version,
        "fingerprint": bundle.fingerprint,
        "converged": bundle.converged,
    }


def _run(path: Path) -> Mapping[str, Any]:
    facts: dict[str, Any] = {}
    if (path / "result.json").exists():
        facts |= _result(path / "result.json")
    if (path / "trajectories.zarr").is_dir():
        facts["trajectories"] = _ensemble(path / "trajectories.zarr")["systems"]
    if (path / "model.pt").is_file() and not is_program(path / "model.pt"):
        found = model_hash(path / "model.pt")
        if facts.setdefault("model_hash", found) != found:
            raise ValidationError(
                f"{path / 'model.pt'}: not the model of the result",
                expected=facts["model_hash"],
                found=found,
            )
    for pattern in _RUN_PARTS:
        for part in sorted(path.glob(pattern)):
            validate_file(part)
    return facts


def _result(path: Path) -> Mapping[str, Any]:
    result = read_result(path)
    return {
        "model": result.model.name,
        "model_hash": result.model.hash,
        "protocol": None if result.protocol is None else result.protocol.id,
        "systems": {item.system: item.status for item in result.systems},
    }


def _model(path: Path) -> Mapping[str, Any]:
    if is_program(path):
        raise ValidationError(
            f"{path}: a program (TorchScript or torch.export), which is never run here",
            expected="a native model.pt",
            fix="cgbench check --trust runs it, if you know where it comes from",
        )
    potential = load_model(path)
    return {
        "name": potential.spec.name,
        "hash": model_hash(path),
        "parameters": potential.spec.n_parameters,
        "trained_on": [item.system for item in potential.spec.trained_on],
    }


def _sampler(path: Path) -> Mapping[str, Any]:
    sampler = load_sampler(path)
    return {
        "name": sampler.spec.name,
        "hash": sampler_hash(path),
        "sampler": sampler.network.kind,
        "parameters": sampler.spec.n_parameters,
        "trained_on": [item.system for item in sampler.spec.trained_on],
    }
