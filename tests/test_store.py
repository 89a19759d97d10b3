"""The store: what is written is read, exactly, whatever the layout, the workers and the crashes."""

import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import store_sources
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from store_sources import LAYOUT, ArraySource, metadata_of, random_source, write

from cgbench import store
from cgbench.config import assets_home
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.store import Layout, SystemStore, open_store, shard_file, verify_store, write_store

UNITS = 3  # shards along the frames of store_sources.random_source in its layout


def bits(values):
    """Return the bits, so that NaN equals itself and 0 differs from −0."""
    return np.ascontiguousarray(values).view(np.uint32)


@st.composite
def sources(draw):
    n_beads = draw(st.integers(1, 5))
    lengths = draw(st.none() | st.lists(st.integers(1, 12), min_size=1, max_size=6))
    n_frames = sum(lengths) if lengths else draw(st.integers(1, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (n_frames, n_beads, 3)
    # All bit patterns: infinities, every NaN, subnormal numbers and −0 included.
    arrays = [random.integers(0, 2**32, shape, dtype=np.uint32).view(np.float32) for _ in range(3)]
    valid = random.random(n_frames) < 0.7
    valid[draw(st.integers(0, n_frames - 1))] = True
    maps = ("slice", "optimal")[: draw(st.integers(0, 2))]
    return ArraySource(arrays[0], dict(zip(maps, arrays[1:], strict=False)), lengths, valid=valid)


@settings(max_examples=10)
@given(
    source=sources(),
    chunk=st.integers(1, 9),
    chunks_per_shard=st.integers(1, 4),
    workers=st.sampled_from([1, 2]),
    data=st.data(),
)
def test_round_trip(source, chunk, chunks_per_shard, workers, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("round") / "toy.zarr"
    layout = Layout(chunk=chunk, chunks_per_shard=chunks_per_shard)
    manifest = write_store(path, source, metadata_of(source), workers=workers, layout=layout)
    opened = open_store(path)
    assert np.array_equal(bits(opened.coordinates()), bits(source.coordinates))
    start = data.draw(st.integers(0, source.n_frames))
    stop = data.draw(st.integers(start, source.n_frames))
    assert np.array_equal(
        bits(opened.coordinates(start, stop)), bits(source.coordinates[start:stop])
    )
    for name, values in source.forces.items():
        assert np.array_equal(bits(opened.forces(start, stop, name)), bits(values[start:stop]))
    assert np.array_equal(opened.valid, source.valid)
    assert np.array_equal(opened.bead_types, source.bead_types)
    lengths = [source.n_frames] if source.trajectory_lengths is None else source.trajectory_lengths
    expected = [(number, frame) for number, n in enumerate(lengths) for frame in range(n)]
    assert list(zip(opened.trajectory, opened.frame_in_trajectory, strict=True)) == expected
    assert [stop - start for start, stop in opened.trajectory_bounds] == list(lengths)
    assert manifest.n_valid == source.valid.sum()
    assert verify_store(path).problems == ()


def test_the_standard_layout_is_the_one_measured_to_be_fast():
    assert store.chunk_frames(10) == 8192
    assert {store.chunk_frames(n) for n in (47, 54, 56, 73, 80)} == {1024}
    layout = Layout.standard(1_868_861, 10)
    assert (layout.chunk, layout.chunks_per_shard) == (8192, 64)
    assert Layout.standard(52_500, 10).shard == 7 * 8192
    assert Layout.standard(30, 10) == Layout(chunk=30, chunks_per_shard=1)


def test_a_range_reads_only_the_chunks_it_needs(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    source = ArraySource(random.normal(size=(6400, 10, 3)).astype(np.float32))
    write(tmp_path / "toy.zarr", source, layout=Layout(chunk=100, chunks_per_shard=64))
    # Only zarr-python's reads can be counted.
    monkeypatch.setenv("CGBENCH_ZARRS", "0")
    opened = open_store(tmp_path / "toy.zarr")
    opened.coordinates(0, 1)
    read = []
    original = zarr.storage._local._get
    monkeypatch.setattr(
        zarr.storage._local,
        "_get",
        lambda *arguments: read.append(len(buffer := original(*arguments))) or buffer,
    )
    assert np.array_equal(opened.coordinates(3250, 3260), source.coordinates[3250:3260])
    file_size = (tmp_path / "toy.zarr/coordinates/c/0/0/0").stat().st_size
    # One of 64 chunks, and the shard's index of 16 bytes a chunk.
    assert 0 < sum(read) < file_size / 64 * 1.2 + 64 * 16 + 64


def test_the_manifest_does_not_depend_on_workers_or_the_compressor(tmp_path, monkeypatch):
    first = write(tmp_path / "a.zarr")
    second = write(tmp_path / "b.zarr", workers=3)
    assert first == second
    monkeypatch.setattr(
        "cgbench.store.arrays.compressors", lambda codec: (zarr.codecs.GzipCodec(level=1),)
    )
    other = write(tmp_path / "c.zarr")
    assert other.fingerprint == first.fingerprint
    assert {shard.file_sha256 for shard in other.shards} != {s.file_sha256 for s in first.shards}


def test_the_fingerprint_depends_on_every_value_and_on_the_metadata(tmp_path):
    found = {write(tmp_path / "plain.zarr").fingerprint}
    changed = random_source()
    changed.coordinates[17, 3, 1] = np.nextafter(changed.coordinates[17, 3, 1], np.float32(9))
    found.add(write(tmp_path / "value.zarr", changed).fingerprint)
    masked = random_source()
    masked.valid[5] = ~masked.valid[5]
    found.add(write(tmp_path / "mask.zarr", masked).fingerprint)
    found.add(write(tmp_path / "lengths.zarr", random_source(lengths=(12, 6, 22))).fingerprint)
    found.add(write(tmp_path / "metadata.zarr", temperature=349.0).fingerprint)
    types = random_source()
    types.bead_types = types.bead_types[::-1].copy()
    found.add(write(tmp_path / "types.zarr", types).fingerprint)
    assert len(found) == 6


@pytest.mark.parametrize(
    ("moment", "missing"),
    [
        ("reading the second shard", [1, 2]),
        ("between two arrays of the second shard", [1, 2]),
        ("within the write of an array", [1, 2]),
        ("between file and name", [1, 2]),
        ("before the journal", [1, 2]),
        ("after the journal's line", [2]),
        ("creating the arrays", [0, 1, 2]),
        ("before the manifest", []),
        ("after the manifest", None),
    ],
)
def test_a_killed_writer_completes_on_the_next_run(tmp_path, moment, missing):
    path = tmp_path / "toy.zarr"
    killed = subprocess.run(
        [sys.executable, store_sources.__file__, path, moment],
        cwd=Path(store_sources.__file__).parent,
        check=False,
        capture_output=True,
    )
    assert killed.returncode == -9, killed.stderr.decode()
    if missing is None:
        assert verify_store(path).problems == ("journal.jsonl: does not belong to the store",)
    else:
        with pytest.raises(IntegrityError) as error:
            open_store(path)
        named = [k for k in range(UNITS) if f"shard {k} of {UNITS}" in error.value.message]
        assert named == missing
        assert not verify_store(path).ok
    finished = set(range(UNITS)) - set(range(UNITS) if missing is None else missing)
    kept = {
        file: file.stat().st_mtime_ns
        for unit in finished
        for file in path.glob(f"*/c/{unit}/**/*")
        if file.is_file()
    }
    expected = write(tmp_path / "whole.zarr")
    assert write(path, workers=2) == expected
    assert {file: file.stat().st_mtime_ns for file in kept} == kept
    assert (path / "manifest.json").read_bytes() == (
        tmp_path / "whole.zarr" / "manifest.json"
    ).read_bytes()
    assert verify_store(path).problems == ()
    assert np.array_equal(open_store(path).coordinates(), random_source().coordinates)


def test_a_torn_journal_line_and_a_damaged_shard_are_written_again(tmp_path, monkeypatch):
    path = tmp_path / "toy.zarr"
    source = random_source()
    reads = []
    original = source.read

    def read(start, stop):
        reads.append(start)
        if len(reads) == 5:
            raise OSError("the disk went away")
        return original(start, stop)

    source.read = read
    with pytest.raises(OSError, match="went away"):
        write(path, source)
    journal = path / "journal.jsonl"
    assert len(journal.read_bytes().splitlines()) == 3
    journal.write_bytes(journal.read_bytes() + b'{"index":2,"sta')
    shard = path / "forces/slice/c/0/0/0"
    shard.write_bytes(shard.read_bytes()[:-3])
    # What zarr leaves behind when it is killed within the write of a file.
    (path / "coordinates/c/2.0123456789abcdef.partial").write_bytes(b"half")
    reads.clear()
    manifest = write(path, source)
    # The first shard's two chunks, and the third shard's one.
    assert reads == [0, 8, 32]
    assert manifest == write(tmp_path / "whole.zarr")
    assert verify_store(path).problems == ()


def test_shards_full_of_the_fill_value_are_files_too(tmp_path):
    source = random_source()
    source.coordinates[:16] = np.nan
    source.valid[:16] = False
    write(tmp_path / "toy.zarr", source)
    assert (tmp_path / "toy.zarr/valid/c/0").is_file()
    assert np.isnan(open_store(tmp_path / "toy.zarr").coordinates(0, 16)).all()


def test_another_store_is_neither_continued_nor_overwritten(tmp_path):
    path = tmp_path / "toy.zarr"
    manifest = write(path)
    assert write(path) == manifest
    with pytest.raises(UsageError, match="other content"):
        write(path, temperature=300.0)
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.tex").write_text("…")
    with pytest.raises(UsageError, match="no store"):
        write(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.tex").read_text() == "…"
    source = random_source()

    def fail(start, stop):
        raise OSError("the disk went away")

    source.read = fail
    with pytest.raises(OSError, match="went away"):
        write(tmp_path / "half.zarr", source)
    with pytest.raises(UsageError, match="another store, unfinished"):
        write(tmp_path / "half.zarr", temperature=300.0)


def test_a_shard_that_does_not_read_back_is_an_error(tmp_path, monkeypatch):
    original = shard_file.open_array

    class Forgetful:
        def __init__(self, array):
            self.array = array

        def __getitem__(self, place):
            values = self.array[place].copy()
            values.reshape(-1).view(np.uint8)[3] ^= 1
            return values

    monkeypatch.setattr(
        shard_file,
        "open_array",
        lambda place, mode="r": (
            original(place, mode) if mode == "r+" else Forgetful(original(place))
        ),
    )
    with pytest.raises(IntegrityError, match="does not read back"):
        write(tmp_path / "toy.zarr")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"valid": np.zeros(40, bool)}, "no frame passed screening"),
        ({"trajectory_lengths": np.array([11, 7, 21])}, "trajectory lengths"),
        ({"trajectory_lengths": np.array([40, 0])}, "trajectory lengths"),
        ({"bead_types": np.arange(9)}, "bead types"),
        ({"coordinates": np.zeros((40, 10, 3))}, "float64"),
        ({"forces": {"slice": np.zeros((40, 10, 2), np.float32), "optimal": None}}, "slice"),
        ({"coordinates": np.zeros((0, 10, 3), np.float32)}, "at least one frame"),
    ],
)
def test_a_source_that_disagrees_with_itself(tmp_path, change, word):
    source = random_source()
    if change.get("forces"):
        change = {"forces": change["forces"] | {"optimal": source.forces["optimal"]}}
    metadata = metadata_of(source)
    for name, value in change.items():
        setattr(source, name, value)
    with pytest.raises(ValidationError, match=word):
        write_store(tmp_path / "toy.zarr", source, metadata, layout=LAYOUT)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"sequence": "YYDPETGTW"}, "number of beads"),
        ({"trajectories_known": False}, "not given"),
        ({"start_kind": ("coil", "native")}, "start kinds"),
    ],
)
def test_metadata_that_disagree_with_the_source(tmp_path, change, word):
    with pytest.raises(ValidationError, match=word):
        write(tmp_path / "toy.zarr", **change)


