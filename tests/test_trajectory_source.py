"""Trajectory files: whatever the format, the same frames; what is damaged is named."""

import pickle
import struct
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import mdtraj
import numpy as np
import pytest

from cgbench import registry
from cgbench.errors import CgbenchError, IntegrityError, UsageError, ValidationError
from cgbench.ingest.topology import natural_order
from cgbench.ingest.trajectories import (
    TrajectorySource,
    find_trajectories,
    make_whole,
    preprocess_trajectories,
)
from cgbench.ingest.trajectory_files import (
    constant_interval,
    inspect_trajectory,
    read_positions,
)
from cgbench.ingest.xdr import index_xdr
from cgbench.store import open_store, verify_store

SEQUENCE = "YYDPETGTWY"
SYSTEM = registry.system("chignolin-sample")
NAMES = {"Y": "TYR", "D": "ASP", "P": "PRO", "E": "GLU", "T": "THR", "G": "GLY", "W": "TRP"}
FORMATS = ("xtc", "trr", "dcd", "nc", "pdb")


def topology(sequence=SEQUENCE, hydrogens=True, names=NAMES):
    """A chain of residues with N, CA and HA, and a calcium ion at the end."""
    made = mdtraj.Topology()
    chain = made.add_chain()
    for letter in sequence:
        residue = made.add_residue(names[letter], chain)
        for name, element in (("N", "N"), ("CA", "C"), ("HA", "H")):
            if name == "CA" or hydrogens:
                made.add_atom(name, mdtraj.element.get_by_symbol(element), residue)
    if hydrogens:
        ion = made.add_residue("CA", made.add_chain())
        made.add_atom("CA", mdtraj.element.calcium, ion)
    return made


TOPOLOGY = topology()
CA = np.arange(10) * 3 + 1


def chain_frames(n_frames, n_atoms=None, seed=0):
    """All atoms of a zigzag chain (31 with the ion) in Å, shaken."""
    random = np.random.default_rng(seed)
    place = np.zeros((31, 3))
    place[:30, 0] = np.repeat(3.3 * np.arange(10), 3)
    place[:30, 1] = np.repeat(1.9 * (np.arange(10) % 2), 3)
    place[:30, 2] = np.tile([-1.0, 0.0, 1.0], 10)
    place[30] = 30.0
    return (place + random.normal(0, 0.1, (n_frames, 31, 3))).astype(np.float32)


