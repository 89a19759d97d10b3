"""GDT and TM-score against a plain twin, brute force, tmtools and cases made by hand."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import tmtools
from hypothesis import given, settings
from numpy.typing import NDArray

from cgbench.errors import ValidationError
from cgbench.evaluate import alignment_search
from cgbench.evaluate.alignment_search import search_scores, search_seeds, tm_scale
from cgbench.evaluate.rotation import best_rotation
from cgbench.kernels.compiled import compiled
from cgbench.testing.strategies import chains, random_chains, rotations, translations

Array = NDArray[Any]


def rotation_by_svd(covariance: Array) -> Array:
    left, _, right = np.linalg.svd(covariance)
    left[:, 2] *= np.linalg.det(left @ right)
    return (left @ right).T


def distances_after(frame: Array, native: Array, weights: Array) -> Array:
    """Superpose by weights; the twin of the kernel, in double precision by another method."""
    weights = weights / weights.sum()
    centre, target = weights @ frame, weights @ native
    rotation = rotation_by_svd((frame - centre).T @ (weights[:, None] * (native - target)))
    return np.linalg.norm((frame - centre) @ rotation.T - (native - target), axis=1)


def twin(frame: Array, native: Array) -> tuple[float, float, float]:
    cutoffs = (0.5, 1.0, 2.0, 4.0, 8.0)
    scale = tm_scale(len(native))
    counts, best, best_distances = dict.fromkeys(cutoffs, 0), -1.0, np.zeros(len(native))

    def look(distances: Array) -> None:
        nonlocal best, best_distances
        for cutoff in cutoffs:
            counts[cutoff] = max(counts[cutoff], int((distances <= cutoff).sum()))
        score = float(np.mean(1 / (1 + (distances / scale) ** 2)))
        if score > best:
            best, best_distances = score, distances

    known = set()
    for seed in search_seeds(len(native)):
        start = distances_after(frame, native, seed)
        look(start)
        for cutoff in cutoffs:
            distances = start
            for _ in range(20):
                chosen = distances <= cutoff
                if chosen.sum() < 3 or (cutoff, chosen.tobytes()) in known:
                    break
                known.add((cutoff, chosen.tobytes()))
                distances = distances_after(frame, native, chosen.astype(float))
                look(distances)
    for _ in range(20):
        weights = (1 + (best_distances / scale) ** 2) ** -2
        distances = distances_after(frame, native, weights)
        score = float(np.mean(1 / (1 + (distances / scale) ** 2)))
        gain, best, best_distances = score - best, max(score, best), distances
        if gain <= 1e-6 * score:
            break
    fractions = {cutoff: count / len(native) for cutoff, count in counts.items()}
    return (
        float(np.mean([fractions[cutoff] for cutoff in (1.0, 2.0, 4.0, 8.0)])),
        float(np.mean([fractions[cutoff] for cutoff in (0.5, 1.0, 2.0, 4.0)])),
        best,
    )


def related(n_frames: int, n_beads: int, seed: int) -> tuple[Array, Array]:
    """Return a chain and frames from very like it to not like it at all."""
    native, other = random_chains(2, n_beads, seed)
    share = np.linspace(0.0, 1.0, n_frames)[:, None, None]
    noise = np.random.default_rng(seed).normal(size=(n_frames, n_beads, 3))
    frames = (1 - share) * native + share * other + 2.0 * share * noise
    return frames.astype(np.float32), native


# Independent implementations


@pytest.mark.parametrize("n_beads", [5, 10, 24, 45])
def test_scores_are_those_of_the_twin(n_beads: int) -> None:
    frames, native = related(6, n_beads, seed=n_beads)
    found = search_scores(frames, native)
    expected = np.array([twin(frame.astype(float), native) for frame in frames])
    # A bead at a cutoff may fall on either side in single precision.
    np.testing.assert_allclose(found.gdt_ts, expected[:, 0], atol=0.3 / n_beads)
    np.testing.assert_allclose(found.gdt_ha, expected[:, 1], atol=0.3 / n_beads)
    assert np.mean(found.gdt_ts == expected[:, 0]) >= 0.8
    if n_beads < 28:
        assert found.tm is None
    else:
        np.testing.assert_allclose(found.tm, expected[:, 2], atol=1e-4)


@pytest.mark.parametrize("n_beads", [6, 10, 16, 20])
def test_no_triple_of_residues_gives_more_than_the_search(n_beads: int) -> None:
    frames, native = related(12, n_beads, seed=100 + n_beads)
    found = search_scores(frames, native)
    for frame, total, high in zip(frames.astype(float), found.gdt_ts, found.gdt_ha, strict=True):
        largest = np.zeros(5)
        for triple in combinations(range(n_beads), 3):
            weights = np.zeros(n_beads)
            weights[list(triple)] = 1.0
            distances = distances_after(frame, native, weights)
            # A hair tighter, for the kernel works in single precision.
            within = [np.mean(distances <= cut - 1e-4) for cut in (0.5, 1.0, 2.0, 4.0, 8.0)]
            largest = np.maximum(largest, within)
        assert total >= largest[1:].mean() - 1e-9
        assert high >= largest[:4].mean() - 1e-9


@pytest.mark.parametrize("n_beads", [28, 56, 80])
def test_the_tm_score_is_never_below_that_of_tmtools(n_beads: int) -> None:
    frames, native = related(8, n_beads, seed=n_beads)
    found = search_scores(frames, native)
    assert found.tm is not None
    sequence = "A" * n_beads
    peer = [
        tmtools.tm_align(
            frame.astype(float), native, sequence, sequence, alignment=[sequence, sequence]
        ).tm_norm_chain2
        for frame in frames
    ]
    difference = found.tm - peer
    assert difference.min() > -1e-4
    assert difference.max() < 0.05
    # Where the structures are alike there is nothing to search for.
    assert abs(difference[0]) < 1e-4
    assert found.tm[0] > 0.999


def test_the_rotation_is_that_of_the_singular_values() -> None:
    generator = np.random.default_rng(3)
    for case in range(200):
        points = generator.normal(size=(5, 3)) * np.array([1.0, 10.0 ** -(case % 6), 1.0])
        others = generator.normal(size=(5, 3)) * 10.0 ** -(case % 3)
        if case % 4 == 0:
            # Half a turn about an axis, where the quaternion's first component is zero.
            others += points * np.array([1.0, -1.0, -1.0])
        points, others = points - points.mean(axis=0), others - others.mean(axis=0)
        covariance = points.T @ others
        found = np.array(best_rotation(tuple(covariance.ravel()))).reshape(3, 3)
        np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)
        assert np.linalg.det(found) == pytest.approx(1.0)
        expected = np.trace(rotation_by_svd(covariance) @ covariance)
        assert np.trace(found @ covariance) == pytest.approx(expected, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("kind", ["point", "line", "mirror image of a cube"])
def test_rotations_that_are_not_unique_are_still_best(kind: str) -> None:
    cube = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    points, others = {
        "point": (np.zeros((4, 3)), np.zeros((4, 3))),
        "line": (
            np.outer(np.arange(-2.0, 3.0), [1, 0, 0]),
            np.outer(np.arange(-2.0, 3), [0, 0, 1]),
        ),
        "mirror image of a cube": (cube, -cube),
    }[kind]
    covariance = points.T @ others
    found = np.array(best_rotation(tuple(covariance.ravel()))).reshape(3, 3)
    np.testing.assert_allclose(found @ found.T, np.eye(3), atol=1e-9)
    expected = np.trace(rotation_by_svd(covariance) @ covariance)
    assert np.trace(found @ covariance) == pytest.approx(expected, abs=1e-9)


# By hand


def helix(n_beads: int) -> Array:
    turn = np.radians(100.0) * np.arange(n_beads)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(n_beads)], axis=1)


def test_two_rigid_halves_count_one_half_each() -> None:
    native = helix(40)
    bent = native.copy()
    # The second half is carried off whole, further than any cutoff from where it was.
    bent[20:] = bent[20:, [1, 2, 0]] + np.array([60.0, 0.0, 0.0])
    found = search_scores(bent[None], native)
    assert found.gdt_ts[0] >= 0.5
    # 8 Å around a half is not the other half, but a bead or two beside the joint.
    assert found.gdt_ts[0] < 0.58
    assert 0.5 <= found.gdt_ha[0] < 0.53
    assert found.tm is not None
    assert 0.5 <= found.tm[0] < 0.53


@pytest.mark.parametrize("shift", [0.7, 3.0, 6.0, 20.0])
def test_half_of_the_chain_shifted(shift: float) -> None:
    """Half of the beads stay; the best fit of all of them is half the shift away from each."""
    native = random_chains(1, 40, seed=5)[0]
    moved = native.copy()
    moved[::2] += np.array([0.0, 0.0, shift])
    found = search_scores(moved[None], native)
    within = {cutoff: 1.0 if shift / 2 < cutoff else 0.5 for cutoff in (0.5, 1.0, 2.0, 4.0, 8.0)}
    assert found.gdt_ts[0] >= np.mean([within[c] for c in (1.0, 2.0, 4.0, 8.0)]) - 1e-9
    assert found.gdt_ha[0] >= np.mean([within[c] for c in (0.5, 1.0, 2.0, 4.0)]) - 1e-9
    assert found.gdt_ts[0] <= np.mean([within[c] for c in (1.0, 2.0, 4.0, 8.0)]) + 0.15


def test_the_native_structure_and_what_is_like_it() -> None:
    native = random_chains(1, 30, seed=1)[0]
    uniform = native + np.array([12.0, 0.0, 3.0])
    found = search_scores(np.stack([native, uniform, native * [1, 1, -1]]), native)
    np.testing.assert_allclose(found.gdt_ts[:2], 1.0)
    np.testing.assert_allclose(found.gdt_ha[:2], 1.0)
    assert found.tm is not None
    np.testing.assert_allclose(found.tm[:2], 1.0, atol=1e-6)
    # A mirror image is another structure.
    assert found.gdt_ts[2] < 0.8
    assert found.tm[2] < 0.8


def test_the_scale_of_the_tm_score() -> None:
    assert tm_scale(10) == tm_scale(15) == tm_scale(20) == 0.5
    assert tm_scale(80) == pytest.approx(1.24 * 65 ** (1 / 3) - 1.8)
    assert search_scores(random_chains(2, 27, seed=0), random_chains(1, 27, seed=1)[0]).tm is None


# Properties


@settings(max_examples=20, deadline=None)
@given(chains(min_beads=6, max_frames=2), rotations(), translations(50.0))
def test_rigid_motion_changes_nothing(coords: Array, rotation: Array, shift: Array) -> None:
    native = random_chains(1, coords.shape[1], seed=2)[0]
    moved = (coords @ rotation.T + shift).astype(np.float32)
    here, there = search_scores(coords, native), search_scores(moved, native)
    # A bead that lies at a cutoff may change sides.
    np.testing.assert_allclose(here.gdt_ts, there.gdt_ts, atol=0.6 / coords.shape[1])
    assert ((here.gdt_ts >= here.gdt_ha) & (here.gdt_ts <= 1.0)).all()
    assert (here.gdt_ha >= 3.0 / coords.shape[1] / 4 - 1e-9).all()


def test_threads_and_neighbours_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    frames, native = related(40, 30, seed=7)
    whole = search_scores(frames, native)
    monkeypatch.setattr(alignment_search, "_FRAMES_PER_PIECE", 3)
    told: list[float] = []
    several = search_scores(frames, native, lambda *task: told.append(task[1]), workers=4)
    alone = search_scores(frames[11:12], native)
    for name in ("gdt_ts", "gdt_ha", "tm"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(several, name))
        assert getattr(whole, name)[11] == getattr(alone, name)[0]
    assert told[-1] == 40
    assert told == sorted(told)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_a_broken_frame_keeps_to_itself(value: float) -> None:
    frames, native = related(5, 30, seed=8)
    clean = search_scores(frames, native)
    frames[2, 4, 1] = value
    broken = search_scores(frames, native)
    others = np.arange(5) != 2
    for name in ("gdt_ts", "gdt_ha", "tm"):
        found = getattr(broken, name)
        np.testing.assert_array_equal(found[others], getattr(clean, name)[others])
        if not np.isfinite(value):
            assert np.isnan(found[2])


def test_where_nothing_can_be_written_code_is_compiled_every_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr("numba.core.caching.CacheImpl.__init__", refuse)
    assert compiled(lambda number: number + 1)(2) == 3


def test_wrong_arguments_and_nothing_to_do() -> None:
    frames, native = related(3, 12, seed=9)
    assert search_scores(frames[:0], native).gdt_ts.shape == (0,)
    with pytest.raises(ValidationError, match="numbers of beads"):
        search_scores(frames, native[:-1])
    with pytest.raises(ValidationError, match="three beads"):
        search_scores(frames[:, :2], native[:2])
    with pytest.raises(ValidationError, match="not usable"):
        search_scores(frames, native * np.nan)
