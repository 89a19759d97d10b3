"""Per-frame numbers of an ensemble, and the free energies made from them."""

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_reference import COIL, NATIVE, toy_input

from cgbench.errors import IntegrityError, UsageError, ValidationError
from cgbench.evaluate import geometry, observables
from cgbench.evaluate.free_energy import free_energy_surface, smoothing_matrix
from cgbench.evaluate.msm import assign
from cgbench.evaluate.native import read_native
from cgbench.evaluate.observables import PER_FRAME, Observables, observe
from cgbench.evaluate.reference import build_from_trajectories
from cgbench.evaluate.statistic import Frames, Statistic, handedness
from cgbench.units import thermal_energy

FIELDS = (*PER_FRAME, "alive")


@pytest.fixture(scope="module")
def bundle():
    return build_from_trajectories(toy_input(n_trajectories=60)[0], n_resamples=2)


def frames(n, seed=0):
    generator = np.random.default_rng(seed)
    mixed = np.where(generator.random((n, 1, 1)) < 0.5, NATIVE, COIL)
    return (mixed + generator.normal(scale=0.2, size=(n, 10, 3))).astype(np.float32)


def test_numbers_are_those_of_the_geometry_functions(bundle):
    first, second = frames(30), frames(12, seed=1)
    found = observe(bundle, [first, second])
    joined = np.concatenate([first, second])
    tics = bundle.tica.transform(geometry.pair_distances(joined))
    np.testing.assert_array_equal(found.trajectory, [0] * 30 + [1] * 12)
    np.testing.assert_allclose(found.tics, tics, rtol=1e-6)
    np.testing.assert_array_equal(found.microstate, assign(found.tics, bundle.centres)[0])
    np.testing.assert_allclose(found.rg, geometry.radius_of_gyration(joined), rtol=1e-6)
    np.testing.assert_allclose(found.rmsd, geometry.rmsd(joined, NATIVE), rtol=1e-6)
    np.testing.assert_allclose(found.q, geometry.q_native(joined, NATIVE), rtol=1e-6)
    np.testing.assert_allclose(found.centre_distance, assign(found.tics, bundle.centres)[1])
    native = geometry.dihedrals(NATIVE[None])[0]
    turned = np.abs(np.sin(native)) > np.sin(np.radians(20.0))
    same = (geometry.dihedrals(joined) >= 0) == (native >= 0)
    np.testing.assert_allclose(found.handedness, same[:, turned].mean(axis=1), rtol=1e-6)
    ends = np.linalg.norm(joined[:, -1] - joined[:, 0], axis=1)
    np.testing.assert_allclose(found.end_to_end, ends, rtol=1e-6)
    assert found.alive.all()
    assert found.n_frames == 42


def test_chunks_do_not_matter(bundle, monkeypatch):
    trajectories = [frames(200), frames(0), frames(77, seed=1)]
    whole = observe(bundle, trajectories, [150, 0, 77])
    monkeypatch.setattr(observables, "_CHUNK_BYTES", 1)
    seen = []
    chunked = observe(
        bundle, trajectories, [150, 0, 77], lambda task, done, total: seen.append((done, total))
    )
    for name in FIELDS:
        np.testing.assert_allclose(
            getattr(chunked, name), getattr(whole, name), rtol=1e-5, atol=1e-5
        )
    # A chunk may end one trajectory and begin the next.
    assert seen == [(64, 277), (128, 277), (192, 277), (256, 277), (277, 277)]
    for workers in (1, 2, 5):
        again = observe(bundle, trajectories, [150, 0, 77], workers=workers)
        for name in FIELDS:
            np.testing.assert_array_equal(getattr(again, name), getattr(chunked, name))
    assert chunked.n_trajectories == 3


@pytest.mark.parametrize("damage", [np.nan, np.inf, -np.inf, 1e30])
def test_damaged_frames_are_dead_and_harm_no_other(bundle, damage):
    trajectory = frames(20)
    healthy = observe(bundle, [trajectory])
    trajectory[7, 3, 1] = damage
    found = observe(bundle, [trajectory])
    np.testing.assert_array_equal(np.flatnonzero(~found.alive), [7])
    others = np.arange(20) != 7
    for name in FIELDS:
        values = getattr(found, name)
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(values[others], getattr(healthy, name)[others])
    assert found.rmsd[7] == pytest.approx(0.0, abs=1e-3)