def save(path, frames, interval=2.0, start=4.0, top=TOPOLOGY, box=None):
    times = start + interval * np.arange(len(frames))
    trajectory = mdtraj.Trajectory(frames / 10.0, top, time=times)
    if box is not None:
        trajectory.unitcell_vectors = np.tile(np.asarray(box) / 10.0, (len(frames), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    trajectory.save(str(path))
    return path


@pytest.fixture
def pdb(tmp_path):
    path = tmp_path / "top" / "topology.pdb"
    return save(path, chain_frames(1))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_gives_the_same_frames_wherever_they_are_read(tmp_path, pdb, suffix, capfd):
    frames = [chain_frames(n, seed=n) for n in (13, 1, 20)]
    files = [save(tmp_path / f"{i}.{suffix}", f) for i, f in enumerate(frames)]
    source = TrajectorySource(files, SEQUENCE, topology=pdb)
    source = pickle.loads(pickle.dumps(source))
    expected = np.concatenate(frames)[:, CA]
    whole = source.read(0, 34)
    # xtc keeps 0.01 Å and pdb 0.001 Å.
    bound = {"xtc": 0.0051, "pdb": 0.00051}.get(suffix, 2e-6)
    assert np.abs(whole.coordinates - expected).max() < bound
    assert whole.valid.all()
    assert source.force_maps == ()
    assert source.trajectory_lengths.tolist() == [13, 1, 20]
    assert source.frame_interval == (2.0 if suffix in ("xtc", "trr", "nc") else None)
    assert source.bead_types.tolist() == list(SYSTEM.bead_types)
    ranges = [(0, 5), (5, 13), (13, 14), (12, 15), (14, 34), (33, 34)]
    with ThreadPoolExecutor(4) as pool:
        parts = list(pool.map(lambda r: source.read(*r).coordinates, ranges * 5))
    for (start, stop), part in zip(ranges * 5, parts, strict=True):
        assert np.array_equal(part, whole.coordinates[start:stop])
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc"])
@pytest.mark.parametrize("stride", [2, 7, 40])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_stride_keeps_frames_from_the_first_of_each_file(tmp_path, pdb, suffix, stride):
    frames = [chain_frames(n, seed=n) for n in (13, 20)]
    files = [save(tmp_path / f"{i}.{suffix}", f) for i, f in enumerate(frames)]
    every = TrajectorySource(files, SEQUENCE, topology=pdb).read(0, 33).coordinates
    expected = np.concatenate([every[:13:stride], every[13::stride]])
    source = TrajectorySource(files, SEQUENCE, topology=pdb, stride=stride)
    assert source.n_frames == len(expected)
    assert np.array_equal(source.read(0, len(expected)).coordinates, expected)
    assert np.array_equal(source.read(1, len(expected)).coordinates, expected[1:])
    if source.frame_interval is not None:
        assert source.frame_interval == 2.0 * stride


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc"])
@pytest.mark.parametrize("cut", [1, 7, 60, 333, 1500])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_file_that_was_cut_off_is_named_before_it_is_used(tmp_path, pdb, suffix, cut):
    good = save(tmp_path / f"good.{suffix}", chain_frames(13))
    bad = tmp_path / f"bad.{suffix}"
    bad.write_bytes(good.read_bytes()[:-cut])
    with pytest.raises(IntegrityError, match=r"bad\."):
        TrajectorySource([good, bad], SEQUENCE, topology=pdb)


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc", "pdb"])
@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"\x00" * 5000])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_garbage_is_named(tmp_path, pdb, suffix, content):
    bad = tmp_path / f"bad.{suffix}"
    bad.write_bytes(content)
    with pytest.raises(CgbenchError, match=r"bad\."):
        TrajectorySource([bad], SEQUENCE, topology=pdb)


def test_damage_within_a_frame_is_named_when_it_is_read(tmp_path, pdb):
    path = save(tmp_path / "a.xtc", chain_frames(13))
    index = index_xdr(path)
    data = bytearray(path.read_bytes())
    start = int(index.offsets[6])
    # The size of small integers, which decompression cannot do without.
    data[start + 84 : start + 88] = struct.pack(">i", 2_000_000_000)
    path.write_bytes(data)
    source = TrajectorySource([path], SEQUENCE, topology=pdb)
    assert source.read(0, 6).valid.all()
    with pytest.raises(IntegrityError, match=r"a\.xtc"):
        source.read(5, 8)


def test_the_index_agrees_with_mdtraj(tmp_path):
    path = save(tmp_path / "a.xtc", chain_frames(13))
    with mdtraj.open(str(path)) as handle:
        assert np.array_equal(index_xdr(path).offsets, handle.offsets)
        assert np.array_equal(index_xdr(path).times, handle.read()[1])
    small = save(tmp_path / "small.xtc", chain_frames(5)[:, :6], top=TOPOLOGY.subset(range(6)))
    with mdtraj.open(str(small)) as handle:
        assert np.array_equal(index_xdr(small).offsets, handle.offsets)


def test_times_must_grow_by_equal_steps():
    path = Path("a.xtc")
    even = np.float32(1.7e7) + np.float32(100.0) * np.arange(1000, dtype=np.float32)
    assert constant_interval(even.astype(np.float64), path) == 100.0
    assert constant_interval(np.zeros(5), path) is None
    assert constant_interval(np.ones(1), path) is None
    for broken in ([0, 1, 2, 2, 3], [0, 1, 2, 4, 5], [4, 3, 2, 1], [0.0, np.nan, 2.0]):
        with pytest.raises(ValidationError, match=r"a\.xtc"):
            constant_interval(np.array(broken, dtype=np.float64), path)


