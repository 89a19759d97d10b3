"""Distances between histograms against scipy and brute force; the registry against the code."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.integrate
import scipy.spatial.distance
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import cgbench
from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import FORCE_METRICS, METRICS, ForceErrors
from cgbench.evaluate.metrics import COMPARED, STATISTICS, Metric, by_id, statistics_of
from cgbench.evaluate.metrics.divergence import (
    integrated_difference,
    jensen_shannon,
    kullback_leibler,
    mass_above,
    mass_below,
    mean_jensen_shannon,
    quantile,
    wasserstein,
)

SOURCE = Path(cgbench.__file__).parent
masses = hnp.arrays(np.float64, 12, elements=st.floats(0, 1).map(lambda x: round(x, 6))).filter(
    lambda array: array.sum() > 0.1
)


def column(values):
    return (values / values.sum())[:, None]


def test_registry_and_code_have_the_same_metrics():
    # Novelty compares samples with the training part, which is no part of a comparison.
    known = {spec.id for spec in registry.metrics() if "training" not in spec.needs}
    assert set(METRICS) | set(FORCE_METRICS) == known
    assert not set(METRICS) & set(FORCE_METRICS)
    assert all(name == metric.id for name, metric in METRICS.items())
    assert {spec.id for spec in registry.metrics() if spec.ranked} <= set(COMPARED)
    for spec in registry.metrics():
        if spec.optional:
            assert not spec.ranked, spec.id
        if spec.id in METRICS:
            assert METRICS[spec.id].compared == (spec.group == "thermodynamics"), spec.id


def test_every_metric_says_what_it_is():
    for spec in registry.metrics():
        assert len(spec.description) > 20, spec.id
        assert spec.description.rstrip().endswith("."), spec.id
        if spec.ranked:
            assert spec.penalty is not None
            assert len(spec.penalty_source) > 20, spec.id


def test_every_constant_is_used():
    constants = type(registry.constants())
    source = "".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    groups = {"bioemu", "two_for_one"}
    names = set(constants.model_fields)
    for group in groups:
        nested = constants.model_fields[group].annotation.model_fields
        names |= set(nested) - {"source", "chosen_here"}
    unused = [name for name in names if not re.search(rf"\.{name}\b", source)]
    assert unused == []


def test_every_statistic_is_needed_by_a_metric_and_named_once():
    assert set(STATISTICS) == {
        statistic.name for metric in METRICS.values() for statistic in metric.statistics
    }
    first = next(iter(STATISTICS.values()))
    other = replace(first, version=first.version + 1)
    with pytest.raises(ValidationError, match="statistics have the same name"):
        statistics_of([Metric("a", len, (first,)), Metric("b", len, (other,))])
    with pytest.raises(ValidationError, match="metrics have the same id"):
        by_id([Metric("a", len)], [Metric("a", len)])


@given(masses, masses)
def test_wasserstein_of_histograms_is_scipys(first, second):
    edges = np.linspace(-1.0, 2.0, 13)
    found = wasserstein(edges, column(first), column(second), np.zeros(1))[0]
    # Even mass in a bin is the same as a hundred points in it.
    points = np.linspace(-1.0, 2.0, 1201)
    points = 0.5 * (points[1:] + points[:-1])
    expected = scipy.stats.wasserstein_distance(
        points, points, np.repeat(first, 100), np.repeat(second, 100)
    )
    assert found == pytest.approx(expected, abs=1e-3)
    assert wasserstein(edges, column(first), column(first), np.zeros(1))[0] == 0.0
    swapped = wasserstein(edges, column(second), column(first), np.zeros(1))[0]
    assert swapped == pytest.approx(found, abs=1e-12)


@given(masses, st.floats(0, 1))
def test_dead_mass_lies_at_the_farthest_edge(reference, dead):
    edges = np.linspace(0.0, 3.0, 13)
    alive = column(reference)
    found = wasserstein(edges, alive * (1 - dead), alive, np.array([dead]))[0]
    mean = (0.5 * (edges[1:] + edges[:-1])) @ alive[:, 0]
    # Moving a share of a distribution to a point costs the share times the mean distance.
    assert found == pytest.approx(dead * max(mean, 3.0 - mean), abs=1e-9)


def test_integral_where_the_sign_changes():
    edges = np.array([0.0, 1.0, 3.0])
    # −1 to 3 crosses zero at a quarter: 1/8 + 9/8; then 3 to 1 over two units: 4.
    assert integrated_difference(edges, np.array([[-1.0], [3.0], [1.0]]))[0] == pytest.approx(5.25)


@given(masses, masses)
def test_jensen_shannon_is_scipys_and_what_its_definition_says(first, second):
    p, q = column(first), column(second)
    found = jensen_shannon(p, q)[0]

    def entropy(x):
        x = x[x > 0]
        return -(x * np.log2(x)).sum()

    expected = entropy(0.5 * (p + q)) - 0.5 * entropy(p) - 0.5 * entropy(q)
    assert found == pytest.approx(expected, abs=1e-9)
    distance = scipy.spatial.distance.jensenshannon(p[:, 0], q[:, 0], base=2)
    assert found == pytest.approx(np.nan_to_num(distance) ** 2, abs=1e-9)
    assert jensen_shannon(q, p)[0] == pytest.approx(found, abs=1e-12)
    assert jensen_shannon(p, p)[0] == 0.0


def test_jensen_shannon_of_disjoint_distributions_is_one_bit():
    assert jensen_shannon(np.array([[1.0], [0.0]]), np.array([[0.0], [1.0]]))[0] == 1.0


@given(
    hnp.arrays(np.float64, (3, 5, 2), elements=st.floats(0.01, 1)),
    hnp.arrays(np.float64, (3, 5, 2), elements=st.floats(0.01, 1)),
    hnp.arrays(np.float64, 2, elements=st.floats(0, 1).map(lambda x: round(x, 6))),
    st.sampled_from([1, 10, 10**6]),
)
def test_mean_divergence_is_that_of_each_with_dead_mass_as_a_state(first, second, dead, block):
    import cgbench.evaluate.metrics.divergence as divergence

    model = first / first.sum(axis=1, keepdims=True) * (1.0 - dead)
    reference = second / second.sum(axis=1, keepdims=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(divergence, "_BLOCK_ENTRIES", block)
        found = mean_jensen_shannon(model.reshape(15, 2), reference.reshape(15, 2), dead, 5)
    expected = []
    for p, q in zip(model, reference, strict=True):
        states = [np.vstack([p, dead]), np.vstack([q, np.zeros(2)])]
        expected.append(jensen_shannon(*states))
    assert found == pytest.approx(np.mean(expected, axis=0), abs=1e-12)


def test_there_is_no_mean_divergence_of_nothing():
    assert np.isnan(mean_jensen_shannon(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(2), 5)).all()


@given(masses, masses)
def test_kullback_leibler_is_scipys_entropy(first, second):
    p, q = column(first), column(second)
    pseudo = 1e-3
    found = kullback_leibler(p, q, pseudo)[0]
    # scipy normalises both.
    expected = scipy.stats.entropy(p[:, 0] + pseudo, q[:, 0] + pseudo)
    assert found == pytest.approx(expected, abs=1e-9)
    assert kullback_leibler(p, p, pseudo)[0] == 0.0
    assert 0.0 <= found <= np.log((1.0 + pseudo) / pseudo)


def test_distances_of_gaussians_are_the_analytic_ones():
    edges = np.linspace(-9.0, 11.0, 2001)
    p, q = (np.diff(scipy.stats.norm.cdf(edges, *both))[:, None] for both in ((0, 1), (1.5, 1.3)))
    # Two Gaussians: the divergence of the first from the second.
    analytic = np.log(1.3) + (1.0 + 1.5**2) / (2 * 1.3**2) - 0.5
    assert kullback_leibler(p, q, 1e-15)[0] == pytest.approx(analytic, rel=1e-4)
    quantiles = scipy.integrate.quad(
        lambda u: abs(scipy.stats.norm.ppf(u) * (1.3 - 1.0) + 1.5), 0.0, 1.0
    )[0]
    assert wasserstein(edges, q, p, np.zeros(1))[0] == pytest.approx(quantiles, rel=1e-4)

    def density(x):
        first, second = scipy.stats.norm.pdf(x), scipy.stats.norm.pdf(x, 1.5, 1.3)
        middle = 0.5 * (first + second)
        return 0.5 * (first * np.log2(first / middle) + second * np.log2(second / middle))

    divergence = scipy.integrate.quad(density, -9.0, 11.0, limit=200)[0]
    assert jensen_shannon(p, q)[0] == pytest.approx(divergence, rel=1e-4)


@given(masses, st.floats(0.01, 0.99))
def test_quantiles_are_inverses_of_the_distribution_function(values, probability):
    edges = np.linspace(0.0, 6.0, 13)
    found = quantile(edges, column(values), probability)[0]
    cumulative = np.concatenate([[0.0], np.cumsum(values) / values.sum()])
    assert np.interp(found, edges, cumulative) == pytest.approx(probability, abs=1e-9)


def test_quantile_passes_over_empty_bins_and_knows_nothing_of_nothing():
    edges = np.linspace(0.0, 4.0, 5)
    table = np.array([[0.0, 0.0], [0.5, 0.0], [0.0, 0.0], [0.5, 0.0]])
    assert quantile(edges, table, 0.01)[0] == pytest.approx(1.02)
    assert quantile(edges, table, 1.0)[0] == 4.0
    assert np.isnan(quantile(edges, table, 0.5)[1])


@given(masses, st.floats(-1, 7))
def test_mass_on_either_side_is_the_distribution_function(values, bound):
    edges = np.linspace(0.0, 6.0, 13)
    cumulative = np.concatenate([[0.0], np.cumsum(values)])
    expected = np.interp(bound, edges, cumulative)
    assert mass_below(edges, values[:, None], bound)[0] == pytest.approx(expected, abs=1e-9)
    above = mass_above(edges, values[:, None], bound)[0]
    assert above == pytest.approx(values.sum() - expected, abs=1e-9)


def test_force_errors_are_sums_over_trajectories():
    generator = np.random.default_rng(0)
    errors = [generator.normal(size=(n, 10, 3)) for n in (5, 9, 2)]
    summed = ForceErrors(
        force_map="optimal",
        trajectory=np.array([4, 7, 9]),
        squared=np.array([(error**2).sum() for error in errors]),
        absolute=np.array([np.abs(error).sum() for error in errors]),
        count=np.array([error.size for error in errors]),
    )
    taken = np.array([[1.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    everything = np.concatenate([error.ravel() for error in errors])
    twice = np.concatenate([errors[0].ravel(), errors[0].ravel(), errors[2].ravel()])
    assert FORCE_METRICS["force_mse"](summed, taken) == pytest.approx(
        [(everything**2).mean(), (twice**2).mean()]
    )
    assert FORCE_METRICS["force_l1"](summed, taken) == pytest.approx(
        [np.abs(everything).mean(), np.abs(twice).mean()]
    )
    with pytest.raises(ValidationError, match="different lengths"):
        replace(summed, squared=np.zeros(2))
    with pytest.raises(ValidationError, match="without components"):
        replace(summed, count=np.array([1, 0, 1]))
