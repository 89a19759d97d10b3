"""TICA against definitions, another library and processes with known eigenvalues."""

import numpy as np
import pytest
import scipy.linalg
from hypothesis import given, settings
from hypothesis import strategies as st

from cgbench.errors import ValidationError
from cgbench.evaluate import covariances, tica
from cgbench.evaluate.grouped import pieces_in_groups
from cgbench.evaluate.tica import TicaModel, fit_tica, implied_timescales, lagged_moments


def autoregressive(coefficients, n_frames, generator):
    """Independent stationary AR(1) series of unit variance, (n_frames, n)."""
    coefficients = np.asarray(coefficients)
    noise = generator.normal(size=(n_frames, len(coefficients)))
    series = np.empty_like(noise)
    series[0] = noise[0]
    for frame in range(1, n_frames):
        series[frame] = (
            coefficients * series[frame - 1] + np.sqrt(1 - coefficients**2) * noise[frame]
        )
    return series


def by_definition(trajectories, lag, used=None):
    """Mean, covariances and eigenvalues from explicit lists of pairs, in float64."""
    early, late = [], []
    for index, trajectory in enumerate(trajectories):
        for frame in range(len(trajectory) - lag):
            if used is None or (used[index][frame] and used[index][frame + lag]):
                early.append(trajectory[frame].astype(np.float64))
                late.append(trajectory[frame + lag].astype(np.float64))
    x, y = np.array(early), np.array(late)
    mean = np.concatenate([x, y]).mean(axis=0)
    x, y = x - mean, y - mean
    instantaneous = (x.T @ x + y.T @ y) / (2 * len(x))
    lagged = (x.T @ y + y.T @ x) / (2 * len(x))
    eigenvalues = scipy.linalg.eigh(lagged, instantaneous, eigvals_only=True)[::-1]
    return mean, instantaneous, lagged, eigenvalues


@st.composite
def trajectory_sets(draw):
    n_features = draw(st.integers(1, 4))
    lag = draw(st.integers(1, 5))
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    lengths.append(40)
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    trajectories = [
        (generator.normal(size=(n, n_features)) + 3.0).astype(np.float32) for n in lengths
    ]
    chunk = draw(st.one_of(st.none(), st.integers(1, 50)))
    used = draw(st.booleans())
    masks = [generator.random(n) < 0.9 for n in lengths] if used else None
    return trajectories, lag, chunk, masks


@given(trajectory_sets())
@settings(max_examples=60, deadline=None)
def test_moments_are_those_of_explicit_pairs_however_they_are_chunked(drawn):
    trajectories, lag, chunk, masks = drawn
    moments = lagged_moments(trajectories, lag, chunk_frames=chunk, used=masks)
    mean, instantaneous, lagged, eigenvalues = by_definition(trajectories, lag, masks)
    np.testing.assert_allclose(moments.mean(), mean, rtol=1e-10)
    np.testing.assert_allclose(moments.covariances()[0], instantaneous, atol=1e-10)
    np.testing.assert_allclose(moments.covariances()[1], lagged, atol=1e-10)
    model = fit_tica(trajectories, lag, len(mean), 1e-9, used=masks, chunk_frames=chunk)
    np.testing.assert_allclose(model.eigenvalues, eigenvalues, atol=1e-7)


def test_agrees_with_deeptime_with_the_mean_removed():
    from deeptime.covariance import Covariance
    from deeptime.decomposition import TICA

    generator = np.random.default_rng(1)
    mixing = generator.normal(size=(6, 6))
    trajectories = [
        autoregressive([0.99, 0.95, 0.9, 0.5, 0.2, 0.1], n, generator) @ mixing + 7.0
        for n in (900, 400, 20)
    ]
    covariance = Covariance(
        lagtime=5,
        compute_c00=True,
        compute_c0t=True,
        reversible=True,
        remove_data_mean=True,
        bessels_correction=False,
    )
    for trajectory in trajectories:
        covariance.partial_fit((trajectory[:-5], trajectory[5:]))
    theirs = TICA(lagtime=5, dim=3, epsilon=1e-12, scaling="kinetic_map").fit_from_covariances(
        covariance
    )
    theirs = theirs.fetch_model()
    ours = fit_tica(trajectories, 5, 3, 1e-12)
    np.testing.assert_allclose(ours.eigenvalues, theirs.singular_values[:3], atol=1e-10)
    for trajectory in trajectories:
        expected = theirs.transform(trajectory)
        found = ours.transform(trajectory)
        signs = np.sign((expected * found).sum(axis=0))
        np.testing.assert_allclose(found * signs, expected, atol=1e-5)


