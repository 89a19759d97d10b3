"""Definitions of other benchmarks: the BioEmu package's own numbers, and plain loops."""

import importlib.util
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.spatial.distance
import scipy.stats
from toy_metrics import compared, ensemble_of, frames_of, gaussian_comparison
from toy_rows import bundle, samples

from cgbench import registry
from cgbench.evaluate import METRICS, geometry
from cgbench.evaluate.free_energy import smoothing_matrix, transfer_matrix
from cgbench.evaluate.metrics import published
from cgbench.evaluate.statistic import Frames
from cgbench.testing.strategies import random_chains
from cgbench.units import BOLTZMANN

ROOT = Path(__file__).parents[1]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "bioemu.json").read_text(encoding="utf-8"))


def projections():
    path = ROOT / "benchmarks" / "peers" / "bioemu" / "projections.py"
    spec = importlib.util.spec_from_file_location("bioemu_projections", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.cases()


def histograms(model, reference):
    """Both on the suite's own grid: 80 cells over the reference's range and a margin."""
    margin = registry.constants().fes_grid_margin
    edges = np.stack(
        [np.linspace(axis.min() - margin, axis.max() + margin, 81) for axis in reference.T]
    )
    tables = [
        np.histogram2d(*points.T, bins=list(edges))[0][:, :, None] / len(points)
        for points in (model, reference)
    ]
    return *tables, edges


def test_constants_are_those_of_the_package():
    constants, settings = registry.constants().bioemu, GOLDEN["settings"]
    for name in ("points", "noise", "bins", "padding", "cutoff"):
        assert getattr(constants, name) == settings[name], name
    assert settings["boltzmann"] == pytest.approx(BOLTZMANN, rel=1e-5)
    assert GOLDEN["software"]["bioemu-benchmarks"] in constants.source


@pytest.mark.parametrize("case", list(GOLDEN["cases"]))
def test_scores_are_those_of_the_package(case):
    expected = GOLDEN["cases"][case]
    model, reference = projections()[case]
    for points, first in zip((model, reference), expected["first_points"], strict=True):
        np.testing.assert_allclose(points[:3], first, atol=1e-12)
    first, second, edges = histograms(model, reference)
    for axis in range(2):
        along = second[:, :, 0].sum(axis=1 - axis)
        found = published.noisy_edges(along, edges[axis], 0.25)
        for end, place in zip(found[[0, -1]], expected["edges"][axis], strict=True):
            # Their ends are extremes of what was drawn, and vary with the seed.
            assert end == pytest.approx(place, abs=3.0 * np.max(expected["edges_std"]))
    surfaces = published.bioemu_surfaces(first, second, edges, np.ones(2))
    error, coverage = published.bioemu_scores(*surfaces, GOLDEN["settings"]["temperature"])
    assert coverage[0] == pytest.approx(expected["coverage"], abs=0.006)
    if expected["mae"] is None:
        assert np.isnan(error[0])
    else:
        spread = 2.0 * expected["mae_std"]
        assert error[0] == pytest.approx(expected["mae"], abs=spread + 0.005)


def test_transfer_between_grids_is_smoothing_and_rebinning():
    edges, fine = np.linspace(0.0, 1.0, 11), np.linspace(-3.0, 4.0, 1401)
    source = np.random.default_rng(0).random(10)
    spread = transfer_matrix(edges, fine, 0.2) @ source
    assert spread.sum() == pytest.approx(source.sum())
    coarse = np.linspace(-3.0, 4.0, 15)
    np.testing.assert_allclose(
        transfer_matrix(edges, coarse, 0.2) @ source,
        spread.reshape(14, 100).sum(axis=1),
        atol=1e-12,
    )
    np.testing.assert_array_equal(smoothing_matrix(edges, 0.2), transfer_matrix(edges, edges, 0.2))
    np.testing.assert_array_equal(smoothing_matrix(edges, 0.0), np.eye(10))
    # One narrow bin becomes a Gaussian.
    spike = transfer_matrix(np.array([0.0, 1e-3]), fine, 0.3)[:, 0]
    np.testing.assert_allclose(spike, np.diff(scipy.stats.norm.cdf(fine, 5e-4, 0.3)), atol=1e-8)


def test_the_reference_itself_and_frames_that_are_all_lost():
    own = gaussian_comparison(mean=0.0)
    assert METRICS["bioemu_coverage"](own)[0] == pytest.approx(1.0, abs=1e-3)
    # Two draws of a million points each, not the same one.
    assert 0.0 < METRICS["bioemu_fes_mae"](own)[0] < 0.1
    lost = gaussian_comparison(mean=0.0, dead=1.0)
    assert np.isnan(METRICS["bioemu_fes_mae"](lost)[0])
    assert METRICS["bioemu_coverage"](lost)[0] == 0.0
    half = gaussian_comparison(mean=0.3, dead=0.5)
    for metric in ("bioemu_fes_mae", "bioemu_coverage"):
        expected = METRICS[metric](gaussian_comparison(mean=0.3))[0]
        assert METRICS[metric](half)[0] == pytest.approx(expected), metric


def test_natural_divergence_is_scipys():
    generator = np.random.default_rng(1)
    p, q = generator.random((2, 30, 1))
    expected = scipy.spatial.distance.jensenshannon(p[:, 0], q[:, 0]) ** 2
    assert published.natural_jensen_shannon(7.0 * p, q)[0] == pytest.approx(expected, rel=1e-6)
    disjoint = published.natural_jensen_shannon(np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))
    assert disjoint[0] == pytest.approx(np.log(2.0), abs=1e-8)
    assert np.isnan(published.natural_jensen_shannon(np.zeros((3, 1)), np.ones((3, 1)))[0])