def test_files_of_different_intervals_are_refused_and_femtoseconds_understood(tmp_path, pdb):
    first = save(tmp_path / "a.xtc", chain_frames(5), interval=100.0)
    second = save(tmp_path / "b.xtc", chain_frames(5), interval=100_000.0)
    single = save(tmp_path / "c.xtc", chain_frames(1))
    with pytest.raises(ValidationError, match=r"b\.xtc") as caught:
        TrajectorySource([first, second, single], SEQUENCE, topology=pdb)
    assert "100 ps" in str(caught.value.expected)
    source = TrajectorySource([first, second, single], SEQUENCE, topology=pdb, interval=100.0)
    assert (source.frame_interval, source.n_in_femtoseconds) == (100.0, 1)
    with pytest.raises(ValidationError, match=r"a\.xtc"):
        TrajectorySource([first, second], SEQUENCE, topology=pdb, interval=50.0)


def test_the_sequence_is_checked_bead_for_bead_with_the_registry_names(tmp_path):
    names = {"H": "HSD", "X": "NLE", "A": "ALA", "C": "CYX", "K": "LYS"}
    made = topology("HXCAK", names=names)
    trajectory = mdtraj.Trajectory(chain_frames(4)[:, :16] / 10, made, time=np.arange(4.0))
    trajectory.save(str(tmp_path / "a.xtc"))
    trajectory[0].save(str(tmp_path / "a.pdb"))
    source = TrajectorySource([tmp_path / "a.xtc"], "HXCAK", topology=tmp_path / "a.pdb")
    assert source.n_beads == 5
    with pytest.raises(ValidationError, match="residues") as caught:
        TrajectorySource([tmp_path / "a.xtc"], "HXCGK", topology=tmp_path / "a.pdb")
    assert "G at bead 3" in str(caught.value.expected)
    with pytest.raises(ValidationError, match="number of Cα"):
        TrajectorySource([tmp_path / "a.xtc"], "HXCA", topology=tmp_path / "a.pdb")


def test_a_topology_is_found_beside_the_files_or_asked_for(tmp_path):
    files = [save(tmp_path / "runs" / "1" / "a.xtc", chain_frames(4))]
    with pytest.raises(UsageError, match="no topology"):
        TrajectorySource(files, SEQUENCE, search=[tmp_path])
    save(tmp_path / "other.pdb", chain_frames(1)[:, :30], top=TOPOLOGY.subset(range(30)))
    with pytest.raises(UsageError, match="no topology") as caught:
        TrajectorySource(files, SEQUENCE, search=[tmp_path])
    assert "30 atoms" in str(caught.value.found)
    save(tmp_path / "filtered.pdb", chain_frames(1))
    source = TrajectorySource(files, SEQUENCE, search=[tmp_path])
    assert np.abs(source.read(0, 4).coordinates - chain_frames(4)[:, CA]).max() < 0.0051


def test_molecules_that_the_box_cuts_are_joined(tmp_path, pdb):
    frames = chain_frames(6)
    box = np.array([[25.0, 0, 0], [8.0, 24.0, 0], [-7.0, 9.0, 23.0]])
    fractional = frames.astype(np.float64) @ np.linalg.inv(box)
    wrapped = ((fractional % 1.0) @ box).astype(np.float32)
    assert np.linalg.norm(np.diff(wrapped[:, CA], axis=1), axis=-1).max() > 10
    path = save(tmp_path / "a.trr", wrapped, box=box)
    block = TrajectorySource([path], SEQUENCE, topology=pdb).read(0, 6)
    assert block.valid.all()
    expected = np.diff(frames[:, CA], axis=1)
    assert np.abs(np.diff(block.coordinates, axis=1) - expected).max() < 1e-4
    whole = frames[:, CA]
    assert make_whole(whole, np.tile(box * 4, (6, 1, 1))) is whole
    assert make_whole(whole, np.zeros((6, 3, 3))) is whole


def write_trr(path, frames, forces, double):
    """An independent writer: GROMACS's layout, with forces."""
    real = ">f8" if double else ">f4"
    width = np.dtype(real).itemsize
    with path.open("wb") as handle:
        for step, (x, f) in enumerate(zip(frames, forces, strict=True)):
            handle.write(struct.pack(">iii", 1993, 13, 12) + b"GMX_trn_file")
            block = 3 * len(x) * width
            handle.write(struct.pack(">10i", 0, 0, 9 * width, 0, 0, 0, 0, block, 0, block))
            handle.write(struct.pack(">3i", len(x), step, 0))
            handle.write(struct.pack(">2d" if double else ">2f", 5.0 * step, 0.0))
            handle.write(np.zeros(9, real).tobytes())
            handle.write((x / 10).astype(real).tobytes() + f.astype(real).tobytes())


