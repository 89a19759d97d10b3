"""The rows beside a model, and the files that rows are kept in."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from toy_reference import toy_input
from toy_rows import SEED, SYSTEM, bundle, samples, scored, statistics, trajectories, values

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError
from cgbench.evaluate import (
    ROWS,
    Ensemble,
    ForceErrors,
    failed,
    md_split_half,
    moved,
    paired_difference,
    read_scored,
    reference_statistics,
    score,
    start_frames,
    write_scored,
)
from cgbench.evaluate.native import read_native
from cgbench.evaluate.reference import ReferenceInput, build_from_trajectories
from cgbench.evaluate.rows import freely_jointed


@pytest.fixture(scope="module")
def right():
    return scored(trajectories(name="right"))


@pytest.fixture(scope="module")
def rows():
    return {
        name: function(bundle(), seed=SEED, reference=statistics())
        for name, function in ROWS.items()
    }


def test_split_halves_at_the_number_of_frames(rows):
    small = md_split_half(bundle(), seed=SEED, reference=statistics(), n_frames=400)
    assert small.result.n_frames == 400
    assert rows["md_split_half"].result.n_frames == 125 * 40
    assert values(small)["js_2d"] > values(rows["md_split_half"])["js_2d"]
    assert rows["md_split_half"].result.metrics["force_mse"].status == "n/a"


def test_start_frames_and_constants(rows):
    still = rows["start_frames"].result
    assert (still.n_trajectories, still.n_frames) == (32, 32)
    native = rows["native_constant"].result.metrics
    assert native["native_population"].value == 1.0
    assert native["rmsd_native"].value == pytest.approx(0.0, abs=1e-3)
    # The same structure again and again: resamples of it say nothing of an error.
    assert native["native_population"].lo is native["native_population"].hi is None
    assert native["native_population"].note == "no interval: the same in every resample"


def test_a_single_trajectory_has_no_halves():
    alone = build_from_trajectories(toy_input(n_trajectories=1, n_frames=3000)[0], n_resamples=4)
    floor = md_split_half(alone, seed=SEED, n_resamples=4)
    assert floor.result.status == "missing"
    assert "a single trajectory and has no halves" in floor.result.reason
    found = score(samples(0.5), alone, seed=SEED, n_resamples=4).result
    assert any("intervals leave its own error out" in note for note in found.notes)


def test_the_ideal_chain_is_ideal():
    bonds = np.array([[3.7] * 30, [3.9] * 30])
    chains = freely_jointed(bonds, 4000, np.random.default_rng(0)).astype(np.float64)
    lengths = np.linalg.norm(np.diff(chains, axis=1), axis=-1)
    assert set(np.unique(lengths.round(3))) == {3.7, 3.9}
    ends = ((chains[:, -1] - chains[:, 0]) ** 2).sum(axis=1)
    # ⟨R²⟩ = n⟨b²⟩ of a freely jointed chain.
    assert ends.mean() == pytest.approx(30 * (3.7**2 + 3.9**2) / 2, rel=0.04)


def test_pairs_with_the_start_frames(rows):
    still = rows["start_frames"]
    same = scored(trajectories(n_trajectories=32))
    assert paired_difference(same, still, "js_2d").hi < 0
    frames = np.repeat(bundle().start_coordinates[:, None], 20, axis=1)
    frozen = Ensemble.from_arrays(SYSTEM, list(frames), frame_interval=1.0, name="frozen")
    assert set(moved(scored(frozen), still)) >= {"w1_tic1", "rg_w1", "js_2d", "dihedral_js"}
    assert "js_2d" not in moved(same, still)


@pytest.mark.data
def test_rows_of_real_dynamics(chignolin_dir):
    frames = np.load(chignolin_dir / "chignolin_ca_coords.npy").reshape(105, 500, 10, 3)
    entry = registry.system(SYSTEM)
    source = ReferenceInput(
        system=entry,
        trajectories=list(frames),
        valid=np.ones(frames.shape[0] * frames.shape[1], dtype=bool),
        native=read_native(chignolin_dir / "native_ca.pdb", entry.sequence),
        frame_interval=1.0,
        store_fingerprint="sha256:" + "0" * 64,
    )
    real = build_from_trajectories(source, n_resamples=10)
    counted = reference_statistics(real, seed=1, n_resamples=50)
    beside = {name: row(real, seed=1, reference=counted) for name, row in ROWS.items()}
    floor = beside["md_split_half"].result.metrics
    assert floor["rmsd_native"].value < 1.0
    for metric in ("fes_rmse", "js_2d", "dihedral_js"):
        for name in ("start_frames", "native_constant", "ideal_chain"):
            assert beside[name].result.metrics[metric].lo > floor[metric].value, (metric, name)
    # Distances alone cannot tell a chain from its mirror image; compact random ones are both.
    assert beside["ideal_chain"].result.gates == {"handedness": "failed"}
    assert beside["native_constant"].result.gates == {"handedness": "passed"}
    population = floor["native_population"]
    assert population.lo < population.target < population.hi


def test_rows_are_read_as_they_were_written(tmp_path, right):
    errors = ForceErrors("optimal", np.arange(5), np.ones(5), np.ones(5), np.full(5, 4))
    for index, row in enumerate(
        (replace(right, force_errors=errors), failed("x", SYSTEM, "y", seed=1))
    ):
        path = tmp_path / f"{index}.npz"
        write_scored(path, row)
        found = read_scored(path)
        assert found.result == row.result
        assert (found.name, found.seed, found.n_trajectories) == (
            row.name,
            row.seed,
            row.n_trajectories,
        )
        assert set(found.resamples) == set(row.resamples)
        np.testing.assert_array_equal(
            found.resamples.get("rg_w1", 0), row.resamples.get("rg_w1", 0)
        )
    found = read_scored(tmp_path / "0.npz")
    assert found.force_errors.force_map == "optimal"
    np.testing.assert_array_equal(found.display.fes_model, right.display.fes_model)
    assert found.display.macrostates == right.display.macrostates
    assert list(found.display.marginals) == list(right.display.marginals)
    np.testing.assert_array_equal(found.display.traces[7].rmsd, right.display.traces[7].rmsd)
    assert paired_difference(found, right, "rg_w1").diff == 0.0


def test_damaged_rows(tmp_path, right):
    path = tmp_path / "row.npz"
    with pytest.raises(UsageError, match="no such file"):
        read_scored(path)
    with pytest.raises(UsageError, match="archives"):
        write_scored(tmp_path / "row.json", right)
    write_scored(path, right)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(IntegrityError, match="damaged"):
        read_scored(path)
    flipped = bytearray(whole)
    # More than one byte: a single one may be a date in an archive's entry, which says nothing.
    for place in range(len(whole) // 2, len(whole) // 2 + 100):
        flipped[place] ^= 255
    path.write_bytes(bytes(flipped))
    with pytest.raises(IntegrityError, match="damaged"):
        read_scored(path)
    np.savez(path, header=np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(IntegrityError, match="damaged"):
        read_scored(path)
    text = json.dumps({"format": "other", "version": 7}).encode()
    np.savez(path, header=np.frombuffer(text, dtype=np.uint8))
    with pytest.raises(IntegrityError, match="not a scored row"):
        read_scored(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme", "no numbers")
    with pytest.raises(IntegrityError, match="damaged"):
        read_scored(path)


def test_start_rows_without_statistics():
    row = start_frames(bundle(), seed=SEED, n_resamples=5)
    assert len(row.resamples["rg_w1"]) == 5
    assert reference_statistics(bundle(), seed=SEED, n_resamples=5).n_resamples == 5
