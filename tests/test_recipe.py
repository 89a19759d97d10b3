"""Recipes: a user's own protein becomes a store, and a wrong field is named."""

import json
import shutil
from pathlib import Path

import mdtraj
import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from cgbench import registry
from cgbench.cli.main import app
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.evaluate.native import read_native
from cgbench.ingest import preprocess_recipe, read_recipe
from cgbench.registry import SplitSettings
from cgbench.splits import check_split, make_split, read_split, split_settings
from cgbench.store import open_store, verify_store

EXAMPLES = Path(__file__).parent.parent / "datasets" / "recipes"
SEQUENCE = "YYDPETGTWY"
LENGTHS = [500] * 105
KILOJOULE = 41.84


@pytest.fixture(scope="module")
def arrays(chignolin_dir):
    """Coordinates in Å and forces in kcal/mol/Å of the first twelve trajectories."""
    names = {"coordinates": "coords", "slice": "forces", "optimal": "forces_optimal"}
    return {
        key: np.load(chignolin_dir / f"chignolin_ca_{name}.npy", mmap_mode="r")[:6000]
        for key, name in names.items()
    }


@pytest.fixture
def npy_folder(tmp_path, arrays):
    """The worked example for arrays, with its files."""
    folder = tmp_path / "own"
    folder.mkdir()
    np.save(folder / "coordinates.npy", arrays["coordinates"] / 10)
    np.save(folder / "forces.npy", (arrays["slice"] * KILOJOULE).astype(np.float64))
    np.save(folder / "forces_optimal.npy", arrays["optimal"] * KILOJOULE)
    (folder / "lengths.json").write_text(json.dumps({"lengths": [500] * 12}))
    shutil.copy(EXAMPLES / "cln025-npy.yaml", folder / "my.yaml")
    return folder


@pytest.fixture(scope="module")
def xtc_example(tmp_path_factory, chignolin_dir):
    """The worked example for trajectories: real all-atom frames with forces on every atom."""
    folder = tmp_path_factory.mktemp("xtc") / "own"
    (folder / "runs" / "second").mkdir(parents=True)
    shutil.copy(EXAMPLES / "cln025-xtc.yaml", folder / "my.yaml")
    shutil.copy(chignolin_dir / "topology_all_atom.pdb", folder / "topology.pdb")
    shutil.copy(chignolin_dir / "topology_all_atom.pdb", folder / "native.pdb")
    topology = mdtraj.load_topology(str(folder / "topology.pdb"))
    alpha = topology.select("name CA")
    expected = []
    with np.load(chignolin_dir / "all_atom_example.npz") as data:
        for number, name in enumerate(("run1", "run2", "run10", "second/run3")):
            frames, forces = data[f"coords_{number}"], data[f"forces_{number}"]
            path = folder / "runs" / f"{name}.xtc"
            mdtraj.Trajectory(frames / 10, topology, time=np.arange(500.0)).save(str(path))
            np.savez(path.with_name(f"{path.stem}.forces.npz"), slice=forces * KILOJOULE)
            expected.append((frames[:, alpha], forces[:, alpha]))
    return folder, expected


def change(folder, **changes):
    path = folder / "my.yaml"
    data = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        section, _, key = name.rpartition("__")
        (data[section] if section else data)[key] = value
    path.write_text(yaml.safe_dump(data))
    return path


def test_the_worked_example_of_arrays_becomes_a_store(npy_folder, tmp_path, arrays):
    home = tmp_path / "home"
    manifest = preprocess_recipe(npy_folder / "my.yaml", home, workers=2)
    path = home / "store" / "my-cln025.zarr"
    store = open_store("my-cln025", home)
    assert verify_store(path).ok
    assert np.allclose(store.coordinates(), arrays["coordinates"], rtol=3e-7, atol=0)
    for name in ("slice", "optimal"):
        assert np.allclose(store.forces(force_map=name), arrays[name], rtol=5e-7, atol=1e-30)
    metadata = store.metadata
    assert (metadata.system, metadata.sequence, metadata.licence) == (
        "my-cln025",
        SEQUENCE,
        "CC-BY-4.0",
    )
    assert metadata.force_map_consistent == {"slice": "no", "optimal": "yes"}
    assert metadata.default_force_map == "optimal"
    assert (metadata.frame_interval, metadata.frame_interval_source) == (1.0, "stated")
    assert metadata.boundaries_source == "stated"
    assert len(store.trajectory_bounds) == 12
    roles = [source.role for source in metadata.sources]
    assert roles == ["coordinates", "forces/slice", "forces/optimal", "trajectory_lengths"]
    assert preprocess_recipe(npy_folder / "my.yaml", home) == manifest


