"""Reference bundles on disk: exact round trips, and damage that never goes unnoticed."""

import json
import shutil
from dataclasses import fields, replace

import numpy as np
import pytest
import zarr
from toy_reference import toy_input

from cgbench.errors import IntegrityError, UsageError
from cgbench.evaluate.reference import (
    build_from_trajectories,
    bundle_fingerprint,
    read_reference,
    write_reference,
)


@pytest.fixture(scope="module")
def bundle():
    return build_from_trajectories(toy_input(n_trajectories=60)[0], n_resamples=2)


@pytest.fixture(scope="module")
def written(bundle, tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "toy.zarr"
    write_reference(path, bundle)
    return path


@pytest.fixture
def copied(written, tmp_path):
    return shutil.copytree(written, tmp_path / "copy.zarr")


def assert_same(one, other):
    """Compare two dataclasses field by field, arrays bit by bit."""
    for field in fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field.name)
            assert left.dtype == right.dtype, field.name
        elif isinstance(left, dict):
            assert left.keys() == right.keys()
            for key in left:
                np.testing.assert_array_equal(left[key], right[key])
        elif hasattr(left, "__dataclass_fields__"):
            assert_same(left, right)
        else:
            assert left == right, field.name


def test_what_is_read_is_what_was_built(bundle, written):
    read = read_reference(written)
    assert_same(bundle, read)
    assert read.fingerprint == bundle.fingerprint == bundle_fingerprint(read)


def test_nothing_is_left_beside_the_bundle(written):
    assert [path.name for path in written.parent.iterdir()] == [written.name]


def test_the_fingerprint_covers_every_array_and_the_metadata(bundle):
    seen = {bundle.fingerprint}
    for field in fields(bundle):
        values = getattr(bundle, field.name)
        if isinstance(values, np.ndarray):
            changed = values.copy()
            first = changed.flat[0]
            changed.flat[0] = not first if first.dtype == bool else 3 if first == 7 else 7
            seen.add(bundle_fingerprint(replace(bundle, **{field.name: changed})))
    arrays = sum(isinstance(getattr(bundle, field.name), np.ndarray) for field in fields(bundle))
    assert len(seen) == 1 + arrays
    for name, update in {
        "metadata": bundle.metadata.model_copy(update={"seed": 99}),
        "edges": {**bundle.edges, "q": bundle.edges["q"] + 1.0},
        "histograms": dict(list(bundle.histograms.items())[1:]),
        "observables": replace(bundle.observables, q=bundle.observables.q[::-1].copy()),
        "tica": replace(bundle.tica, mean=bundle.tica.mean + 1.0),
    }.items():
        seen.add(bundle_fingerprint(replace(bundle, **{name: update})))
    assert len(seen) == 6 + arrays
    # The order in which entries are kept says nothing.
    backwards = dict(reversed(bundle.edges.items()))
    assert bundle_fingerprint(replace(bundle, edges=backwards)) == bundle.fingerprint


def test_a_flipped_bit_in_any_array_is_found(copied):
    chunks = [path for path in copied.rglob("*") if path.is_file() and path.name != "zarr.json"]
    assert len(chunks) > 30
    for path in chunks:
        content = path.read_bytes()
        damaged = bytearray(content)
        damaged[len(damaged) // 2] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(IntegrityError, match=r"copy\.zarr"):
            read_reference(copied)
        path.write_bytes(content)
    read_reference(copied)


def test_a_missing_chunk_array_or_group_is_found(copied):
    for name in ("native/c", "frames/q/c", "edges/rg", "histograms", "frames"):
        shutil.move(copied / name, copied.parent / "aside")
        with pytest.raises(IntegrityError, match=r"copy\.zarr"):
            read_reference(copied)
        shutil.move(copied.parent / "aside", copied / name)
    read_reference(copied)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": "v1"}, "v1"),
        ({"format": "something"}, "something"),
        ({"metadata": None}, "damaged"),
        ({"fingerprint": "sha256:0"}, "not what the fingerprint says"),
    ],
)
def test_attributes_that_were_changed_are_found(copied, change, message):
    zarr.open_group(copied, mode="r+").attrs.update(change)
    with pytest.raises(IntegrityError, match=message):
        read_reference(copied)


def test_a_changed_statement_is_found(copied):
    group = zarr.open_group(copied, mode="r+")
    metadata = json.loads(json.dumps(group.attrs["metadata"]))
    metadata["converged"] = not metadata["converged"]
    group.attrs["metadata"] = metadata
    with pytest.raises(IntegrityError, match="not what the fingerprint says"):
        read_reference(copied)


def test_an_array_of_another_type_is_refused(copied):
    shutil.rmtree(copied / "native")
    group = zarr.open_group(copied, mode="r+")
    group.create_array("native", shape=(10, 3), dtype="float64")
    with pytest.raises(IntegrityError, match="native is not an array of float32"):
        read_reference(copied)


def test_what_is_no_bundle_is_told_apart(tmp_path):
    with pytest.raises(UsageError, match="no such reference bundle"):
        read_reference(tmp_path / "none.zarr")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IntegrityError, match="folder"):
        read_reference(tmp_path / "folder")


def test_other_folders_are_never_overwritten(bundle, tmp_path):
    folder = tmp_path / "precious"
    folder.mkdir()
    (folder / "notes.txt").write_text("keep me")
    with pytest.raises(UsageError, match="not a reference bundle"):
        write_reference(folder, bundle)
    assert (folder / "notes.txt").read_text() == "keep me"


def test_an_interrupted_write_leaves_the_earlier_bundle(bundle, copied, monkeypatch):
    def fail(path):
        raise KeyboardInterrupt

    changed = replace(bundle, fes=bundle.fes + 1.0)
    monkeypatch.setattr("cgbench.evaluate.reference_file.read_reference", fail)
    with pytest.raises(KeyboardInterrupt):
        write_reference(copied, changed)
    assert read_reference(copied).fingerprint == bundle.fingerprint
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_a_bundle_whose_fingerprint_is_wrong_is_not_written(bundle, tmp_path):
    with pytest.raises(IntegrityError):
        write_reference(tmp_path / "new.zarr", replace(bundle, fes=bundle.fes + 1.0))
    assert not list(tmp_path.iterdir())


def test_a_bundle_is_replaced_by_a_newer_one(bundle, copied):
    changed = replace(bundle, fes=bundle.fes + 1.0)
    changed = replace(changed, fingerprint=bundle_fingerprint(changed))
    write_reference(copied, changed)
    assert read_reference(copied).fingerprint == changed.fingerprint