@pytest.mark.parametrize("double", [False, True])
def test_forces_of_trr_files_become_the_slice_map(tmp_path, pdb, double):
    frames = chain_frames(9)
    forces = np.random.default_rng(1).normal(0, 900, frames.shape)
    write_trr(tmp_path / "a.trr", frames, forces, double)
    source = TrajectorySource([tmp_path / "a.trr"], SEQUENCE, topology=pdb, stride=2)
    block = source.read(1, 5)
    assert source.force_maps == ("slice",)
    assert source.frame_interval == 10.0
    # 41.84 kJ/mol/nm are 1 kcal/mol/Å.
    assert np.allclose(block.forces["slice"], forces[2::2][:, CA] / 41.84, rtol=1e-6)
    assert np.allclose(block.coordinates, frames[2::2][:, CA], atol=1e-5)


@pytest.mark.parametrize("save_npz", [np.savez, np.savez_compressed])
def test_forces_beside_the_files_become_force_maps(tmp_path, pdb, save_npz):
    random = np.random.default_rng(2)
    files, told = [], {"slice": [], "optimal": []}
    for number in range(3):
        files.append(save(tmp_path / f"{number}.xtc", chain_frames(10)))
        arrays = {
            "slice": random.normal(0, 9, (10, 31, 3)).astype(np.float32),
            "optimal": random.normal(0, 9, (10, 10, 3)),
        }
        save_npz(tmp_path / f"{number}.forces.npz", **arrays)
        told["slice"].append(arrays["slice"][:, CA])
        told["optimal"].append(arrays["optimal"])
    source = TrajectorySource(files, SEQUENCE, topology=pdb)
    assert source.force_maps == ("optimal", "slice")
    block = source.read(5, 28)
    for name, values in told.items():
        assert np.array_equal(block.forces[name], np.concatenate(values)[5:28].astype(np.float32))
    only = TrajectorySource(files, SEQUENCE, topology=pdb, force_maps=["slice"])
    assert set(only.read(0, 3).forces) == {"slice"}
    with pytest.raises(ValidationError, match="no forces of map hydrogens"):
        TrajectorySource(files, SEQUENCE, topology=pdb, force_maps=["hydrogens"])
    np.savez(tmp_path / "1.forces.npz", slice=np.zeros((9, 10, 3)), optimal=np.zeros((10, 10, 3)))
    with pytest.raises(ValidationError, match=r"1\.forces\.npz.*slice"):
        TrajectorySource(files, SEQUENCE, topology=pdb)
    np.savez(tmp_path / "1.forces.npz", slice=np.array([{}], dtype=object))
    with pytest.raises(IntegrityError, match="pickle"):
        TrajectorySource(files, SEQUENCE, topology=pdb)
    (tmp_path / "1.forces.npz").unlink()
    with pytest.raises(ValidationError, match=r"1\.forces\.npz"):
        TrajectorySource(files, SEQUENCE, topology=pdb)


def test_natural_order_counts():
    names = ["run10/b.xtc", "run2/a.xtc", "run2/a10.xtc", "run2/a9.xtc", "b.xtc", "10.xtc", "9.xtc"]
    ordered = sorted(map(Path, names), key=natural_order)
    assert [path.as_posix() for path in ordered] == [
        "9.xtc",
        "10.xtc",
        "b.xtc",
        "run2/a9.xtc",
        "run2/a10.xtc",
        "run2/a.xtc",
        "run10/b.xtc",
    ]


