"""From a recipe to a store, the native structure and the split settings of a user's own protein."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Unpack

import numpy as np
import yaml

from cgbench import registry
from cgbench.config import data_home, write_atomic
from cgbench.errors import UsageError, ValidationError
from cgbench.ingest.array_set import ArraySet
from cgbench.ingest.hashing import HashedWhileWriting, LocalFile, RawFile
from cgbench.ingest.preprocess import WriteOptions, preprocess_source
from cgbench.ingest.recipe import Recipe, find_file, find_files, read_recipe
from cgbench.ingest.topology import (
    alpha_carbons,
    load_topology,
    residue_letters,
    select_beads,
)
from cgbench.ingest.trajectory_files import inspect_trajectory, read_positions
from cgbench.ingest.trajectory_source import TrajectorySource
from cgbench.progress import silent
from cgbench.splits import settings_file
from cgbench.store import Manifest
from cgbench.store.schema import BoundariesSource, IntervalSource, StoreMetadata
from cgbench.units import ANGSTROM_PER_NANOMETRE, KILOJOULE_PER_KILOCALORIE

_LENGTH_SCALE: Final = {"angstrom": 1.0, "nanometer": ANGSTROM_PER_NANOMETRE}
_FORCE_SCALE: Final = {
    "kcal/mol/angstrom": 1.0,
    "kJ/mol/nm": 1.0 / (KILOJOULE_PER_KILOCALORIE * ANGSTROM_PER_NANOMETRE),
}


def preprocess_recipe(
    path: Path,
    home: Path | None = None,
    out: Path | None = None,
    *,
    raw: Path | None = None,
    **options: Unpack[WriteOptions],
) -> Manifest:
    """Make the store of a user's own protein.

    The native structure, if the recipe names one, goes to ``<home>/native/<key>.pdb``, and split
    settings to ``<home>/splits/<key>/settings.yaml``.

    Args:
        path: The recipe.
        home: Data home.
        out: Folder of the store; ``<home>/store/<key>.zarr`` by default.
        raw: Folder that the recipe's paths are relative to; its own by default.
        options: As for :func:`cgbench.ingest.preprocess_source`.

    Returns:
        The manifest of the store.

    Raises:
        UsageError: A file that the recipe names does not exist.
        IntegrityError: A file is damaged.
        ValidationError: A field of the recipe is wrong, or the data are not what it says.
    """
    recipe = read_recipe(path)
    base = path.parent if raw is None else raw
    home = data_home(home)
    source: ArraySet | TrajectorySource
    if recipe.npy is not None:
        sequence = str(recipe.sequence)
        files, source, changes = _arrays(recipe, base, path)
    else:
        sequence, files, source, changes = _trajectories(recipe, base, path, options)
    default = recipe.default_force_map or next(iter(source.force_maps), None)
    metadata = StoreMetadata.model_validate(
        {
            "system": recipe.key,
            "name": recipe.name or recipe.key,
            "sequence": sequence,
            "temperature": recipe.temperature,
            "force_maps": source.force_maps,
            "default_force_map": default,
            "force_map_consistent": dict(recipe.force_maps),
            "constraints": recipe.constraints,
            "licence": recipe.licence,
            "trajectories_known": source.trajectory_lengths is not None,
            "start_kind": _start_kind(recipe, source, path),
            "sources": (),
            "description": recipe.description,
            **changes,
        }
    )
    native = None
    if recipe.native is not None:
        native = _native(find_file(base, recipe.native, "native", path), sequence)
    manifest = preprocess_source(
        source,
        metadata,
        out or home / "store" / f"{recipe.key}.zarr",
        raw=HashedWhileWriting(files),
        reading={
            "units": recipe.units.model_dump(),
            "stride": 1 if recipe.trajectories is None else recipe.trajectories.stride,
        },
        **options,
    )
    if native is not None:
        write_atomic(home / "native" / f"{recipe.key}.pdb", native)
    settings = settings_file(recipe.key, home)
    if recipe.split is not None:
        write_atomic(settings, yaml.safe_dump(recipe.split.model_dump(mode="json")))
    else:
        settings.unlink(missing_ok=True)
    return manifest


def _arrays(
    recipe: Recipe, base: Path, path: Path
) -> tuple[Sequence[tuple[str, RawFile]], ArraySet, dict[str, Any]]:
    told = recipe.npy
    if told is None:
        raise UsageError(f"{path}: npy is missing")
    coordinates = find_file(base, told.coordinates, "npy.coordinates", path)
    forces = {
        name: find_file(base, told.forces[name], f"npy.forces.{name}", path)
        for name in recipe.force_maps
    }
    files = {"coordinates": coordinates}
    files |= {f"forces/{name}": file for name, file in forces.items()}
    lengths: Any = told.lengths
    types = None
    if told.bead_types is not None:
        types = files["bead_types"] = find_file(base, told.bead_types, "npy.bead_types", path)
    if isinstance(lengths, str):
        lengths = files["trajectory_lengths"] = find_file(base, lengths, "npy.lengths", path)
    source = ArraySet(
        coordinates,
        forces,
        str(recipe.sequence),
        bead_types=types,
        lengths=lengths,
        length_scale=_LENGTH_SCALE[recipe.units.length],
        force_scale=_FORCE_SCALE[recipe.units.force],
    )
    known = source.trajectory_lengths is not None
    boundaries: BoundariesSource | None = "stated" if known else None
    interval: IntervalSource | None = "stated" if recipe.frame_interval is not None else None
    return (
        [(role, LocalFile(file)) for role, file in files.items()],
        source,
        {
            "frame_interval": recipe.frame_interval,
            "frame_interval_source": interval,
            "boundaries_source": boundaries,
        },
    )


def _trajectories(
    recipe: Recipe, base: Path, path: Path, options: WriteOptions
) -> tuple[str, Sequence[tuple[str, RawFile]], TrajectorySource, dict[str, Any]]:
    told = recipe.trajectories
    if told is None:
        raise UsageError(f"{path}: trajectories is missing")
    found = find_files(base, told.files, "trajectories.files", path)
    topology = None
    sequence = recipe.sequence
    if told.topology is not None:
        topology = find_file(base, told.topology, "trajectories.topology", path)
        read = load_topology(topology)
        sequence = sequence or residue_letters(read, alpha_carbons(read), topology)
    if sequence is None:
        raise ValidationError(
            f"{path}: sequence: neither it nor trajectories.topology is given",
            fix="give one letter per bead, or a topology with residues",
        )
    wanted = recipe.frame_interval
    stated = wanted if isinstance(wanted, float) else None
    source = TrajectorySource(
        found,
        sequence,
        topology=topology,
        stride=told.stride,
        interval=None if stated is None else stated / told.stride,
        forces_in_kilojoule=recipe.units.force == "kJ/mol/nm",
        force_maps=tuple(recipe.force_maps),
        progress=options.get("progress", silent),
    )
    if wanted == "from files" and source.frame_interval is None:
        raise ValidationError(
            f"{path}: frame_interval: the files state no times",
            expected="a number in ps, or null where it is not known",
            found=found[0].name,
        )
    interval_source: IntervalSource | None = None
    if wanted is not None:
        interval_source = "stated" if source.frame_interval is None else "verified"
    return (
        sequence,
        source.raw_files(topology),
        source,
        {
            "frame_interval": stated if wanted != "from files" else source.frame_interval,
            "frame_interval_source": interval_source,
            "boundaries_source": "files",
        },
    )


def _start_kind(
    recipe: Recipe, source: ArraySet | TrajectorySource, path: Path
) -> tuple[str, ...] | None:
    kinds = recipe.start_kind
    lengths = source.trajectory_lengths
    expected = 0 if lengths is None else len(lengths)
    if kinds is not None and len(kinds) != expected:
        raise ValidationError(
            f"{path}: start_kind: not one word for each trajectory",
            expected=f"{expected} words",
            found=len(kinds),
        )
    return kinds


def _native(path: Path, sequence: str) -> str:
    """Return the Cα atoms of a native structure as pdb text.

    Raises:
        ValidationError: They are not one for each bead, or of other residues.
    """
    atoms = select_beads(load_topology(path), sequence, path)
    names = {bead.letter: bead.residues[0] for bead in registry.bead_vocabulary().beads}
    positions = read_positions(inspect_trajectory(path), range(1), atoms)[0][0]
    if not np.isfinite(positions).all() or np.abs(positions).max() >= 1e4:
        raise ValidationError(f"{path}: coordinates that do not fit in a pdb file")
    lines = [
        f"ATOM  {bead:5d}  CA  {names[letter]:3s} A{bead:4d}    {x:8.3f}{y:8.3f}{z:8.3f}"
        "  1.00  0.00           C"
        for bead, (letter, (x, y, z)) in enumerate(zip(sequence, positions, strict=True), start=1)
    ]
    return "\n".join([*lines, "TER", "END", ""])
