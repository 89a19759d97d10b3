"""Raw ``.npy`` sets: what is sound is stored exactly, what is not is named, and nothing is lost."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.ingest import NpySource, preprocess_folder, preprocess_npy, screen
from cgbench.store import open_store, verify_store

SYSTEM = registry.system("chignolin-sample")
LENGTHS = [30, 1, 19]


def chains(n_frames=50, n_beads=10, seed=0):
    """Chains with bonds of about 3.8 Å."""
    random = np.random.default_rng(seed)
    straight = np.zeros((n_beads, 3))
    straight[:, 0] = 3.8 * np.arange(n_beads)
    return (straight + random.normal(0, 0.1, (n_frames, n_beads, 3))).astype(np.float32)


@pytest.fixture
def raw(tmp_path):
    """A raw folder in the layout of the published data."""
    folder = tmp_path / "raw"
    folder.mkdir()
    random = np.random.default_rng(1)
    coordinates = chains()
    np.save(folder / "chignolin_ca_coords.npy", coordinates)
    for name in ("", "_optimal"):
        values = random.normal(0, 20, coordinates.shape).astype(np.float32)
        np.save(folder / f"chignolin_ca_forces{name}.npy", values)
    np.save(folder / "chignolin_ca_embeddings.npy", np.array(SYSTEM.bead_types))
    (folder / "trajectories.json").write_text(
        json.dumps({"lengths": LENGTHS, "started_from": ["coil", "native", "adaptive"]})
    )
    return folder


def make(raw, out, **options):
    return preprocess_folder(SYSTEM, raw, out, **options)


def rewrite(path, function):
    np.save(path, function(np.load(path)))


def test_a_raw_folder_becomes_a_store(raw, tmp_path):
    manifest = make(raw, tmp_path / "a.zarr", workers=2)
    opened = open_store(tmp_path / "a.zarr")
    assert verify_store(tmp_path / "a.zarr").ok
    assert np.array_equal(opened.coordinates(), np.load(raw / "chignolin_ca_coords.npy"))
    assert np.array_equal(opened.forces(), np.load(raw / "chignolin_ca_forces_optimal.npy"))
    assert np.array_equal(
        opened.forces(force_map="slice"), np.load(raw / "chignolin_ca_forces.npy")
    )
    metadata = opened.metadata
    assert metadata.force_map_consistent == {"slice": "no", "optimal": "yes"}
    assert metadata.start_kind == ("coil", "native", "adaptive")
    assert (metadata.constraints, metadata.licence) == (SYSTEM.constraints, SYSTEM.licence)
    assert {source.role for source in metadata.sources} == {
        "coordinates",
        "forces/slice",
        "forces/optimal",
        "bead_types",
        "trajectory_lengths",
    }
    assert opened.trajectory_bounds.tolist() == [[0, 30], [30, 31], [31, 50]]
    assert make(raw, tmp_path / "b.zarr").fingerprint == manifest.fingerprint
    only = make(raw, tmp_path / "c.zarr", force_maps=["slice"])
    assert only.metadata.force_maps == ("slice",)
    assert only.metadata.default_force_map == "slice"


def test_without_lengths_the_trajectories_are_unknown(raw, tmp_path):
    (raw / "trajectories.json").unlink()
    metadata = make(raw, tmp_path / "a.zarr").metadata
    assert not metadata.trajectories_known
    assert metadata.start_kind is None


@settings(max_examples=15)
@given(
    dtype=st.sampled_from(["<f4", ">f4", "<f8", ">f8"]),
    fortran=st.booleans(),
    lengths=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    seed=st.integers(0, 99),
)
def test_every_float_type_and_order_is_read(dtype, fortran, lengths, seed, tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    values = chains(sum(lengths), seed=seed).astype(dtype)
    order = np.asfortranarray if fortran else np.ascontiguousarray
    np.save(folder / "c.npy", order(values))
    np.save(folder / "f.npy", order(values * 3))
    np.save(folder / "t.npy", np.array(SYSTEM.bead_types, dtype=np.int16))
    np.save(folder / "n.npy", np.array(lengths))
    source = NpySource(
        folder / "c.npy", {"slice": folder / "f.npy"}, folder / "t.npy", folder / "n.npy"
    )
    preprocess_npy(SYSTEM, source, folder / "a.zarr")
    opened = open_store(folder / "a.zarr")
    assert np.array_equal(opened.coordinates(), values.astype(np.float32))
    assert np.array_equal(opened.forces(), (values * 3).astype(np.float32))
    assert np.diff(opened.trajectory_bounds).ravel().tolist() == lengths
    assert opened.valid.all()


BAD_FRAMES = {
    0: ("coordinates", (2, 1), np.nan, "nonfinite_coordinates"),
    7: ("coordinates", (9, 0), np.inf, "nonfinite_coordinates"),
    11: ("coordinates", (4, 2), 1e300, "nonfinite_coordinates"),
    12: ("coordinates", (4, 2), 1e30, "bond_out_of_range"),
    20: ("coordinates", (5, 1), 4.9, "bond_out_of_range"),
    21: ("coordinates", (), 0.0, "all_zero"),
    30: ("optimal", (0, 0), np.nan, "nonfinite_forces"),
    31: ("slice", (0, 0), -np.inf, "nonfinite_forces"),
    49: ("slice", (9, 2), -1.1e4, "force_overflow"),
}


def test_bad_frames_are_masked_counted_and_kept(raw, tmp_path):
    files = {
        "coordinates": raw / "chignolin_ca_coords.npy",
        "slice": raw / "chignolin_ca_forces.npy",
        "optimal": raw / "chignolin_ca_forces_optimal.npy",
    }
    arrays = {name: np.load(file).astype(np.float64) for name, file in files.items()}
    expected = dict.fromkeys(
        (
            "all_zero",
            "bond_out_of_range",
            "force_overflow",
            "nonfinite_coordinates",
            "nonfinite_forces",
        ),
        0,
    )
    for frame, (name, place, value, reason) in BAD_FRAMES.items():
        arrays[name][(frame, *place)] = value
        expected[reason] += 1
    # A frame of zeros has bonds of length zero as well.
    expected["bond_out_of_range"] += 1
    for name, file in files.items():
        np.save(file, arrays[name])
    manifest = make(raw, tmp_path / "a.zarr")
    assert manifest.screening == expected
    opened = open_store(tmp_path / "a.zarr")
    assert np.flatnonzero(~opened.valid).tolist() == sorted(BAD_FRAMES)
    with np.errstate(over="ignore"):
        kept = arrays["coordinates"].astype(np.float32)
    assert np.array_equal(opened.coordinates(), kept, equal_nan=True)


def test_screening_has_the_bounds_it_states():
    straight = np.zeros((4, 2, 3), np.float32)
    straight[:, 1, 0] = [2.0, 1.999, 6.0, 6.001]
    straight[:, :, 1] = 1.0
    assert screen(straight, {}).valid.tolist() == [True, False, True, False]
    forces = np.zeros((4, 2, 3), np.float32)
    forces[:, 0, 0] = [1e4, -1e4, 10001, -10001]
    found = screen(np.repeat(straight[:1], 4, axis=0), {"slice": forces})
    assert found.valid.tolist() == [True, True, False, False]
    assert found.counts["force_overflow"] == 2


def test_a_set_without_a_sound_frame_is_refused(raw, tmp_path):
    rewrite(raw / "chignolin_ca_coords.npy", lambda values: values / 10)
    with pytest.raises(ValidationError, match="50 bond_out_of_range"):
        make(raw, tmp_path / "a.zarr")
    assert not (tmp_path / "a.zarr").exists()
    assert not (tmp_path / "a.zarr.partial").exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-1000])


def objects(path):
    np.save(path, np.array([print, None]), allow_pickle=True)


def lengths(values):
    return lambda path: path.write_text(json.dumps(values))


BAD_INPUT = [
    ("ca_coords.npy", truncate, IntegrityError, "truncated"),
    ("ca_forces.npy", truncate, IntegrityError, "truncated"),
    ("ca_forces_optimal.npy", objects, IntegrityError, "pickle"),
    ("ca_coords.npy", lambda p: p.write_bytes(pickle.dumps([1])), IntegrityError, "not an .npy"),
    ("ca_coords.npy", lambda p: p.write_bytes(b""), IntegrityError, "not an .npy"),
    ("ca_coords.npy", lambda p: p.write_bytes(p.read_bytes()[:40]), IntegrityError, "not an .npy"),
    ("ca_coords.npy", lambda p: p.write_bytes(p.read_bytes() + b"x"), IntegrityError, "longer"),
    ("ca_coords.npy", lambda p: rewrite(p, lambda v: v[:, :, :2]), ValidationError, "wrong shape"),
    ("ca_coords.npy", lambda p: rewrite(p, lambda v: v[0]), ValidationError, "wrong shape"),
    ("ca_coords.npy", lambda p: rewrite(p, lambda v: v[:0]), ValidationError, "holds no"),
    ("ca_coords.npy", lambda p: rewrite(p, lambda v: v.astype(int)), ValidationError, "floating"),
    (
        "ca_coords.npy",
        lambda p: rewrite(p, lambda v: v[:, :9]),
        ValidationError,
        "different shapes",
    ),
    ("ca_forces.npy", lambda p: rewrite(p, lambda v: v[:-1]), ValidationError, "different shapes"),
    ("ca_embeddings.npy", lambda p: rewrite(p, lambda v: v[:-1]), ValidationError, "of beads"),
    ("ca_embeddings.npy", lambda p: rewrite(p, lambda v: v[::-1] + 0), ValidationError, "bead 1"),
    ("ca_embeddings.npy", lambda p: rewrite(p, lambda v: v * 1.0), ValidationError, "integers"),
    ("ca_embeddings.npy", lambda p: p.unlink(), UsageError, "no such file"),
    ("ca_coords.npy", lambda p: p.unlink(), UsageError, "no coordinates"),
    ("trajectories.json", lengths({"lengths": [30, 20, 1]}), ValidationError, "51 in 3"),
    ("trajectories.json", lengths({"lengths": [30, 0, 20]}), ValidationError, "trajectory 1 has 0"),
    ("trajectories.json", lengths({"lengths": []}), ValidationError, "no trajectory"),
    ("trajectories.json", lengths({"lengths": [30.0, 20]}), ValidationError, "integers"),
    ("trajectories.json", lengths({"length": [50]}), ValidationError, "integers"),
    (
        "trajectories.json",
        lengths({"lengths": [50], "started_from": ["coil", "coil"]}),
        ValidationError,
        "started_from",
    ),
    ("trajectories.json", lambda p: p.write_text("{"), IntegrityError, "parsed"),
]


@pytest.mark.parametrize(("name", "spoil", "error", "word"), BAD_INPUT)
def test_bad_input_is_named_and_leaves_an_earlier_store_alone(
    raw, tmp_path, name, spoil, error, word
):
    out = tmp_path / "out" / "a.zarr"
    before = make(raw, out)
    file = raw / (name if name.startswith("traj") else f"chignolin_{name}")
    spoil(file)
    with pytest.raises(error, match=word) as caught:
        make(raw, out)
    assert str(raw) in caught.value.message
    assert open_store(out).fingerprint == before.fingerprint
    assert verify_store(out).ok
    assert [entry.name for entry in out.parent.iterdir()] == ["a.zarr"]


def test_data_of_another_protein_are_refused(raw, tmp_path):
    with pytest.raises(ValidationError, match="wrong number of beads for trpcage"):
        preprocess_folder(registry.system("trpcage"), raw, tmp_path / "a.zarr")
    source = NpySource(
        raw / "chignolin_ca_coords.npy",
        {"mine": raw / "chignolin_ca_forces.npy"},
        raw / "chignolin_ca_embeddings.npy",
    )
    with pytest.raises(ValidationError, match="unknown force map"):
        preprocess_npy(SYSTEM, source, tmp_path / "a.zarr")
    with pytest.raises(UsageError, match="no forces of map hydrogens"):
        make(raw, tmp_path / "a.zarr", force_maps=["slice", "hydrogens"])
    with pytest.raises(UsageError, match="no such folder"):
        make(tmp_path / "nothing", tmp_path / "a.zarr")
    np.save(raw / "other_ca_coords.npy", chains())
    with pytest.raises(UsageError, match="which coordinates"):
        make(raw, tmp_path / "a.zarr")
    np.save(raw / "chignolin-sample_ca_coords.npy", chains())
    with pytest.raises(UsageError, match="chignolin-sample_ca_embeddings"):
        make(raw, tmp_path / "a.zarr")


def test_new_input_replaces_the_store_when_it_is_whole(raw, tmp_path):
    out = tmp_path / "a.zarr"
    first = make(raw, out)
    stamp = (out / "manifest.json").stat().st_mtime_ns
    assert make(raw, out) == first
    assert (out / "manifest.json").stat().st_mtime_ns == stamp
    rewrite(raw / "chignolin_ca_coords.npy", lambda values: values + 1)
    second = make(raw, out)
    assert second.fingerprint != first.fingerprint
    assert open_store(out).fingerprint == second.fingerprint
    assert np.array_equal(open_store(out).coordinates(), chains() + 1)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "raw"]


def stop_at_rename(patch, number):
    """Interrupt the number-th rename of a replacement."""
    from cgbench.ingest import preprocess

    original = preprocess.Path.rename
    calls = []

    def rename(self, other):
        calls.append(other)
        if len(calls) == number:
            raise KeyboardInterrupt
        return original(self, other)

    patch.setattr(preprocess.Path, "rename", rename)


def test_bad_input_after_an_interruption_leaves_the_earlier_store(raw, tmp_path, monkeypatch):
    out = tmp_path / "a.zarr"
    before = make(raw, out)
    rewrite(raw / "chignolin_ca_coords.npy", lambda values: values + 1)
    with monkeypatch.context() as patch:
        stop_at_rename(patch, 2)
        with pytest.raises(KeyboardInterrupt):
            make(raw, out)
    assert not out.exists()
    truncate(raw / "chignolin_ca_coords.npy")
    with pytest.raises(IntegrityError, match="truncated"):
        make(raw, out)
    assert open_store(out).fingerprint == before.fingerprint


@pytest.mark.parametrize("stop", ["writing", "first rename", "second rename"])
def test_an_interrupted_replacement_is_completed(raw, tmp_path, monkeypatch, stop):
    out = tmp_path / "a.zarr"
    make(raw, out)
    rewrite(raw / "chignolin_ca_coords.npy", lambda values: values + 1)
    with monkeypatch.context() as patch:
        if stop == "writing":

            def interrupt(self, start, finish):
                raise KeyboardInterrupt

            patch.setattr(NpySource, "read", interrupt)
        else:
            stop_at_rename(patch, 1 if stop == "first rename" else 2)
        with pytest.raises(KeyboardInterrupt):
            make(raw, out)
    make(raw, out)
    assert np.array_equal(open_store(out).coordinates(), chains() + 1)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.zarr", "raw"]


def test_what_is_unfinished_of_other_input_is_dropped(raw, tmp_path, monkeypatch):
    out = tmp_path / "a.zarr"

    def interrupt(self, start, finish):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(NpySource, "read", interrupt)
        with pytest.raises(KeyboardInterrupt):
            make(raw, out)
    with pytest.raises(IntegrityError, match="not finished"):
        open_store(tmp_path / "a.zarr.partial")
    rewrite(raw / "chignolin_ca_coords.npy", lambda values: values + 1)
    make(raw, out)
    assert np.array_equal(open_store(out).coordinates(), chains() + 1)


def test_progress_is_reported(raw, tmp_path):
    seen = []
    make(raw, tmp_path / "a.zarr", progress=lambda *report: seen.append(report))
    assert [report for report in seen if report[0] == "store"] == [
        ("store", 0, 50),
        ("store", 50, 50),
    ]
    assert seen[-1] == ("hash raw files", 5, 5)