def test_other_units_make_another_store(npy_folder, tmp_path, arrays):
    home = tmp_path / "home"
    first = preprocess_recipe(npy_folder / "my.yaml", home)
    # The files are the same, and so is what the store says of them.
    recipe = change(npy_folder, units__force="kcal/mol/angstrom")
    assert preprocess_recipe(recipe, home).fingerprint != first.fingerprint
    forces = open_store("my-cln025", home).forces(0, 10, "optimal")
    assert np.allclose(forces, arrays["optimal"][:10] * KILOJOULE, rtol=1e-6)


def test_the_worked_example_of_trajectories_becomes_a_store(xtc_example, tmp_path):
    folder, expected = xtc_example
    home = tmp_path / "home"
    preprocess_recipe(folder / "my.yaml", home)
    store = open_store("my-cln025", home)
    # Natural order: runs/run1, run2, run10, and then the folder.
    assert np.diff(store.trajectory_bounds).ravel().tolist() == [500] * 4
    coordinates = np.concatenate([frames for frames, _ in expected])
    assert np.abs(store.coordinates() - coordinates).max() < 0.0051
    forces = np.concatenate([values for _, values in expected])
    assert np.allclose(store.forces(), forces, rtol=1e-5, atol=1e-4)
    assert store.metadata.force_map_consistent == {"slice": "no"}
    assert (store.metadata.frame_interval, store.metadata.frame_interval_source) == (
        1.0,
        "verified",
    )
    assert store.metadata.boundaries_source == "files"
    native = read_native(home / "native" / "my-cln025.pdb", SEQUENCE)
    topology = mdtraj.load(str(folder / "native.pdb"))
    assert np.abs(native - topology.xyz[0][topology.topology.select("name CA")] * 10).max() < 6e-4
    settings = split_settings(store, home)
    assert settings.unit == "trajectory"
    assert len(make_split("block-v1", store, settings).trajectories["train"]) == 2


def test_stores_of_users_can_be_split_and_checked(npy_folder, tmp_path):
    home = tmp_path / "home"
    run = CliRunner()
    preprocess_recipe(npy_folder / "my.yaml", home)
    for command in ("make", "check"):
        result = run.invoke(app, ["splits", command, "my-cln025", "--home", str(home)])
        assert result.exit_code == 0, result.output
    split = read_split(home / "splits" / "my-cln025" / "block-v1.json")
    check_split(split, open_store("my-cln025", home))
    assert split.settings.method == "trajectories"
    told = {"unit": "block", "train": 0.5, "val": 0.25, "test": 0.25, "gap_frames": 7, "seed": 4}
    preprocess_recipe(change(npy_folder, split=told), home)
    store = open_store("my-cln025", home)
    assert split_settings(store, home) == SplitSettings.model_validate(told)
    made = make_split("block-v1", store, split_settings(store, home))
    assert made.settings.gap_frames == 7
    check_split(made, store)


