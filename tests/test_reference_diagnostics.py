"""Diagnostics of a reference against chains and series whose answers are known."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_msm import reversible_chain, sampled
from toy_reference import TIMESCALE, toy_input

from cgbench.evaluate.observables import Observables
from cgbench.evaluate.reference import build_from_trajectories
from cgbench.evaluate.reference_bundle import Basins
from cgbench.evaluate.reference_diagnostics import Markovian, block_estimates, diagnose
from cgbench.evaluate.reference_halves import half_differences
from cgbench.evaluate.weights import count_transitions
from cgbench.progress import silent
from cgbench.report.diagnostics import diagnostic_figures

BASINS = Basins(folded_q=0.8, folded_rmsd=2.0, unfolded_q=0.3)


def observables_of(states, trajectory, q=None, tics=None):
    """Observables of a chain of microstates."""
    n = len(states)
    q = np.zeros(n, dtype=np.float32) if q is None else np.asarray(q, dtype=np.float32)
    zeros = np.zeros(n, dtype=np.float32)
    return Observables(
        trajectory=np.asarray(trajectory, dtype=np.int32),
        microstate=np.asarray(states, dtype=np.int32),
        tics=np.zeros((n, 2), dtype=np.float32) if tics is None else tics.astype(np.float32),
        rg=zeros,
        end_to_end=zeros,
        q=q,
        rmsd=zeros,
        handedness=zeros,
        centre_distance=zeros,
        alive=np.ones(n, dtype=bool),
        n_trajectories=int(np.max(trajectory)) + 1,
    )


def markovian(observables, macrostate, lag):
    edges = np.linspace(-3.0, 3.0, 101)
    return Markovian(
        observables=observables,
        weights=np.full(observables.n_frames, 1.0 / observables.n_frames),
        macrostate=np.asarray(macrostate),
        basins=BASINS,
        lag_frames=lag,
        frame_interval=2.0,
        temperature=350.0,
        edges={"tic1": edges, "tic2": edges},
        fes_edges=np.stack([np.linspace(-3.0, 3.0, 21)] * 2),
        tic_sigma=np.ones(2),
    )


@pytest.fixture(scope="module")
def chain():
    """Twenty trajectories of a chain of six states in two sets that exchange rarely."""
    generator = np.random.default_rng(3)
    transition, stationary, _ = reversible_chain(6, generator, rare=0.01)
    states = np.concatenate([sampled(transition, 1500, generator) for _ in range(20)])
    source = markovian(observables_of(states, np.repeat(np.arange(20), 1500)), [0] * 3 + [1] * 3, 2)
    rows, convergence = diagnose(source, 80, 1, silent)
    return transition, stationary, rows, convergence


def test_a_markov_chain_passes_the_test_and_predictions_are_its_powers(chain):
    transition, stationary, _, convergence = chain
    assert [row.multiple for row in convergence.chapman_kolmogorov[::4]] == [1, 2, 3, 4, 5]
    end = np.eye(2)[[0] * 3 + [1] * 3]
    for row in convergence.chapman_kolmogorov:
        power = np.linalg.matrix_power(transition, 2 * row.multiple)
        weights = stationary * end[:, row.start]
        exact = weights / weights.sum() @ power @ end[:, row.end]
        assert row.lag_ps == 4.0 * row.multiple
        assert row.predicted == pytest.approx(exact, abs=0.03)
        assert row.estimated == pytest.approx(exact, abs=0.03)
        assert row.predicted_range[0] <= row.predicted <= row.predicted_range[1]
    assert convergence.largest_deviation < 0.02
    assert convergence.fraction_outside_range == 0.0


def test_probabilities_of_the_test_add_up_to_one(chain):
    convergence = chain[3]
    for multiple in range(1, 6):
        for start in range(2):
            rows = [
                row
                for row in convergence.chapman_kolmogorov
                if (row.multiple, row.start) == (multiple, start)
            ]
            assert sum(row.predicted for row in rows) == pytest.approx(1.0)
            assert sum(row.estimated for row in rows) == pytest.approx(1.0)


def test_timescales_and_their_intervals_hold_the_chains_own(chain):
    transition, _, rows, convergence = chain
    slowest = np.sort(np.linalg.eigvals(transition).real)[-2]
    exact = -2.0 / np.log(slowest)
    assert [row.lag_ps for row in rows] == [2.0, 4.0, 8.0, 12.0]
    for row, interval in zip(rows, convergence.timescale_ranges, strict=True):
        assert row.lag_ps == interval.lag_ps
        assert row.timescales_ps[0] == pytest.approx(exact, rel=0.25)
        low, high = interval.ranges_ps[0]
        assert low < exact < high
        assert low < row.timescales_ps[0] < high


def test_timescales_are_deeptimes():
    from deeptime.markov.msm import MaximumLikelihoodMSM

    generator = np.random.default_rng(8)
    transition, _, _ = reversible_chain(5, generator, 0.2)
    chains = [sampled(transition, 800, generator) for _ in range(6)]
    states, owner = np.concatenate(chains), np.repeat(np.arange(6), 800)
    source = markovian(observables_of(states, owner), [0, 0, 0, 1, 1], 4)
    rows, _ = diagnose(source, 8, 1, silent)
    row = next(row for row in rows if row.lag_ps == 8.0)
    counts = count_transitions(states, owner, 5, 6, 4).total(np.ones(6))
    theirs = MaximumLikelihoodMSM(reversible=True, lagtime=4).fit_fetch(counts)
    # From counts alone the library knows no lag: its unit is the lag of 4 frames of 2 ps.
    np.testing.assert_allclose(row.timescales_ps, theirs.timescales() * 8.0, rtol=1e-6)


def test_a_chain_with_memory_fails_the_test():
    """Two hidden states look the same: what comes next depends on what was before."""
    generator = np.random.default_rng(5)
    hidden = np.array(
        [[0.90, 0.09, 0.01, 0.0], [0.5, 0.5, 0.0, 0.0], [0.01, 0.0, 0.90, 0.09], [0, 0, 0.5, 0.5]]
    )
    states = np.concatenate([sampled(hidden, 2000, generator) for _ in range(20)])
    seen = np.array([0, 1, 1, 0])[states]
    source = markovian(observables_of(seen, np.repeat(np.arange(20), 2000)), [0, 1], 1)
    convergence = diagnose(source, 80, 1, silent)[1]
    assert convergence.largest_deviation > 0.1
    assert convergence.fraction_outside_range > 0.5


def test_lags_beyond_the_trajectories_are_left_out():
    generator = np.random.default_rng(6)
    transition, _, _ = reversible_chain(3, generator)
    states = np.concatenate([sampled(transition, 10, generator) for _ in range(60)])
    source = markovian(observables_of(states, np.repeat(np.arange(60), 10)), [0, 0, 1], 4)
    rows, convergence = diagnose(source, 8, 1, silent)
    assert [row.lag_ps for row in rows] == [2.0, 4.0, 8.0, 16.0]
    assert {row.multiple for row in convergence.chapman_kolmogorov} == {1, 2}


def test_blocks_of_independent_frames_have_one_error_whatever_their_length():
    generator = np.random.default_rng(9)
    q = np.where(generator.random(32_000) < 0.3, 0.9, 0.1)
    found = observables_of(np.zeros(32_000, dtype=int), np.repeat(np.arange(64), 500), q)
    rows = block_estimates(found, np.full(32_000, 1 / 32_000), BASINS, 2.0)
    exact = np.sqrt(0.3 * 0.7 / 32_000)
    for row in rows:
        assert row.standard_error == pytest.approx(exact, rel=4 / np.sqrt(row.n_blocks) + 0.02)
    assert [row.block_ps for row in rows if row.trajectories == 1][-1] == 1000.0
    assert [row.trajectories for row in rows if row.trajectories > 1] == [2, 4, 8]
    assert [row.n_blocks for row in rows if row.trajectories > 1] == [32, 16, 8]


def test_blocks_of_correlated_frames_show_it():
    """Each trajectory is one state throughout: only whole trajectories are independent."""
    generator = np.random.default_rng(10)
    folded = generator.random(200) < 0.4
    q = np.repeat(np.where(folded, 0.9, 0.1), 100)
    found = observables_of(np.zeros(20_000, dtype=int), np.repeat(np.arange(200), 100), q)
    rows = block_estimates(found, np.full(20_000, 1 / 20_000), BASINS, 1.0)
    errors = {row.block_ps: row.standard_error for row in rows if row.trajectories == 1}
    share = folded.mean()
    assert errors[100.0] == pytest.approx(np.sqrt(share * (1 - share) / 199), rel=1e-6)
    assert errors[1.0] == pytest.approx(errors[100.0] / 10, rel=0.01)


def test_blocks_end_with_their_trajectories():
    # Seven frames make blocks of 4 and 3, never of frames of two trajectories.
    q = np.array([0.9] * 7 + [0.1] * 7 + [0.9] * 70)
    owner = np.repeat(np.arange(12), 7)
    found = observables_of(np.zeros(84, dtype=int), owner, q)
    rows = block_estimates(found, np.full(84, 1 / 84), BASINS, 1.0)
    four = next(row for row in rows if row.block_ps == 4.0)
    assert four.n_blocks == 24
    residual = ((q > 0.8) - 77 / 84) / 84
    parts = [part for index in range(12) for part in np.split(residual[owner == index], [4])]
    expected = np.sqrt(24 / 23 * sum(part.sum() ** 2 for part in parts))
    assert four.standard_error == pytest.approx(expected)


def test_halves_of_known_distributions_differ_by_what_they_differ():
    """Two trajectories without transitions: one half is each of them, whatever the division."""
    generator = np.random.default_rng(11)
    n = 20_000
    tics = generator.normal(scale=0.3, size=(2 * n, 2))
    tics[n:, 0] += 1.0
    q = np.concatenate([np.repeat([0.9, 0.1], [n // 4, n - n // 4]), np.repeat([0.9, 0.1], n // 2)])
    found = observables_of(np.zeros(2 * n, dtype=int), np.repeat([0, 1], n), q, tics)
    source = markovian(found, [0], 1)
    rows = {
        row.statistic: row.difference
        for row in half_differences(
            found, source.counts(1), BASINS, source.edges, source.fes_edges, np.array([2.0, 1.0]),
            350.0, 4, 1, silent,
        )
    }  # fmt: skip
    assert rows["w1_tic1"].mean == pytest.approx(0.5, abs=0.01)
    assert rows["w1_tic2"].mean < 0.02
    assert rows["folded_population"].mean == pytest.approx(0.25)
    assert rows["dG_fold"].mean == pytest.approx(0.0019872 * 350.0 * np.log(3.0), rel=1e-3)
    assert rows["folded_population"].lo == rows["folded_population"].hi
    # Equal shifts leave the shape of the surface where both halves are, which is nowhere much.
    assert rows["fes_rmse"].mean > 1.0


@pytest.fixture(scope="module")
def toy():
    return build_from_trajectories(toy_input()[0], n_resamples=60)


def test_a_bundle_carries_its_diagnostics(toy):
    convergence = toy.metadata.convergence
    assert convergence.n_resamples == convergence.n_divisions == 15
    assert {row.statistic for row in convergence.halves} == {
        "w1_tic1",
        "w1_tic2",
        "fes_rmse",
        "folded_population",
        "dG_fold",
    }
    assert all(row.difference.lo <= row.difference.mean for row in convergence.halves)
    assert all(
        interval.ranges_ps[0][0] < TIMESCALE * 1.5 and interval.ranges_ps[0][1] > TIMESCALE / 1.5
        for interval in convergence.timescale_ranges
    )
    assert convergence.fraction_outside_range <= 0.25


def test_figures_are_whole_documents_and_repeatable(toy):
    figures = diagnostic_figures(toy)
    assert [figure.name for figure in figures] == [
        "split_halves",
        "implied_timescales",
        "chapman_kolmogorov",
        "block_estimates",
    ]
    for figure in figures:
        assert figure.svg.startswith(b"<?xml")
        assert b"</svg>" in figure.svg
        assert figure.png.startswith(b"\x89PNG")
        assert figure.title.startswith(toy.system)
    assert [figure.svg for figure in diagnostic_figures(toy)] == [item.svg for item in figures]


def test_a_bundle_without_diagnostics_has_only_its_maps(toy):
    bare = SimpleNamespace(**{name: getattr(toy, name) for name in ("observables", "system")})
    metadata = toy.metadata.model_copy(update={"convergence": None})
    for name in ("fes", "fes_edges", "tic_sigma", "temperature", "native_tics", "counts"):
        setattr(bare, name, getattr(toy, name))
    bare.metadata, bare.state_weights = metadata, toy.state_weights
    assert [figure.name for figure in diagnostic_figures(bare)] == ["split_halves"]


def test_the_page_shows_the_committed_figures():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "reference-bundles.md").read_text(encoding="utf-8")
    found = json.loads((root / "benchmarks" / "results" / "reference_tica.json").read_text())
    for frames, part in (
        (found["frames"], "cgbench"),
        (found["twin_frames"], "twin"),
        (found["deeptime_frames"], "deeptime"),
    ):
        cells = f"| {frames:,} | {found[part]['seconds']:.0f} s |"
        assert f"{cells} {found[part]['resident_gib']:.2f} GiB |" in page
    assert f"at most {found['largest_eigenvalue_difference']:.0e}," in page
    assert f"{found['deeptime_seconds_extrapolated']:.0f} s, {found['ratio']:.0f} times" in page
    # What is asked of it: a fifth of the time, below 2 GiB, the same eigenvalues and rank.
    assert found["ratio"] >= 5
    assert found["cgbench"]["resident_gib"] < 2
    assert found["largest_eigenvalue_difference"] < 1e-5
    assert found["cgbench_on_twin_frames"]["rank"] == found["twin"]["rank"]