def test_archives_of_nested_folders_become_a_reference_store(tmp_path, pdb):
    content = tmp_path / "content"
    lengths = {"e1s1_x/output.filtered.xtc": 7, "e1s2_x/output.filtered.xtc": 9, "e1s10/a.xtc": 4}
    for seed, (name, n_frames) in enumerate(lengths.items()):
        save(content / "chignolin" / name, chain_frames(n_frames, seed=seed), interval=1.0)
    (content / "chignolin" / "._a.xtc").write_bytes(b"metadata of another system")
    save(content / "chignolin" / "filtered.pdb", chain_frames(1))
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        archive.add(content / "chignolin", "chignolin")
    more = save(tmp_path / "b" / "c.xtc", chain_frames(3, seed=8), interval=1000.0)
    out = tmp_path / "store.zarr"
    inputs = [tmp_path / "a.tar.gz", more.parent]
    manifest = preprocess_trajectories(SYSTEM, inputs, out, topology=pdb, workers=2)
    store = open_store(out)
    assert verify_store(out).ok
    assert np.diff(store.trajectory_bounds).ravel().tolist() == [7, 9, 4, 3]
    expected = [chain_frames(n, seed=s)[:, CA] for s, n in ((0, 7), (1, 9), (2, 4), (8, 3))]
    assert np.abs(store.coordinates() - np.concatenate(expected)).max() < 0.0051
    metadata = store.metadata
    assert (metadata.frame_interval, metadata.frame_interval_source) == (1.0, "verified")
    assert (metadata.boundaries_source, metadata.force_maps) == ("files", ())
    assert "1 files state times in femtoseconds" in str(metadata.description)
    assert {file.name for file in metadata.sources} >= {"a.tar.gz", "c.xtc"}
    assert preprocess_trajectories(SYSTEM, inputs, out, topology=pdb) == manifest
    save(tmp_path / "b" / "c.dcd", chain_frames(3))
    with pytest.raises(UsageError, match="which trajectories"):
        find_trajectories([tmp_path / "b"])
    with pytest.raises(UsageError, match="no trajectories"):
        find_trajectories([pdb.parent])


def test_trajectories_of_another_protein_are_refused(tmp_path):
    path = save(tmp_path / "a.xtc", chain_frames(3)[:, CA], top=TOPOLOGY.subset(CA))
    with pytest.raises(ValidationError, match=r"a\.xtc.*fewer atoms"):
        preprocess_trajectories(registry.system("trpcage"), [path], tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_published_start_frames_are_read(published_dir):
    path = published_dir / "starting_frames" / "cln_kcenters_32clusters_coords.xtc"
    with pytest.raises(ValidationError, match="not constant"):
        TrajectorySource([path], SEQUENCE)


def test_no_damaged_frame_reaches_the_library_that_trusts_it(tmp_path):
    good = save(tmp_path / "good.xtc", chain_frames(6)).read_bytes()
    random = np.random.default_rng(3)
    named = []
    for _ in range(150):
        data = bytearray(good)
        place = int(random.integers(0, len(data) - 4))
        data[place : place + 4] = random.integers(0, 256, 4, dtype=np.uint8).tobytes()
        bad = tmp_path / "bad.xtc"
        bad.write_bytes(data)
        try:
            file = inspect_trajectory(bad)
            read_positions(file, range(file.n_frames), None)
        except CgbenchError as error:
            named.append(error.what)
    # Wrong bytes within numbers give other numbers: the format has no checksum.
    assert len(named) > 30
    assert all("bad.xtc" in what for what in named)


def test_a_format_whose_reader_is_missing_says_what_to_install(tmp_path, pdb, monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "tables", None)
    (tmp_path / "a.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(UsageError, match=r"a\.h5.*another package") as caught:
        TrajectorySource([tmp_path / "a.h5"], SEQUENCE, topology=pdb)
    assert "tables" in str(caught.value.fix)


def test_what_is_no_trajectory_is_refused_by_its_name(tmp_path, pdb):
    (tmp_path / "a.log").write_text("nothing")
    for path in (tmp_path / "a.log", tmp_path / "none.xtc"):
        with pytest.raises(UsageError, match=path.name):
            TrajectorySource([path], SEQUENCE, topology=pdb)
    with pytest.raises(UsageError, match="no trajectory files"):
        TrajectorySource([], SEQUENCE)
    good = save(tmp_path / "a.xtc", chain_frames(3))
    with pytest.raises(UsageError, match="stride"):
        TrajectorySource([good], SEQUENCE, topology=pdb, stride=0)