def test_without_lengths_the_split_has_blocks_and_a_gap(npy_folder, tmp_path):
    home = tmp_path / "home"
    preprocess_recipe(change(npy_folder, npy__lengths=None, frame_interval=None), home)
    store = open_store("my-cln025", home)
    assert not store.metadata.trajectories_known
    assert (store.metadata.frame_interval, store.metadata.frame_interval_source) == (None, None)
    settings = split_settings(store, home)
    assert (settings.unit, settings.gap_frames) == ("block", 6)
    check_split(make_split("block-v1", store, settings), store)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"key": "chignolin"}, "key"),
        ({"key": "cln"}, "key"),
        ({"key": "chignolin-sample"}, "key"),
        ({"key": "homeodomain-1p7i"}, "key"),
        ({"key": "x-reference"}, "key"),
        ({"key": "all"}, "key"),
        ({"key": "../x"}, "key"),
        ({"key": "My Protein"}, "key"),
        ({"sequence": "YYDPETGTWB"}, "sequence"),
        ({"sequence": None}, "sequence"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": ".inf"}, "temperature"),
        ({"temperature": "350 K"}, "temperature"),
        ({"frame_interval": "from files"}, "frame_interval"),
        ({"frame_interval": 0}, "frame_interval"),
        ({"units__length": "bohr"}, "units.length"),
        ({"force_maps__slice": "maybe"}, "force_maps.slice"),
        ({"force_maps": {"slice": True}}, "force_maps"),
        ({"force_maps": {"Bad Name": "no"}}, "force_maps"),
        ({"default_force_map": "other"}, "default_force_map"),
        ({"npy__coordinates": "/etc/passwd"}, "npy.coordinates"),
        ({"npy__coordinates": "../own/coordinates.npy"}, "npy.coordinates"),
        ({"npy__coordinates": "~/coordinates.npy"}, "npy.coordinates"),
        ({"npy__coordinates": "C:/coordinates.npy"}, "npy.coordinates"),
        ({"npy__coordinates": "a\\b.npy"}, "npy.coordinates"),
        ({"npy__coordinates": ""}, "npy.coordinates"),
        ({"npy__other": 1}, "npy.other"),
        ({"npy__lengths": [0, 6000]}, "npy.lengths"),
        ({"npy": None}, "npy"),
        ({"native": "a/../../b.pdb"}, "native"),
        ({"trajectories": {"files": ["*.xtc"]}}, "trajectories"),
        ({"trajectories": {"files": []}, "npy": None}, "trajectories.files"),
        ({"split": {"unit": "trajectory"}}, "split.train"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_field_is_named(npy_folder, tmp_path, changes, named):
    path = change(npy_folder, **changes)
    with pytest.raises(ValidationError) as caught:
        preprocess_recipe(path, tmp_path / "home")
    assert named in str(caught.value.found)
    assert str(path) in caught.value.what
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize(
    ("changes", "kind", "named"),
    [
        ({"npy__coordinates": "none.npy"}, UsageError, "npy.coordinates"),
        ({"npy__forces": {"slice": "x", "optimal": "y"}}, UsageError, r"npy\.forces"),
        ({"native": "none.pdb"}, UsageError, "native"),
        ({"npy__lengths": "none.json"}, UsageError, "npy.lengths"),
        ({"npy__lengths": [500] * 11}, ValidationError, "lengths"),
        ({"npy__bead_types": "types.npy"}, ValidationError, "bead types"),
        ({"start_kind": ["coil"]}, ValidationError, "start_kind"),
        ({"sequence": SEQUENCE[:-1]}, ValidationError, "wrong number of beads"),
        ({"units__length": "angstrom"}, ValidationError, "no frame passed screening"),
        ({"native": "lengths.json"}, UsageError, "lengths.json"),
    ],
)
def test_data_that_are_not_what_the_recipe_says(npy_folder, tmp_path, changes, kind, named):
    np.save(npy_folder / "types.npy", np.arange(10))
    home = tmp_path / "home"
    with pytest.raises(kind, match=named):
        preprocess_recipe(change(npy_folder, **changes), home)
    assert not list(home.rglob("*.pdb"))
    assert not (home / "store" / "my-cln025.zarr").exists()


def test_trajectories_that_are_not_what_the_recipe_says(xtc_example, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(xtc_example[0], folder)
    whole = (folder / "my.yaml").read_text()
    for changes, named in (
        ({"sequence": "YYDPETGTWW"}, "W at bead 9"),
        ({"frame_interval": 2.0}, "another time between frames"),
        ({"trajectories__files": ["other/*.xtc"]}, "trajectories.files.0"),
        ({"trajectories__files": ["runs/*.xtc", "runs/run1.xtc"]}, "named twice"),
        ({"trajectories__topology": "none.pdb"}, "trajectories.topology"),
        ({"force_maps": {"optimal": "yes"}, "default_force_map": None}, "map optimal"),
        ({"trajectories__topology": None, "sequence": None}, "sequence"),
    ):
        (folder / "my.yaml").write_text(whole)
        with pytest.raises(CgbenchError, match=named):
            preprocess_recipe(change(folder, **changes), tmp_path / "home")
    (folder / "my.yaml").write_text(whole)
    data = (folder / "runs" / "run10.xtc").read_bytes()
    (folder / "runs" / "run10.xtc").write_bytes(data[:-9])
    with pytest.raises(IntegrityError, match=r"run10\.xtc: cut off in frame 499"):
        preprocess_recipe(folder / "my.yaml", tmp_path / "home")


def test_the_sequence_may_come_from_the_topology_and_a_stride_counts(xtc_example, tmp_path):
    folder = tmp_path / "own"
    shutil.copytree(xtc_example[0], folder)
    path = change(folder, sequence=None, trajectories__stride=10, frame_interval=10.0)
    preprocess_recipe(path, tmp_path / "home")
    store = open_store("my-cln025", tmp_path / "home")
    assert store.metadata.sequence == SEQUENCE
    assert np.diff(store.trajectory_bounds).ravel().tolist() == [50] * 4
    assert (store.metadata.frame_interval, store.metadata.frame_interval_source) == (
        10.0,
        "verified",
    )


def test_a_recipe_is_plain_data_of_modest_size(tmp_path):
    path = tmp_path / "my.yaml"
    path.write_text("!!python/object/apply:os.system ['touch x']")
    with pytest.raises(IntegrityError, match="parsed"):
        read_recipe(path)
    path.write_text("- 1\n")
    with pytest.raises(ValidationError, match="not a recipe"):
        read_recipe(path)
    path.write_text("a: 1\n" + "#" * 2_000_000)
    with pytest.raises(IntegrityError, match="too large"):
        read_recipe(path)


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_published_recipe_is_valid(path):
    recipe = read_recipe(path)
    assert recipe.key not in {system.key for system in registry.systems()}