def test_autoregressive_process_has_its_known_eigenvalues_and_timescales():
    generator = np.random.default_rng(2)
    coefficients = np.array([0.98, 0.9])
    hidden = [autoregressive(coefficients, 30_000, generator) for _ in range(3)]
    trajectories = [series @ np.array([[1.0, 2.0], [-0.5, 1.0]]) for series in hidden]
    model = fit_tica(trajectories, 5, 2, 1e-6)
    np.testing.assert_allclose(model.eigenvalues, coefficients**5, atol=0.02)
    expected = -1.0 / np.log(coefficients) * 0.2
    np.testing.assert_allclose(model.timescales(0.2), expected, rtol=0.15)
    # The first component is the slowest hidden one, scaled by its eigenvalue.
    projected = model.transform(trajectories[0])
    correlation = np.corrcoef(projected[:, 0], hidden[0][:, 0])[0, 1]
    assert abs(correlation) > 0.99


def test_indicator_features_of_a_chain_give_the_eigenvalues_of_its_symmetrised_counts():
    generator = np.random.default_rng(3)
    transition = np.array([[0.95, 0.05, 0.0], [0.04, 0.93, 0.03], [0.0, 0.02, 0.98]])
    chains = []
    for length in (20_000, 12_500):
        state, states = 0, []
        for draw in generator.random(length):
            states.append(state)
            state = int(np.searchsorted(np.cumsum(transition[state]), draw))
        chains.append(np.array(states))
    lag = 3
    counts = np.zeros((3, 3))
    for chain in chains:
        np.add.at(counts, (chain[:-lag], chain[lag:]), 1.0)
    symmetric = counts + counts.T
    expected = np.sort(np.linalg.eigvals(symmetric / symmetric.sum(axis=1, keepdims=True)).real)
    # Indicators add up to one: their covariance has rank two, and the eigenvalue 1 is the mean.
    model = fit_tica([np.eye(3)[chain] for chain in chains], lag, 2, 1e-9)
    assert model.rank == 2
    np.testing.assert_allclose(model.eigenvalues, expected[::-1][1:], atol=1e-9)
    true = np.sort(np.linalg.eigvals(transition).real)[::-1][1:] ** lag
    np.testing.assert_allclose(model.eigenvalues, true, atol=0.03)


def test_pairs_never_cross_trajectories():
    generator = np.random.default_rng(4)
    trajectories = [generator.normal(size=(30, 2)) + 10.0 * index for index in range(4)]
    ours = lagged_moments(trajectories, 7)
    assert ours.n_pairs == 4 * 23
    joined = lagged_moments([np.concatenate(trajectories)], 7)
    assert joined.n_pairs == 4 * 30 - 7
    assert not np.allclose(ours.covariances()[1], joined.covariances()[1], rtol=0.01)
    shuffled = lagged_moments(trajectories[::-1], 7)
    np.testing.assert_allclose(ours.covariances()[1], shuffled.covariances()[1], rtol=1e-12)


def test_the_mean_is_removed_so_that_noise_has_no_slow_component():
    generator = np.random.default_rng(5)
    noise = [generator.normal(size=(4000, 3)) + 100.0 for _ in range(2)]
    model = fit_tica(noise, 10, 3, 1e-9)
    assert np.abs(model.eigenvalues).max() < 0.05


def test_a_large_offset_costs_no_precision():
    generator = np.random.default_rng(6)
    # Multiples of 1/64 stay exact in float32 after the offset, so any difference is our own.
    series = np.round(autoregressive([0.95, 0.6], 5000, generator) * 64) / 64
    plain = fit_tica([series.astype(np.float32)], 4, 2, 1e-9, chunk_frames=500)
    offset = fit_tica([(series + 65536.0).astype(np.float32)], 4, 2, 1e-9, chunk_frames=500)
    np.testing.assert_allclose(offset.eigenvalues, plain.eigenvalues, atol=1e-11)
    np.testing.assert_allclose(offset.mean - 65536.0, plain.mean, atol=1e-9)


def test_redundant_directions_are_cut_off():
    generator = np.random.default_rng(7)
    series = autoregressive([0.95, 0.7], 4000, generator)
    twice = np.concatenate([series, series @ np.array([[1.0, 1.0], [0.0, 2.0]])], axis=1)
    single, redundant = fit_tica([series], 3, 2, 1e-6), fit_tica([twice], 3, 2, 1e-6)
    assert redundant.rank == 2
    np.testing.assert_allclose(redundant.eigenvalues, single.eigenvalues, atol=1e-9)
    with pytest.raises(ValidationError, match="independent directions"):
        fit_tica([twice], 3, 3, 1e-6)