def test_frames_from_the_first_bad_one_on_are_dead(bundle):
    trajectory = frames(20)
    trajectory[12:] = 5e5
    found = observe(bundle, [trajectory, frames(5)], alive_until=[12, 5])
    np.testing.assert_array_equal(found.alive, [True] * 12 + [False] * 8 + [True] * 5)
    assert np.isfinite(found.tics).all()
    assert np.abs(found.rg).max() < 20.0


def test_input_of_another_shape_is_refused(bundle):
    with pytest.raises(ValidationError, match="trajectory 1 has the wrong shape"):
        observe(bundle, [frames(3), frames(3)[:, :9]])
    with pytest.raises(ValidationError, match="alive_until"):
        observe(bundle, [frames(3)], alive_until=[3, 3])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.data())
@settings(max_examples=40, deadline=None)
def test_selected_trajectories_are_numbered_anew(lengths, data):
    n = sum(lengths)
    generator = np.random.default_rng(n)
    whole = Observables(
        trajectory=np.repeat(np.arange(len(lengths), dtype=np.int32), lengths),
        microstate=generator.integers(5, size=n).astype(np.int32),
        tics=generator.normal(size=(n, 2)).astype(np.float32),
        rg=np.arange(n, dtype=np.float32),
        end_to_end=generator.random(n).astype(np.float32),
        q=generator.random(n).astype(np.float32),
        rmsd=generator.random(n).astype(np.float32),
        handedness=generator.random(n).astype(np.float32),
        centre_distance=generator.random(n).astype(np.float32),
        alive=generator.random(n) < 0.5,
        n_trajectories=len(lengths),
    )
    chosen = data.draw(st.lists(st.integers(0, len(lengths) - 1), max_size=6))
    part = whole.select(chosen)
    assert part.n_trajectories == len(chosen)
    assert part.n_frames == sum(lengths[index] for index in chosen)
    for new, old in enumerate(chosen):
        for name in FIELDS:
            np.testing.assert_array_equal(
                getattr(part, name)[part.trajectory == new],
                getattr(whole, name)[whole.trajectory == old],
            )
    with pytest.raises(ValidationError, match="out of range"):
        whole.select([len(lengths)])


def test_a_mirror_image_has_the_contacts_but_not_the_handedness():
    native = geometry.dihedrals(NATIVE[None])[0].astype(np.float32)
    mirror = NATIVE * np.array([1, 1, -1], dtype=np.float32)
    both = np.stack([NATIVE, mirror])
    np.testing.assert_allclose(handedness(both, native), [1.0, 0.0])
    np.testing.assert_allclose(*geometry.q_native(both, NATIVE), rtol=1e-6)
    # Flat dihedrals do not count: turned the other way, they change nothing.
    other = native.copy()
    turned = np.abs(np.sin(native)) > np.sin(np.radians(20.0))
    assert turned.any()
    other[~turned] *= -1
    np.testing.assert_allclose(handedness(both, other), [1.0, 0.0])
    other = native.copy()
    other[np.flatnonzero(turned)[0]] *= -1
    assert handedness(both, other)[0] == pytest.approx(1.0 - 1.0 / turned.sum())
    np.testing.assert_allclose(handedness(both, np.zeros_like(native)), [1.0, 1.0])


def test_frames_are_what_the_geometry_functions_say(bundle):
    block = frames(20)
    found = Frames(block, bundle.definition)
    np.testing.assert_allclose(found.bonds, geometry.bond_lengths(block))
    np.testing.assert_allclose(found.angles, geometry.bond_angles(block), rtol=1e-5)
    np.testing.assert_allclose(found.dihedrals, geometry.dihedrals(block), rtol=1e-5)
    assert found.distances is found.distances
    assert len(found) == 20
    with pytest.raises(ValidationError, match="wrong shape"):
        Frames(block[:, :9], bundle.definition)


@pytest.mark.parametrize(
    ("kind", "measure", "message"),
    [
        ("bins", lambda frames: np.full((len(frames), 2), 3), "out of range"),
        ("bins", lambda frames: np.full((len(frames), 2), -2), "out of range"),
        ("bins", lambda frames: np.zeros((len(frames), 2)), "bins cannot be used"),
        ("bins", lambda frames: np.zeros(len(frames), dtype=int), "bins cannot be used"),
        ("sums", lambda frames: np.zeros((len(frames), 2)), "sums cannot be used"),
        ("sums", lambda frames: np.full((len(frames), 3), np.nan), "sums cannot be used"),
    ],
)
def test_statistics_that_cannot_be_used(bundle, kind, measure, message):
    wrong = Statistic("x", 1, "subset", kind, lambda _: 3, lambda frames, _: measure(frames))
    with pytest.raises(ValidationError, match=message):
        wrong.measured(Frames(frames(4), bundle.definition), bundle.definition)


