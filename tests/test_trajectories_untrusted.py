"""``trajectories.zarr`` may come from anyone: what could do harm or mislead is refused."""

import json
import shutil

import numpy as np
import pytest
import zarr
from test_trajectories import SEQUENCE, simulate

from cgbench.errors import CgbenchError, IntegrityError, ValidationError
from cgbench.store import read_trajectories
from cgbench.store.arrays import open_array


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    path = tmp_path_factory.mktemp("original") / "t.zarr"
    simulate(path, 6)
    return path


@pytest.fixture
def path(original, tmp_path):
    return shutil.copytree(original, tmp_path / "t.zarr")


def change(path, **values):
    """Change values of a ``zarr.json``; a dotted name reaches into it."""
    file = path / "zarr.json"
    data = json.loads(file.read_text())
    for name, value in values.items():
        *parents, last = name.split("__")
        place = data
        for parent in parents:
            place = place[parent]
        place[last] = value
    file.write_text(json.dumps(data))


@pytest.mark.parametrize("array", ["coordinates", "network_energy", "trajectory", "alive_until"])
@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"data_type": "string"}, "wrong data type"),
        ({"data_type": {"name": "null_terminated_bytes"}}, "wrong data type"),
        ({"data_type": "complex64"}, "wrong data type"),
        ({"shape": [10**15]}, "dimensions|too large|array is"),
        ({"shape": "many"}, "shape is damaged"),
        ({"shape": [-1, 4, 3]}, "shape is damaged"),
        ({"codecs": [{"name": "numcodecs.pickle"}]}, "codec"),
        ({"codecs": [{"name": "vlen-utf8"}]}, "codec"),
        ({"codecs": []}, "codecs"),
        (
            {
                "codecs": [
                    {
                        "name": "sharding_indexed",
                        "configuration": {"codecs": [{"name": "numcodecs.pickle"}]},
                    }
                ]
            },
            "codec",
        ),
        ({"storage_transformers": [{"name": "x"}]}, "transformers"),
        ({"chunk_grid": {"name": "rectilinear", "configuration": {}}}, "chunk"),
        ({"chunk_key_encoding": {"name": "v2"}}, "grid"),
        ({"zarr_format": 2}, "zarr v3"),
        ({"node_type": "group"}, "zarr v3"),
    ],
)
def test_metadata_that_could_do_harm(path, array, values, word):
    change(path / "toy" / array, **values)
    with pytest.raises((IntegrityError, ValidationError), match=word):
        read_trajectories(path)


def test_sizes_are_bounded(path):
    folder = path / "toy/coordinates"
    change(folder, shape=[10**12, len(SEQUENCE), 3])
    with pytest.raises(IntegrityError, match="the array is too large"):
        read_trajectories(path)
    change(folder, shape=[18, len(SEQUENCE), 3])
    change(folder, chunk_grid__configuration__chunk_shape=[10**9, len(SEQUENCE), 3])
    with pytest.raises(IntegrityError, match="the chunk is too large"):
        read_trajectories(path)


def test_links_are_refused(path, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"x" * 100)
    chunk = path / "toy/coordinates/c.0.0.0"
    chunk.unlink()
    chunk.symlink_to(secret)
    with pytest.raises(IntegrityError, match="symbolic link"):
        read_trajectories(path)


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"attributes__sequence": "YYD"}, "wrong shape"),
        ({"attributes__sequence": 5}, "sequence"),
        ({"attributes__temperature_K": -1.0}, "temperature"),
        ({"attributes__frame_interval_ps": 0.0}, "frame_interval"),
        ({"attributes__frames_written": -3}, "frames_written"),
        ({"attributes__frames_written": "all"}, "frames_written"),
        ({"attributes__complete": 1}, "complete"),
        ({"attributes__seeds": {"noise": "x"}}, "seeds"),
        ({"attributes__schema_version": "v2"}, "not trajectories of this version"),
        ({"attributes__system": "lambda"}, "not trajectories of this version"),
        ({"attributes": {}}, "not trajectories of this version"),
    ],
)
def test_attributes_that_mislead(path, values, word):
    change(path / "toy", **values)
    with pytest.raises(CgbenchError, match=word):
        read_trajectories(path)


@pytest.mark.parametrize(
    ("array", "values", "word"),
    [
        ("trajectory", [0] * 5 + [1] * 6 + [2] * 7, "order"),
        ("trajectory", [0] * 6 + [2] * 6 + [1] * 6, "order"),
        ("trajectory", [0] * 6 + [1] * 6 + [3] * 6, "order"),
        ("trajectory", [-1] * 18, "numbered"),
        ("trajectory", [0] * 17 + [2**31 - 1], "numbered"),
        ("frame_in_trajectory", [0] * 18, "order"),
        ("alive_until", [6, 7, 6], "not frames"),
        ("alive_until", [6, -1, 6], "not frames"),
    ],
)
def test_indices_that_make_no_sense(path, array, values, word):
    open_array(path / "toy" / array, "r+")[:] = np.array(values)
    with pytest.raises(ValidationError, match=word):
        read_trajectories(path)


@pytest.mark.parametrize("array", ["trajectory", "network_energy", "alive_until"])
def test_arrays_of_other_lengths(path, array):
    change(path / "toy" / array, shape=[7])
    with pytest.raises(ValidationError, match=r"as many values|one number"):
        read_trajectories(path)


def test_no_damage_to_the_metadata_gets_past_our_errors(path):
    """Whatever a flipped bit makes of the metadata, the error is one of ours, or none."""
    random = np.random.default_rng(5)
    for name in ("zarr.json", "toy/zarr.json", "toy/coordinates/zarr.json"):
        file = path / name
        content = file.read_bytes()
        for position in random.choice(len(content), 40, replace=False):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(random.integers(8))
            file.write_bytes(damaged)
            try:
                read_trajectories(path, "toy")
            except CgbenchError:
                continue
        file.write_bytes(content)
    assert len(read_trajectories(path).coordinates) == 3


def test_files_made_with_zarr_alone_are_read(tmp_path):
    """The schema is open: other tools may write it, with their own chunks and codecs."""
    coordinates = np.random.default_rng(0).normal(size=(7, 4, 3))
    root = zarr.create_group(
        tmp_path / "t.zarr", attributes={"format": "cgbench-trajectories", "schema_version": "v1"}
    )
    group = root.create_group(
        "toy",
        attributes={
            "format": "cgbench-trajectories",
            "schema_version": "v1",
            "system": "toy",
            "sequence": SEQUENCE,
            "temperature_K": 350,
            "frame_interval_ps": None,
            "made_by": "another tool",
        },
    )
    group.create_array("coordinates", data=coordinates, chunks=(2, 3, 3))
    group.create_array("trajectory", data=np.array([0, 0, 0, 1, 1, 1, 1]))
    group.create_array("frame_in_trajectory", data=np.array([0, 1, 2, 0, 1, 2, 3]))
    group.create_array("weight", data=np.arange(7, dtype=np.float32))
    group.create_array("alive_until", data=np.array([3, 4]))
    found = read_trajectories(tmp_path / "t.zarr")
    assert [len(part) for part in found.coordinates] == [3, 4]
    assert found.coordinates[1].dtype == np.float32
    assert np.allclose(found.coordinates[1], coordinates[3:], atol=1e-6)
    assert found.weights[1].tolist() == [3, 4, 5, 6]
    assert found.frame_interval is None
    assert found.network_energy is None
    assert found.complete