def test_kinetic_map_scales_components_by_their_eigenvalues():
    generator = np.random.default_rng(8)
    series = autoregressive([0.95, 0.7, 0.3], 6000, generator)
    model = fit_tica([series], 2, 3, 1e-6)
    both = np.concatenate([series[:-2], series[2:]])
    spread = model.transform(both).astype(np.float64).std(axis=0)
    np.testing.assert_allclose(spread, np.abs(model.eigenvalues), rtol=1e-4)


def test_signs_follow_one_frame():
    generator = np.random.default_rng(9)
    series = autoregressive([0.95, 0.7, 0.3], 1000, generator)
    model = fit_tica([series], 2, 3, 1e-6)
    for frame in (series[10], 2 * model.mean - series[10]):
        oriented = model.oriented(frame)
        projection = oriented.transform(frame[None])[0]
        assert (projection >= 0).all()
        np.testing.assert_allclose(projection, np.abs(model.transform(frame[None])[0]), rtol=1e-5)


def test_features_are_made_chunk_by_chunk():
    generator = np.random.default_rng(10)
    trajectory = generator.normal(size=(200, 4, 3))
    seen = []

    def features(block):
        seen.append(len(block))
        return block.reshape(len(block), -1)

    model = fit_tica([trajectory], 3, 2, 1e-9, features=features, chunk_frames=32)
    # The first call is for the provisional mean.
    assert max(seen[1:]) == 32
    assert sum(seen[1:]) == 200
    whole = fit_tica([trajectory.reshape(200, -1)], 3, 2, 1e-9)
    np.testing.assert_allclose(model.eigenvalues, whole.eigenvalues, atol=1e-12)


def test_unusable_frames_may_hold_anything():
    generator = np.random.default_rng(11)
    series = autoregressive([0.9, 0.5], 300, generator)
    damaged = series.copy()
    damaged[50] = np.nan
    mask = np.ones(300, dtype=bool)
    mask[50] = False
    model = fit_tica([damaged], 2, 2, 1e-9, used=[mask], chunk_frames=20)
    eigenvalues = by_definition([series], 2, [mask])[3]
    np.testing.assert_allclose(model.eigenvalues, eigenvalues, atol=1e-10)
    with pytest.raises(ValidationError, match="not finite"):
        fit_tica([damaged], 2, 2, 1e-9)


@pytest.mark.parametrize(
    ("trajectories", "lag", "used", "message"),
    [
        ([np.zeros((5, 2)), np.zeros((3, 2))], 5, None, "no lagged pairs"),
        ([], 1, None, "no lagged pairs"),
        ([np.ones((50, 2))], 1, None, "independent directions"),
        ([np.random.default_rng(0).normal(size=(50, 2))], 0, None, "lag is too short"),
        ([np.zeros(50)], 1, None, "wrong shape"),
        ([np.zeros((9, 2)), np.zeros((9, 3))], 1, None, "number of TICA features"),
        ([np.zeros((9, 2))], 1, [np.ones(8, dtype=bool)], "mask of trajectory 0"),
    ],
)
def test_input_that_cannot_be_fitted_is_refused(trajectories, lag, used, message):
    with pytest.raises(ValidationError, match=message):
        fit_tica(trajectories, lag, 1, 1e-6, used=used)


def test_features_of_another_system_are_refused():
    model = TicaModel(1, np.zeros(3), np.ones((3, 1)), np.array([0.5]), 3, 10)
    with pytest.raises(ValidationError, match="do not fit"):
        model.transform(np.zeros((4, 2)))


def test_timescales_exist_only_for_eigenvalues_between_zero_and_one():
    found = implied_timescales(np.array([np.exp(-0.5), 1.0, 0.0, -0.2, 1.1]), 2.0)
    assert found[0] == pytest.approx(4.0)
    assert np.isnan(found[1:]).all()


