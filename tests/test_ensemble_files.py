"""Ensembles from files: every format, all atoms and beads, folders, systems found by sequence."""

from pathlib import Path

import numpy as np
import pytest
from toy_ensembles import (
    SEQUENCE,
    SYSTEM,
    atoms_topology,
    beads_topology,
    chains,
    with_atoms,
    write,
)

from cgbench import registry
from cgbench.errors import UsageError, ValidationError
from cgbench.evaluate.ensemble_files import EnsembleFiles, read_ensemble
from cgbench.evaluate.ensemble_inputs import find_inputs
from cgbench.evaluate.raw_ensemble import SAMPLE_BLOCKS
from cgbench.store import TrajectoryAttributes, TrajectorySet, write_trajectories

FRAMES = chains(40)


def pooled(ensemble):
    return np.concatenate(ensemble.trajectories)


@pytest.mark.parametrize("suffix", ["xtc", "trr", "dcd", "nc"])
def test_beads_with_their_number_alone(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"run.{suffix}", FRAMES, beads_topology())
    ensemble = read_ensemble(path, SYSTEM)
    np.testing.assert_allclose(pooled(ensemble), FRAMES, atol=6e-3 if suffix == "xtc" else 1e-4)
    assert ensemble.name == "run"
    assert not ensemble.time_ordered
    assert ensemble.n_trajectories == SAMPLE_BLOCKS
    assert any("32 blocks" in note for note in ensemble.notes)


@pytest.mark.parametrize("suffix", ["xtc", "dcd", "pdb"])
def test_all_atoms_are_reduced_by_topology(tmp_path: Path, suffix: str) -> None:
    topology, carbons = atoms_topology()
    full = with_atoms(FRAMES, topology, carbons)
    path = write(tmp_path / f"run.{suffix}", full, topology)
    beside = write(tmp_path / "top.pdb", full[:1], topology)
    given = None if suffix == "pdb" else beside
    for choice in {given, None}:
        ensemble = read_ensemble(path, SYSTEM, topology=choice)
        np.testing.assert_allclose(pooled(ensemble), FRAMES, atol=6e-3)


def test_one_trajectory_a_file_in_natural_order_with_time(tmp_path: Path) -> None:
    for number, length in ((10, 7), (2, 5), (1, 9)):
        write(tmp_path / f"run{number}.xtc", chains(length, number), beads_topology())
    write(tmp_path / "top.pdb", FRAMES[:1], beads_topology())
    ensemble = read_ensemble(tmp_path, SYSTEM, frame_interval=0.5, name="mine")
    assert ensemble.lengths.tolist() == [9, 5, 7]
    assert (ensemble.time_ordered, ensemble.frame_interval, ensemble.name) == (True, 0.5, "mine")
    some = read_ensemble(tmp_path / "run1*.xtc", SYSTEM)
    assert some.lengths.tolist() == [9, 7]
    assert read_ensemble(tmp_path, SYSTEM).name == tmp_path.name


def test_times_of_files_are_told_not_believed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xtc", FRAMES, beads_topology(), time=0.2 * np.arange(40))
    samples = read_ensemble(path, SYSTEM)
    assert not samples.time_ordered
    assert any("0.2 ps apart" in note and "--frame-interval" in note for note in samples.notes)
    other = read_ensemble(path, SYSTEM, frame_interval=5.0)
    assert any("5 ps was given and used" in note for note in other.notes)
    picked = write(tmp_path / "b.xtc", FRAMES[:4], beads_topology(), time=np.array([3, 1, 9, 4.0]))
    assert read_ensemble(picked, SYSTEM).n_frames == 4


def test_many_files_of_one_structure_are_a_pool(tmp_path: Path) -> None:
    for number in range(40):
        write(tmp_path / f"s{number}.pdb", FRAMES[number : number + 1], beads_topology())
    ensemble = read_ensemble(tmp_path, SYSTEM)
    assert ensemble.n_trajectories == SAMPLE_BLOCKS
    np.testing.assert_allclose(pooled(ensemble), FRAMES, atol=1e-2)


def test_npy_is_mapped_not_copied(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES)
    ensemble = read_ensemble(tmp_path / "a.npy", SYSTEM)
    owner = ensemble.trajectories[0]
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    assert isinstance(owner, np.memmap)
    np.save(tmp_path / "four.npy", FRAMES.reshape(4, 10, 10, 3))
    assert read_ensemble(tmp_path / "four.npy", SYSTEM).lengths.tolist() == [10] * 4