@pytest.mark.parametrize(
    "change",
    [
        {"default_force_map": "hydrogens"},
        {"default_force_map": None},
        {"force_map_consistent": {"slice": "no"}},
        {"force_maps": ("slice", "slice")},
        {"force_maps": ("slice", "../optimal")},
        {"colour": "red"},
    ],
)
def test_metadata_that_disagree_with_themselves(change):
    with pytest.raises(ValueError):  # noqa: PT011
        metadata_of(random_source(), **change)


def test_labelled_views_carry_dimensions_and_units(tmp_path):
    import xarray

    path = tmp_path / "toy.zarr"
    source = random_source()
    write(path, source)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plain = xarray.open_zarr(path)
        tree = xarray.open_datatree(path, engine="zarr")
        dataset = store.open(path)
    assert dict(plain.sizes) == {"frame": 40, "bead": 10, "xyz": 3}
    assert set(plain.coords) == {"bead_type", "trajectory", "frame_in_trajectory", "valid"}
    assert plain.coordinates.dims == ("frame", "bead", "xyz")
    assert plain.coordinates.attrs["units"] == "angstrom"
    assert plain.valid.dtype == bool
    assert plain.attrs["temperature_K"] == 350.0
    assert plain.attrs["frame_interval_ps"] == 1.0
    assert tree["forces/slice"].attrs["units"] == "kcal/mol/angstrom"
    assert np.array_equal(tree["forces/slice"].values, source.forces["slice"])
    assert np.array_equal(plain.trajectory.values, np.repeat([0, 1, 2], [11, 7, 22]))
    assert "".join(dataset.residue.values) == store_sources.SEQUENCE
    assert dataset.forces_optimal.attrs["units"] == "kcal/mol/angstrom"
    chosen = dataset.forces_optimal.sel(xyz="y").isel(frame=slice(9, 20))
    assert np.array_equal(chosen.values, source.forces["optimal"][9:20, :, 1])


