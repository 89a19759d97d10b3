"""Scoring as a whole: what is right scores well, what is wrong does not, nothing crashes."""

from dataclasses import replace

import numpy as np
import pytest
from toy_reference import NATIVE, toy_input
from toy_rows import (
    N_RESAMPLES,
    PROTOCOL,
    SEED,
    SYSTEM,
    bundle,
    hairpins,
    samples,
    scored,
    statistics,
    trajectories,
    values,
)

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import (
    COMPARED,
    FORCE_METRICS,
    METRICS,
    ROWS,
    Ensemble,
    ForceErrors,
    failed,
    missing,
    reference_statistics,
    score,
)


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
    source, _ = toy_input()
    own = Ensemble.from_arrays(SYSTEM, source.trajectories, frame_interval=1.0, name="own")
    row = scored(own)
    assert row.result.n_frames == frames.n_frames
    assert row.result.weights_status == "ok"
    for metric in COMPARED:
        value = row.result.metrics[metric]
        expected = {"target": value.target, "max": 1.0, "min": 0.0}
        perfect = expected[registry.metric(metric).direction]
        # Even the reference has some mass in cells above the cutoff.
        # Two draws of a million points, which the BioEmu benchmark compares, differ by chance.
        near = {"precision": 1e-2, "bioemu_fes_mae": 0.1}.get(metric, 1e-6)
        assert value.value == pytest.approx(perfect, abs=near), metric
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
    expected = {spec.id for spec in registry.metrics() if "training" not in spec.needs}
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


def test_few_native_frames_say_nothing_about_handedness():
    row = scored(samples(0.0))
    assert row.result.gates == {"handedness": "n/a"}
    assert row.result.metrics["handedness"].status == "n/a"
    assert row.result.metrics["rg_w1"].status == "ok"
    few = samples(0.0, n_trajectories=2)
    frames = [few.trajectories[0].copy(), few.trajectories[1]]
    frames[0][:5] = NATIVE
    row = scored(Ensemble.from_arrays(SYSTEM, frames))
    assert row.result.metrics["handedness"].status == "n/a"
    frames[0][:12] = NATIVE
    assert scored(Ensemble.from_arrays(SYSTEM, frames)).result.gates == {"handedness": "passed"}


def test_frames_that_screening_refused_are_not_lost_ones():
    observables = bundle().observables
    alive = observables.alive.copy()
    alive[:: len(alive) // 40] = False
    screened = replace(bundle(), observables=replace(observables, alive=alive))
    found = reference_statistics(screened, seed=SEED, n_resamples=3)
    assert (found.distributions.dead == 0).all()
    assert found.tally.frames.sum() == alive.sum()


def test_traces_know_their_time():
    protocol = PROTOCOL.model_copy(update={"drop_fraction": 0.25})
    ensemble = trajectories(n_trajectories=4, n_frames=40)
    row = score(ensemble, bundle(), protocol=protocol, seed=SEED, reference=statistics())
    for trace in row.display.traces:
        assert (trace.time[0], trace.time[-1]) == (10.0, 39.0)
        assert len(trace.time) == len(trace.rmsd) == len(trace.tic1) == 30


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