def test_npz_with_everything(tmp_path: Path) -> None:
    owner = np.array([3, 3, 0, 0, 0, 7, 3, 7] * 5)
    weights = np.arange(1.0, 41.0)
    path = tmp_path / "a.npz"
    np.savez(path, coordinates=FRAMES, trajectory=owner, weights=weights, sequence=SEQUENCE)
    ensemble = read_ensemble(path, SYSTEM)
    order = np.argsort(owner, kind="stable")
    np.testing.assert_array_equal(pooled(ensemble), FRAMES[order])
    np.testing.assert_array_equal(np.concatenate(ensemble.weights), weights[order])
    assert ensemble.lengths.tolist() == [15, 15, 10]
    np.savez_compressed(path, trajectories=FRAMES.reshape(2, 20, 10, 3), frame_interval_ps=0.1)
    ordered = read_ensemble(path, SYSTEM)
    assert (ordered.n_trajectories, ordered.frame_interval) == (2, 0.1)


def test_arrays_of_all_atoms_with_a_topology(tmp_path: Path) -> None:
    topology, carbons = atoms_topology()
    full = with_atoms(FRAMES, topology, carbons)
    top = write(tmp_path / "top.pdb", full[:1], topology)
    np.save(tmp_path / "a.npy", full)
    ensemble = read_ensemble(tmp_path / "a.npy", SYSTEM, topology=top)
    np.testing.assert_array_equal(pooled(ensemble), FRAMES)


def test_trajectories_zarr_keeps_what_it_says(tmp_path: Path) -> None:
    path = tmp_path / "run" / "trajectories.zarr"
    write_trajectories(path, stored())
    for named in (path, path.parent):
        files = EnsembleFiles(named)
        assert files.systems == (SYSTEM,)
        ensemble = files.read(SYSTEM)
        assert (ensemble.frame_interval, ensemble.name) == (0.1, "run")
        assert files.stored_attributes(SYSTEM).seeds == {"simulation": 4}
    with pytest.raises(UsageError, match="another time between frames"):
        read_ensemble(path, SYSTEM, frame_interval=3.0)
    with pytest.raises(UsageError, match="no system bba"):
        EnsembleFiles(path, ["bba"])


def stored(**changes):
    fields = {
        "system": SYSTEM,
        "coordinates": [FRAMES[:20], FRAMES[20:]],
        "network_energy": None,
        "prior_energy": None,
        "weights": None,
        "alive_until": np.array([20, 20]),
        "frame_interval": 0.1,
        "temperature": 350.0,
        "attributes": TrajectoryAttributes(
            sequence=SEQUENCE, temperature=350.0, frame_interval=0.1, seeds={"simulation": 4}
        ),
    }
    return TrajectorySet(**(fields | changes))


def test_the_system_is_found_by_sequence(tmp_path: Path) -> None:
    trpcage = registry.system("trpcage")
    frames = np.cumsum(np.full((3, 20, 3), 2.2, np.float32), axis=1)
    np.savez(tmp_path / "a.npz", coordinates=frames, sequence=trpcage.sequence)
    assert EnsembleFiles(tmp_path / "a.npz").systems == ("trpcage",)
    top = write(tmp_path / "top.pdb", frames[:1], beads_topology(trpcage.sequence))
    np.save(tmp_path / "b.npy", frames)
    assert EnsembleFiles(tmp_path / "b.npy", topology=top).systems == ("trpcage",)
    assert EnsembleFiles(top).systems == ("trpcage",)
    write(tmp_path / "c.xtc", frames, beads_topology(trpcage.sequence))
    assert EnsembleFiles(tmp_path / "c.xtc").systems == ("trpcage",)


def test_several_systems_in_one_folder(tmp_path: Path) -> None:
    for key in ("trpcage", "bba"):
        system = registry.system(key)
        frames = np.cumsum(np.full((3, system.n_beads, 3), 2.2, np.float32), axis=1)
        (tmp_path / key).mkdir()
        write(tmp_path / key / "run.xtc", frames, beads_topology(system.sequence))
        write(tmp_path / key / "top.pdb", frames[:1], beads_topology(system.sequence))
    files = EnsembleFiles(tmp_path)
    assert sorted(files.systems) == ["bba", "trpcage"]
    assert files.read("bba").trajectories[0].shape[1:] == (28, 3)