def test_the_handle_goes_to_another_process(tmp_path):
    write(tmp_path / "toy.zarr")
    opened = open_store(tmp_path / "toy.zarr")
    expected = opened.forces(3, 9)
    again = pickle.loads(pickle.dumps(opened))
    assert isinstance(again, SystemStore)
    assert np.array_equal(again.forces(3, 9, "optimal"), expected)


def test_requests_that_a_store_cannot_serve(tmp_path):
    write(tmp_path / "toy.zarr")
    opened = open_store(tmp_path / "toy.zarr")
    with pytest.raises(UsageError, match="no force map hydrogens"):
        opened.forces(force_map="hydrogens")
    for start, stop in ((0, 41), (-1, 3), (5, 4)):
        with pytest.raises(ValidationError, match="out of range"):
            opened.coordinates(start, stop)
    write(tmp_path / "bare.zarr", ArraySource(np.ones((5, 3, 3), np.float32)))
    with pytest.raises(UsageError, match="no force map at all"):
        open_store(tmp_path / "bare.zarr").forces()


def test_the_embedded_sample_is_whole_and_small():
    path = assets_home() / "store" / "chignolin-sample.zarr"
    assert verify_store(path).problems == ()
    assert sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 20e6
    opened = open_store("chignolin-sample")
    assert (opened.n_frames, opened.n_beads, opened.n_trajectories) == (52_500, 10, 105)
    assert opened.valid.all()
    assert set(opened.metadata.start_kind) == {"coil", "native", "adaptive"}
    assert opened.metadata.force_map_consistent == {"slice": "no", "optimal": "yes"}
    assert opened.metadata.default_force_map == "optimal"


@pytest.mark.data
def test_the_embedded_sample_is_made_from_the_raw_data(chignolin_dir, tmp_path):
    from cgbench.ingest.sample import build_sample_store

    opened = open_store("chignolin-sample")
    built = build_sample_store(chignolin_dir, tmp_path / "sample.zarr", workers=2)
    assert built.fingerprint == opened.fingerprint
    for name, values in (
        ("coords", opened.coordinates()),
        ("forces", opened.forces(force_map="slice")),
        ("forces_optimal", opened.forces()),
    ):
        raw = np.load(chignolin_dir / f"chignolin_ca_{name}.npy")
        assert np.array_equal(bits(values), bits(raw)), name