def loop_divergence(first, second):
    """The definition as a loop, with its pseudo-count."""
    p, q = (np.asarray(side) / np.sum(side) + 1e-10 for side in (first, second))
    middle = (p + q) / 2
    return ((p * np.log(p / middle)).sum() + (q * np.log(q / middle)).sum()) / 2


def test_divergence_of_tics_by_a_loop():
    ensemble = samples(0.6)
    comparison, seen = compared(ensemble)
    reference = bundle().observables
    edges = [
        np.linspace(reference.tics[:, axis].min(), reference.tics[:, axis].max(), 102)
        for axis in range(2)
    ]
    tables = [
        np.histogram2d(*tics[:, :2].T.astype(np.float64), bins=edges)[0].ravel()
        for tics in (seen.tics, reference.tics[bundle().subset_frames])
    ]
    # A frame or two on an edge may fall into the next cell.
    assert published.two_for_one_tic_js(comparison)[0] == pytest.approx(
        loop_divergence(*tables), abs=2e-3
    )


def test_divergence_of_pair_distances_by_a_loop():
    ensemble = samples(0.6)
    comparison, _ = compared(ensemble)
    found = []
    sides = [frames_of(ensemble), bundle().subset_coordinates]
    for i in range(10):
        for j in range(i + 3, 10):
            distances = [np.linalg.norm(side[:, j] - side[:, i], axis=-1) for side in sides]
            tables = [np.histogram(one, np.arange(0.0, 60.05, 0.1))[0] for one in distances]
            found.append(loop_divergence(*tables))
    assert len(found) == 28
    assert published.two_for_one_pair_distance_js(comparison)[0] == pytest.approx(
        np.mean(found), abs=1e-4
    )


def test_pairs_of_long_chains_are_spread_over_all():
    settings = registry.constants().two_for_one
    definition = SimpleNamespace(native=np.zeros((80, 3)), n_beads=80)
    statistic = published.TWO_FOR_ONE_PAIRS
    chosen, starts = published._chosen_pairs(80)
    pairs = geometry.pair_indices(80)[chosen]
    assert len(pairs) == settings.pairs
    assert (pairs[:, 1] - pairs[:, 0] >= settings.pair_separation).all()
    everything = geometry.pair_indices(80, settings.pair_separation)
    np.testing.assert_allclose(pairs.mean(axis=0), everything.mean(axis=0), rtol=0.05)
    # Longer distances than the last bin's edge are in it.
    frames = Frames(10.0 * random_chains(5, 80, 0).astype(np.float32), definition)
    bins = statistic.measured(frames, definition)
    assert (bins == starts[1:] - 1).any()
    assert bins.max() < statistic.n_columns(definition) == starts[-1]


def test_frames_beyond_the_reference_are_left_out_of_the_plane():
    # Straight chains of long bonds, which are intact all the same.
    line = 5.2 * np.arange(10)[:, None] * np.array([1.0, 0.0, 0.0])
    far = ensemble_of(line + np.random.default_rng(2).normal(scale=0.02, size=(4, 10, 10, 3)))
    comparison, _ = compared(far)
    assert np.isnan(published.two_for_one_tic_js(comparison)[0])
    assert published.two_for_one_pair_distance_js(comparison)[0] == pytest.approx(
        np.log(2.0), abs=1e-3
    )