def test_smoothing_spreads_a_bin_as_a_gaussian_does():
    edges = np.array([0.0, 0.5, 0.7, 1.5, 3.0])
    matrix = smoothing_matrix(edges, 0.3)
    for source in range(4):
        low, high = edges[source], edges[source + 1]
        for target in range(4):

            def received(position, target=target):
                inside = scipy.stats.norm.cdf(edges[target : target + 2], position, 0.3)
                return inside[1] - inside[0]

            expected = scipy.integrate.quad(received, low, high)[0] / (high - low)
            assert matrix[target, source] == pytest.approx(expected, abs=1e-10)
    np.testing.assert_array_equal(smoothing_matrix(edges, 0.0), np.eye(4))
    wide = smoothing_matrix(np.linspace(-10.0, 10.0, 41), 0.1)
    np.testing.assert_allclose(wide[:, 20].sum(), 1.0, atol=1e-12)
    # A constant density stays what it is away from the ends.
    np.testing.assert_allclose((wide @ np.ones(41 - 1))[5:-5], 1.0, atol=1e-12)


def test_free_energy_is_the_logarithm_of_the_population():
    probability = np.array([[0.5, 0.25], [0.25, 0.0]])
    edges = np.array([[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    found = free_energy_surface(probability, edges, np.zeros(2), 350.0)
    kt = thermal_energy(350.0)
    expected = [[0.0, kt * np.log(2)], [kt * np.log(2), np.inf]]
    np.testing.assert_allclose(found, expected)
    np.testing.assert_allclose(
        free_energy_surface(probability * 7, edges, np.zeros(2), 350.0), expected
    )
    smoothed = free_energy_surface(probability, edges, np.full(2, 0.2), 350.0)
    assert np.isfinite(smoothed).all()
    assert smoothed.min() == 0.0
    empty = free_energy_surface(np.zeros((2, 2)), edges, np.full(2, 0.2), 350.0)
    assert np.isinf(empty).all()


LINE = "ATOM  {serial:5d}  CA {alternate}{name} A{number:4d}    {x:8.3f}{y:8.3f}{z:8.3f}\n"


def pdb(names, alternate=" ", start=1):
    return "".join(
        LINE.format(serial=i, alternate=alternate, name=name, number=i, x=i, y=2.0, z=-1.5)
        for i, name in enumerate(names, start=start)
    )


def test_native_conformer_is_read_from_alpha_carbons_of_the_first_model(tmp_path):
    path = tmp_path / "native.pdb"
    calcium = "HETATM   99 CA    CA A  99       9.000   9.000   9.000\n"
    other = "ATOM      2  N   GLY A   1       7.000   7.000   7.000\n"
    again = pdb(["TYR"], alternate="B").replace("2.000", "8.000")
    content = other + pdb(["TYR"], alternate="A") + again + pdb(["GLY"], start=2) + calcium
    path.write_text(f"MODEL        1\n{content}ENDMDL\n{pdb(['ALA', 'ALA'])}")
    np.testing.assert_allclose(read_native(path, "YG"), [[1.0, 2.0, -1.5], [2.0, 2.0, -1.5]])


def test_a_native_conformer_that_does_not_fit_is_refused(tmp_path):
    path = tmp_path / "native.pdb"
    path.write_text(pdb(["TYR", "GLY"]))
    with pytest.raises(ValidationError, match="not those of the system"):
        read_native(path, "YGA")
    with pytest.raises(UsageError):
        read_native(tmp_path / "none.pdb", "YG")
    path.write_text(pdb(["TYR", "GLY"]).replace("   2.000", "   two  "))
    with pytest.raises(IntegrityError, match="line 1"):
        read_native(path, "YG")
    path.write_text(pdb(["TYR", "GLY"]).replace("   2.000", "     nan"))
    with pytest.raises(IntegrityError, match="line 1"):
        read_native(path, "YG")
    path.write_text(pdb(["TYR", "XXX"]))
    with pytest.raises(ValidationError, match="XXX"):
        read_native(path, "YX")