def test_sequences_of_several_systems_ask_for_a_choice(tmp_path: Path) -> None:
    path = write(tmp_path / "a.pdb", FRAMES, beads_topology())
    with pytest.raises(UsageError, match="several systems have this sequence") as raised:
        EnsembleFiles(path)
    assert "chignolin-sample-v2" in raised.value.message
    assert raised.value.fix == "give --system"


def test_a_chain_among_others_is_taken_and_copies_are_told(tmp_path: Path) -> None:
    other = "G" * 12
    topology, carbons = atoms_topology((other, SEQUENCE, SEQUENCE))
    shifted = np.concatenate([np.repeat(FRAMES[:, :1], 12, 1), FRAMES, FRAMES + 50.0], axis=1)
    path = write(tmp_path / "a.pdb", with_atoms(shifted, topology, carbons), topology)
    ensemble = read_ensemble(path, SYSTEM)
    np.testing.assert_allclose(pooled(ensemble), FRAMES, atol=1e-2)
    assert any("was taken" in note for note in ensemble.notes)


def test_the_closest_match_is_named(tmp_path: Path) -> None:
    changed = "A" + SEQUENCE[1:4] + "G" + SEQUENCE[5:]
    path = write(tmp_path / "a.pdb", FRAMES, beads_topology(changed))
    for system in (None, [SYSTEM]):
        with pytest.raises(ValidationError, match="no chain has") as raised:
            EnsembleFiles(path, system)
        assert "80 % identity with chignolin" in str(raised.value.found)
        assert "Y1A, E5G" in str(raised.value.found)


def test_a_longer_chain_says_where_to_cut(tmp_path: Path) -> None:
    longer = np.cumsum(np.full((2, 13, 3), 2.2, np.float32), axis=1)
    path = write(tmp_path / "a.pdb", longer, beads_topology(f"GG{SEQUENCE}G"))
    with pytest.raises(ValidationError) as raised:
        EnsembleFiles(path, [SYSTEM])
    assert "residues 3 to 12" in str(raised.value.fix)


def test_another_system_than_the_named_one_is_told(tmp_path: Path) -> None:
    trpcage = registry.system("trpcage")
    frames = np.cumsum(np.full((2, 20, 3), 2.2, np.float32), axis=1)
    path = write(tmp_path / "a.pdb", frames, beads_topology(trpcage.sequence))
    with pytest.raises(ValidationError) as raised:
        EnsembleFiles(path, ["bba"])
    assert "--system trpcage" in str(raised.value.fix)


def test_numbers_without_names_need_a_system(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES)
    with pytest.raises(UsageError, match="cannot be told which protein"):
        EnsembleFiles(tmp_path / "a.npy")
    with pytest.raises(ValidationError, match="not the beads of trpcage") as raised:
        EnsembleFiles(tmp_path / "a.npy", ["trpcage"])
    assert "chignolin" in str(raised.value.fix)
    write(tmp_path / "a.xtc", FRAMES, beads_topology())
    with pytest.raises(UsageError, match="no topology"):
        EnsembleFiles(tmp_path / "a.xtc")


def test_nanometres_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", FRAMES / 10.0)
    with pytest.raises(ValidationError, match="look like nanometres"):
        read_ensemble(tmp_path / "a.npy", SYSTEM)


def test_what_is_found_in_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no structures"):
        find_inputs(tmp_path)
    np.save(tmp_path / "a.npy", FRAMES)
    np.savez(tmp_path / "b.npz", coordinates=FRAMES)
    with pytest.raises(UsageError, match="several formats"):
        find_inputs(tmp_path)
    assert [path.name for path in find_inputs(tmp_path / "*.npz").files] == ["b.npz"]
    assert find_inputs(tmp_path, ignore=[tmp_path / "a.npy"]).kind == "npz"
    with pytest.raises(UsageError, match="no such file or folder"):
        find_inputs(tmp_path / "none.xtc")


def test_bad_samples_keep_their_share(tmp_path: Path) -> None:
    frames = FRAMES.copy()
    frames[3] = np.nan
    frames[11, 5:] += 30.0
    np.save(tmp_path / "a.npy", frames)
    ensemble = read_ensemble(tmp_path / "a.npy", SYSTEM)
    assert int(ensemble.alive_until.sum()) == 38
    assert ensemble.n_frames == 40
