"""The recipe of a user's own protein: one small YAML file that says what the data are."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Final, Literal

import pydantic
from pydantic import Field

from cgbench import registry
from cgbench.config import Frozen, read_data, validate
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.ingest.topology import natural_order
from cgbench.registry import SplitSettings

#: A recipe is a page of text.
_LARGEST_RECIPE: Final = 1024 * 1024
#: Names with a meaning of their own in folders and on the command line.
_RESERVED: Final = frozenset({"all", "suite"})
REFERENCE_SUFFIX: Final = "-reference"


def _inside(text: str) -> str:
    """Accept a path or pattern that cannot leave the folder it is relative to."""
    path = PurePosixPath(text)
    if not text or "\\" in text or "\0" in text or re.match(r"[A-Za-z]:", text):
        raise ValueError("not a relative path with forward slashes")
    if path.is_absolute() or text.startswith("~") or ".." in path.parts:
        raise ValueError("must lie below the recipe's own folder: relative, without '..'")
    return text


def _word(value: Any) -> Any:
    """Turn back what YAML makes of a bare yes or no."""
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


RelativePath = Annotated[str, pydantic.AfterValidator(_inside)]
Consistent = Annotated[Literal["yes", "no", "unknown"], pydantic.BeforeValidator(_word)]


class Units(Frozen):
    """Units of the files. Trajectory formats define their own lengths, so ``length`` is of npy.

    Attributes:
        length: Unit of npy coordinates.
        force: Unit of forces in npy files and beside trajectories.
    """

    length: Literal["angstrom", "nanometer"] = "angstrom"
    force: Literal["kcal/mol/angstrom", "kJ/mol/nm"] = "kcal/mol/angstrom"


class NpyFiles(Frozen):
    """Arrays, with all trajectories one after the other.

    Attributes:
        coordinates: File of coordinates (n_frames, n_beads, 3).
        forces: Per force map a file of the same shape.
        bead_types: File of bead types (n_beads,), to be checked against the sequence.
        lengths: Frames of each trajectory: a list, or a file (npy, or JSON with a list
            ``lengths``); null if that is not known.
    """

    coordinates: RelativePath
    forces: dict[str, RelativePath] = Field(default_factory=dict)
    bead_types: RelativePath | None = None
    lengths: tuple[Annotated[int, Field(ge=1)], ...] | RelativePath | None = None


class TrajectoryFiles(Frozen):
    """Trajectory files, one trajectory each.

    Attributes:
        files: Names or patterns (``runs/*/*.xtc``; ``**`` is any number of folders). Matches of
            a pattern come in natural order, run2 before run10.
        topology: Topology of all of them; where null, one that fits is looked for beside them.
        stride: Keep every so many frames.
    """

    files: tuple[RelativePath, ...] = Field(min_length=1)
    topology: RelativePath | None = None
    stride: int = Field(default=1, ge=1)


class RecipeAnalysis(Frozen):
    """How the reference of a user's own protein is analysed (``cgbench reference build``).

    Attributes:
        tica_lag_ps: Lag of the time-lagged independent component analysis in ps.
        msm_lag_ps: Lag of the reference's Markov state model in ps.
        model_msm_lag_ps: Lag in ps for weighting simulated ensembles that follow no protocol.
        tica_dimensions: Number of slow coordinates kept.
        tica_epsilon: Rank cutoff, relative to the largest variance.
        n_microstates: Number of k-means clusters.
        n_macrostates: Number of metastable states; null is the largest spectral gap in 2 to 6.
        seed: Seed of the clustering.
    """

    tica_lag_ps: float = Field(gt=0, allow_inf_nan=False)
    msm_lag_ps: float = Field(gt=0, allow_inf_nan=False)
    model_msm_lag_ps: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    tica_dimensions: int = Field(default=4, ge=2, le=100)
    tica_epsilon: float = Field(default=1e-6, gt=0, lt=1)
    n_microstates: int = Field(default=100, ge=2, le=10_000)
    n_macrostates: int | None = Field(default=None, ge=2, le=100)
    seed: int = Field(default=1, ge=0)


class Recipe(Frozen):
    """A user's own protein: what it is, how it was simulated, and where its files are.

    Attributes:
        key: Name of the system in cgbench; none that the registry has.
        name: Name for people; the key by default.
        sequence: One letter per bead, X for norleucine; by default that of the topology.
        temperature: Temperature of the simulation in K.
        frame_interval: Time between frames in ps as they will be stored, or "from files" for what
            the trajectory files state; null where it is not known.
        licence: Licence of the data.
        description: How the data were made.
        constraints: Which bonds were rigid, which decides what force maps are consistent.
        units: Units of the files.
        force_maps: For each force map, whether atoms joined by a constraint move together in it.
        default_force_map: The map that is used when none is named; by default the first.
        start_kind: One word for each trajectory on how it was started, for stratified splits.
        npy: Arrays.
        trajectories: Trajectory files. Exactly one of the two is given.
        native: PDB file of the native structure; its Cα atoms go to the data home.
        split: How the canonical split is made; chosen from the data by default.
        analysis: How a reference bundle is made of it; null where none is wanted.
    """

    key: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", max_length=64)
    name: str | None = None
    sequence: str | None = Field(default=None, pattern=r"^[A-Z]+$", min_length=4)
    temperature: float = Field(gt=0, allow_inf_nan=False)
    frame_interval: (
        Annotated[float, Field(gt=0, allow_inf_nan=False)] | Literal["from files"] | None
    )
    licence: str | None = None
    description: str | None = None
    constraints: str | None = None
    units: Units = Units()
    force_maps: dict[str, Consistent] = Field(default_factory=dict)
    default_force_map: str | None = None
    start_kind: tuple[str, ...] | None = None
    npy: NpyFiles | None = None
    trajectories: TrajectoryFiles | None = None
    native: RelativePath | None = None
    split: SplitSettings | None = None
    analysis: RecipeAnalysis | None = None

    @pydantic.field_validator("key")
    @classmethod
    def _a_name_of_its_own(cls, key: str) -> str:
        taken = {one.key for one in registry.systems()} | {one.key for one in registry.mutants()}
        taken |= {one.published_key for one in registry.systems() if one.published_key}
        if key in {name.lower() for name in taken}:
            raise ValueError(f"{key!r} is a system of the registry; choose another name")
        if key in _RESERVED or key.endswith(REFERENCE_SUFFIX):
            raise ValueError(f"{key!r} has a meaning of its own; choose another name")
        return key

    @pydantic.field_validator("sequence")
    @classmethod
    def _known_letters(cls, sequence: str | None) -> str | None:
        if sequence is not None:
            try:
                registry.bead_vocabulary().types(sequence)
            except CgbenchError as error:
                raise ValueError(error.what) from error
        return sequence

    @pydantic.field_validator("force_maps")
    @classmethod
    def _plain_names(cls, maps: dict[str, Consistent]) -> dict[str, Consistent]:
        for name in maps:
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
                raise ValueError(f"{name!r}: small letters, digits and '_'")
        return maps

    @pydantic.model_validator(mode="after")
    def _complete(self) -> "Recipe":
        if (self.npy is None) == (self.trajectories is None):
            raise ValueError("exactly one of npy and trajectories must be given")
        if self.npy is not None:
            if self.sequence is None:
                raise ValueError("sequence: must be given with npy files")
            if self.frame_interval == "from files":
                raise ValueError("frame_interval: npy files state none")
            if set(self.npy.forces) != set(self.force_maps):
                raise ValueError("force_maps: must name exactly the maps of npy.forces")
        elif self.units.length != "angstrom":
            raise ValueError("units.length: trajectory formats define their own unit of length")
        if self.default_force_map is not None and self.default_force_map not in self.force_maps:
            raise ValueError("default_force_map: is none of force_maps")
        return self


def read_recipe(path: Path) -> Recipe:
    """Read a recipe; nothing in it is executed, and no path in it leads out of its folder.

    Raises:
        UsageError: The file does not exist.
        IntegrityError: It is too large, or no YAML.
        ValidationError: A field is missing, unknown or wrong; the message names it.
    """
    if path.is_file() and path.stat().st_size > _LARGEST_RECIPE:
        raise IntegrityError(
            f"{path}: too large for a recipe",
            expected=f"at most {_LARGEST_RECIPE} bytes",
            found=path.stat().st_size,
        )
    data = read_data(path)
    if not isinstance(data, dict):
        raise ValidationError(
            f"{path}: not a recipe", expected="fields and values", found=type(data).__name__
        )
    return validate(Recipe, data, path)


def find_file(base: Path, name: str, field: str, recipe: Path) -> Path:
    """Return a file that a recipe names.

    Raises:
        UsageError: It does not exist; the message names the recipe's field.
    """
    path = base / name
    if not path.is_file():
        raise UsageError(f"{recipe}: {field}: no such file", found=path)
    return path


def find_files(base: Path, patterns: Sequence[str], field: str, recipe: Path) -> list[Path]:
    """Return the files that patterns match: pattern by pattern, each in natural order.

    Raises:
        UsageError: A pattern matches nothing.
        ValidationError: Two patterns match the same file.
    """
    found: dict[Path, None] = {}
    for number, pattern in enumerate(patterns):
        matches = [base / pattern] if (base / pattern).is_file() else list(base.glob(pattern))
        files = sorted(
            (file for file in matches if file.is_file()),
            key=lambda file: natural_order(file.relative_to(base)),
        )
        if not files:
            raise UsageError(
                f"{recipe}: {field}.{number}: no file matches",
                expected=f"files {pattern} below {base}",
            )
        for file in files:
            if file in found:
                raise ValidationError(
                    f"{recipe}: {field}.{number}: a file is named twice", found=file
                )
            found[file] = None
    return list(found)
