"""Scoring as a whole: what is right scores well, what is wrong does not, nothing crashes."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from toy_reference import NATIVE
from toy_rows import N_RESAMPLES, SEED, SYSTEM, bundle, samples, statistics, trajectories

from cgbench import registry
from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import (
    COMPARED,
    FORCE_METRICS,
    METRICS,
    ROWS,
    Ensemble,
    ForceErrors,
    failed,
    md_split_half,
    missing,
    moved,
    paired_difference,
    read_scored,
    reference_statistics,
    score,
    start_frames,
    write_scored,
)
from cgbench.evaluate.rows import freely_jointed

PROTOCOL = registry.protocol("demo").model_copy(
    update={"drop_fraction": 0.0, "model_msm_lag": 3.0, "output_interval": 1.0}
)


def scored(ensemble, **changes):
    return score(
        ensemble, bundle(), protocol=PROTOCOL, seed=SEED, reference=statistics(), **changes
    )


def values(row):
    return {name: metric.value for name, metric in row.result.metrics.items()}


@pytest.fixture(scope="module")
def right():
    return scored(trajectories(name="right"))


@pytest.fixture(scope="module")
def rows():
    return {
        name: function(bundle(), seed=SEED, reference=statistics())
        for name, function in ROWS.items()
    }


def test_the_reference_itself_scores_zero():
    frames = bundle().observables
    from toy_reference import toy_input

    source, _ = toy_input()
    own = Ensemble.from_arrays(SYSTEM, source.trajectories, frame_interval=1.0, name="own")
    row = scored(own)
    assert row.result.n_frames == frames.n_frames
    assert row.result.weights_status == "ok"
    for metric in COMPARED:
        value = row.result.metrics[metric]
        if metric == "native_population":
            assert value.value == pytest.approx(value.target)
        elif metric == "dihedral_js":
            # The bundle keeps angles by their bins, float32 puts a few on the other side.
            assert value.value == pytest.approx(0.0, abs=1e-4)
        else:
            assert value.value == pytest.approx(0.0, abs=1e-6), metric
        assert value.lo <= value.value <= value.hi
    np.testing.assert_allclose(row.display.fes_model, row.display.fes_reference, atol=1e-6)
    np.testing.assert_allclose(row.display.fes_reference, bundle().fes, atol=1e-9)


def test_other_trajectories_of_the_same_dynamics_score_at_the_noise_floor(right, rows):
    floor = rows["md_split_half"].result.metrics
    for metric in ("w1_tic1", "fes_rmse", "rg_w1", "q_w1", "rmsd_w1", "dihedral_js"):
        assert right.result.metrics[metric].value < 3 * floor[metric].hi, metric
    assert right.result.gates == {"handedness": "passed"}
    assert right.result.metrics["replicas_alive"].value == 1.0
    assert right.result.converged == bundle().converged
    # All start folded; the weights take that out again.
    population = right.result.metrics["native_population"]
    assert abs(population.value - population.target) < 0.12
    assert population.lo < population.target < population.hi


def test_every_row_has_every_metric(right, rows):
    expected = {spec.id for spec in registry.metrics()}
    for row in (right, *rows.values(), scored(samples(0.3))):
        assert set(row.result.metrics) == expected
        for metric, value in row.result.metrics.items():
            assert (value.status == "n/a") == (value.value is None), metric
            if value.value is not None:
                assert value.note is not None or value.lo <= value.value <= value.hi


def test_wrong_ensembles_are_ranked(rows):
    populations = (1 / 3, 0.6, 0.95)
    folded = [values(scored(samples(p, n_trajectories=40))) for p in populations]
    for metric in ("w1_tic1", "fes_rmse", "js_2d", "q_w1", "rmsd_w1", "rg_w1"):
        found = [row[metric] for row in folded]
        assert found == sorted(found), metric
        assert found[2] > 2 * found[0], metric
    hot = [values(scored(samples(1 / 3, scale=scale))) for scale in (0.12, 0.2, 0.3)]
    for metric in ("dihedral_js", "js_2d"):
        found = [row[metric] for row in hot]
        assert found == sorted(found), metric
    assert values(rows["ideal_chain"])["dihedral_js"] > folded[0]["dihedral_js"] + 0.1
    assert values(rows["native_constant"])["fes_rmse"] > folded[0]["fes_rmse"] + 0.5


def test_a_mirror_image_fails_the_gate(right):
    row = scored(trajectories(mirrored=True, name="mirror"))
    assert row.result.gates == {"handedness": "failed"}
    for metric in COMPARED:
        assert row.result.metrics[metric].status == "void"
        assert row.result.metrics[metric].value is not None
    assert row.result.metrics["rmsd_p1"].status == "ok"
    assert row.result.metrics["rg_w1"].value == pytest.approx(
        right.result.metrics["rg_w1"].value, abs=1e-3
    )


def test_samples_have_no_time(right):
    row = scored(samples(1 / 3))
    assert row.result.metrics["replicas_alive"].status == "n/a"
    assert row.result.weights_status == "uniform"
    assert row.result.weights_lag_ps is None
    assert row.display.traces == ()
    assert len(right.display.traces) == 60


def test_weights_of_samples_are_used():
    ensemble = samples(1 / 3, n_trajectories=20)
    q = [np.where(part[:, 0, 0] > -np.inf, 1.0, 0.0) for part in ensemble.trajectories]
    same = Ensemble.from_arrays(SYSTEM, ensemble.trajectories, weights=q)
    row = scored(same)
    assert row.result.weights_status == "given"
    assert values(row)["w1_tic1"] == pytest.approx(values(scored(ensemble))["w1_tic1"])
    only = [np.zeros(len(part)) for part in ensemble.trajectories]
    only[0][0] = 1.0
    row = scored(Ensemble.from_arrays(SYSTEM, ensemble.trajectories, weights=only))
    assert values(row)["native_population"] in (0.0, 1.0)
    assert row.result.metrics["native_population"].n_eff == pytest.approx(1.0)


def test_one_trajectory_has_no_interval():
    row = scored(trajectories(n_trajectories=1, n_frames=400))
    value = row.result.metrics["rg_w1"]
    assert value.value is not None
    assert value.lo is None
    assert "single trajectory" in value.note
    assert any("too few for a rank" in note for note in row.result.notes)


def test_short_runs_shorten_the_lag_and_say_so():
    row = scored(trajectories(n_trajectories=40, n_frames=8))
    assert row.result.weights_lag_ps == 2.0
    assert any("2 ps instead of 3 ps" in note for note in row.result.notes)


def test_ends_that_never_meet_are_weighted_uniformly():
    generator = np.random.default_rng(0)
    folded = generator.random((20, 1)) < 0.5
    from toy_rows import hairpins

    frames = hairpins(np.repeat(folded, 30, axis=1))
    row = scored(Ensemble.from_arrays(SYSTEM, list(frames), frame_interval=1.0))
    assert row.result.weights_status == "weights_unreliable"
    assert "outside" in row.result.weights_reason
    assert values(row)["native_population"] == pytest.approx(folded.mean(), abs=0.02)


def test_lost_frames_are_not_forgotten(right):
    ensemble = trajectories(name="lost")
    alive = ensemble.alive_until.copy()
    alive[::2] = 30
    row = scored(replace(ensemble, alive_until=alive))
    lost = 0.5 * 70 / 100
    assert row.result.dead_fraction == pytest.approx(lost)
    assert row.result.metrics["replicas_alive"].value == 0.5
    assert values(row)["js_2d"] > values(right)["js_2d"] + 0.1
    assert values(row)["w1_tic1"] > values(right)["w1_tic1"] + 0.3
    assert values(row)["native_population"] < 0.8 * values(right)["native_population"]
    assert [len(trace.time) for trace in row.display.traces[:2]] == [30, 100]


@pytest.mark.parametrize("how", ["dead", "late", "empty", "none", "nan"])
def test_a_model_that_broke_is_a_row(how):
    ensemble = trajectories(n_trajectories=4, n_frames=20, name="broken")
    protocol = PROTOCOL
    match how:
        case "dead":
            ensemble = replace(ensemble, alive_until=np.zeros(4, dtype=np.int64))
        case "late":
            ensemble = replace(ensemble, alive_until=np.full(4, 3))
            protocol = PROTOCOL.model_copy(update={"drop_fraction": 0.2})
        case "empty":
            ensemble = Ensemble.from_arrays(SYSTEM, [np.zeros((0, 10, 3))] * 2, frame_interval=1.0)
        case "none":
            ensemble = Ensemble.from_arrays(SYSTEM, [], frame_interval=1.0)
        case "nan":
            ensemble = Ensemble.from_arrays(
                SYSTEM, [np.full((9, 10, 3), np.nan)] * 2, frame_interval=1.0
            )
    row = score(ensemble, bundle(), protocol=protocol, seed=SEED, reference=statistics())
    assert row.result.status == "failed"
    assert row.result.reason
    for metric in METRICS:
        value = row.result.metrics[metric]
        if metric == "replicas_alive" and how != "none":
            assert (value.value, value.status) == (0.0, "ok")
        else:
            assert value.value == registry.metric(metric).penalty
            assert value.status == "failed"
    assert row.display is None


def test_a_failed_model_still_has_force_errors():
    errors = ForceErrors("optimal", np.arange(5), np.ones(5), np.ones(5), np.full(5, 4))
    row = failed("x", SYSTEM, "it broke", seed=1, force_errors=errors, n_resamples=10)
    assert row.result.metrics["force_mse"].value == pytest.approx(0.25)
    assert "optimal" in row.result.metrics["force_mse"].note
    assert missing(SYSTEM, "get it").status == "missing"


def test_force_errors_that_overflowed():
    errors = ForceErrors(
        "optimal", np.arange(2), np.array([np.inf, 1.0]), np.ones(2), np.full(2, 4)
    )
    metrics = scored(samples(0.3), force_errors=errors).result.metrics
    assert metrics["force_mse"].status == "failed"
    assert metrics["force_l1"].value == pytest.approx(0.25)


def test_input_that_is_no_ensemble_of_this_system():
    ensemble = samples(0.3, n_trajectories=2)
    with pytest.raises(ValidationError, match="not an ensemble of the reference's system"):
        scored(replace(ensemble, system="chignolin"))
    short = replace(ensemble, trajectories=[part[:, :9] for part in ensemble.trajectories])
    with pytest.raises(ValidationError, match="wrong shape"):
        scored(short)
    with pytest.raises(ValidationError, match="another bundle, seed"):
        score(ensemble, bundle(), seed=SEED + 1, reference=statistics())
    with pytest.raises(ValidationError, match="number of resamples"):
        scored(ensemble, n_resamples=N_RESAMPLES + 1)


def test_scores_are_the_same_twice_and_without_help():
    ensemble = samples(0.5, n_trajectories=6)
    first = scored(ensemble)
    again = score(ensemble, bundle(), protocol=PROTOCOL, seed=SEED, n_resamples=N_RESAMPLES)
    assert first.result == again.result
    for metric, resamples in first.resamples.items():
        np.testing.assert_array_equal(resamples, again.resamples[metric])


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
    assert native["native_population"].lo == native["native_population"].hi == 1.0


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
    flipped[len(whole) // 2] ^= 255
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


def test_display_is_of_the_estimate(right):
    shown = right.display
    assert set(FORCE_METRICS) & set(right.resamples) == set()
    assert sum(state.model_population for state in shown.macrostates) == pytest.approx(1.0)
    assert sum(state.native for state in shown.macrostates) == 1
    native = next(state for state in shown.macrostates if state.native)
    assert native.model_rmsd < 1.0
    for marginal in shown.marginals.values():
        for density in (marginal.reference, marginal.model):
            assert (density * np.diff(marginal.edges)).sum() == pytest.approx(1.0)
        assert len(marginal.reference) <= 200
    assert len([name for name in shown.marginals if name.startswith("dihedral")]) == len(NATIVE) - 3


def test_start_rows_without_statistics():
    row = start_frames(bundle(), seed=SEED, n_resamples=5)
    assert len(row.resamples["rg_w1"]) == 5
    assert reference_statistics(bundle(), seed=SEED, n_resamples=5).n_resamples == 5