def test_single_precision_products_agree_with_double(monkeypatch: pytest.MonkeyPatch) -> None:
    # Distances of a moving chain: a mean much larger than the motion, many near-dependent features.
    generator = np.random.default_rng(5)
    slow = np.cumsum(generator.standard_normal((8, 500, 12, 3)), axis=1) * 0.1
    chain = np.arange(12)[:, None] * np.array([3.8, 0.0, 0.0]) + slow
    rows, columns = np.triu_indices(12, 1)
    distances = np.linalg.norm(chain[:, :, rows] - chain[:, :, columns], axis=-1)
    double = fit_tica(list(distances), 10, 3, 1e-6)
    monkeypatch.setattr(covariances, "SINGLE_PRECISION_FEATURES", 10)
    single = fit_tica(list(distances.astype(np.float32)), 10, 3, 1e-6, chunk_frames=77)
    assert single.rank == double.rank
    np.testing.assert_allclose(single.eigenvalues, double.eigenvalues, atol=1e-5)
    np.testing.assert_allclose(single.mean, double.mean, rtol=1e-6)


def test_rows_wait_for_a_full_block_without_being_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(6)
    trajectories = [generator.standard_normal((n, 3)) for n in (5, 900, 2, 64, 131)]
    whole = lagged_moments(trajectories, 3)
    monkeypatch.setattr(covariances, "_BLOCK_BYTES", 64 * 3 * 8)
    pieces = lagged_moments(trajectories, 3)
    assert pieces.n_pairs == whole.n_pairs == sum(max(0, len(t) - 3) for t in trajectories)
    np.testing.assert_allclose(pieces.sums, whole.sums, rtol=1e-12)
    np.testing.assert_allclose(pieces.differences, whole.differences, rtol=1e-12)
    np.testing.assert_allclose(pieces.total, whole.total, rtol=1e-10, atol=1e-9)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=8), st.integers(1, 30), st.integers(1, 6))
@settings(max_examples=80, deadline=None)
def test_groups_hold_every_frame_once_in_order(lengths, group_frames, most_groups):
    groups = pieces_in_groups(lengths, group_frames, most_groups)
    frames = [
        (piece.trajectory, frame)
        for group in groups
        for piece in group
        for frame in range(piece.start, piece.stop)
    ]
    assert frames == [(index, frame) for index, n in enumerate(lengths) for frame in range(n)]
    assert len(groups) <= most_groups
    sizes = [sum(len(piece) for piece in group) for group in groups]
    assert all(size == sizes[0] for size in sizes[:-1])
    assert all(size >= min(group_frames, sum(lengths)) for size in sizes[:-1])


@given(trajectory_sets(), st.integers(1, 20))
@settings(max_examples=60, deadline=None)
def test_groups_of_pairs_sum_to_those_of_explicit_pairs(drawn, group_pairs):
    trajectories, lag, chunk, masks = drawn
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(covariances, "_GROUP_PAIRS", group_pairs)
        moments = lagged_moments(trajectories, lag, chunk_frames=chunk, used=masks)
    mean, instantaneous, lagged, _ = by_definition(trajectories, lag, masks)
    np.testing.assert_allclose(moments.mean(), mean, rtol=1e-9)
    np.testing.assert_allclose(moments.covariances()[0], instantaneous, atol=1e-9)
    np.testing.assert_allclose(moments.covariances()[1], lagged, atol=1e-9)


def test_the_number_of_workers_changes_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(12)
    trajectories = [
        generator.standard_normal((n, 60)).astype(np.float32) for n in (400, 3, 900, 250)
    ]
    monkeypatch.setattr(covariances, "SINGLE_PRECISION_FEATURES", 10)
    monkeypatch.setattr(covariances, "_GROUP_PAIRS", 130)
    alone = lagged_moments(trajectories, 7)
    for workers in (2, 5):
        found = lagged_moments(trajectories, 7, workers=workers)
        assert found.n_pairs == alone.n_pairs == 393 + 893 + 243
        for name in ("shift", "total", "sums", "differences"):
            np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))


def test_moments_about_another_mean_cannot_be_added() -> None:
    generator = np.random.default_rng(13)
    first = lagged_moments([generator.normal(size=(30, 2))], 2)
    second = lagged_moments([generator.normal(size=(30, 2)) + 5.0], 2)
    with pytest.raises(ValidationError, match="provisional means"):
        first.add(second)


def test_the_iterative_solver_finds_what_the_dense_one_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    generator = np.random.default_rng(14)
    mixing = generator.normal(size=(90, 90))
    decay = np.linspace(0.0, 0.98, 90)
    series = [autoregressive(decay, 3000, generator) @ mixing for _ in range(2)]
    dense = fit_tica(series, 3, 4, 1e-9)
    monkeypatch.setattr(tica, "_ITERATIVE_RANK", 50)
    iterative = fit_tica(series, 3, 4, 1e-9)
    np.testing.assert_allclose(iterative.eigenvalues, dense.eigenvalues, atol=1e-12)
    np.testing.assert_allclose(iterative.components, dense.components, atol=1e-9)
