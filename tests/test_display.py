"""What a scored row keeps to be drawn, and its file."""

from dataclasses import replace

import numpy as np
import pytest
from toy_rows import bundle, samples, scored, trajectories

from cgbench.errors import IntegrityError
from cgbench.evaluate import DrawnFrames, geometry, read_scored, write_scored
from cgbench.evaluate import scored as scored_module
from cgbench.evaluate.display import reference_frames


@pytest.fixture(scope="module")
def row():
    return scored(trajectories())


def plain_density(values, weights, edges):
    """Weighted density on edges, one value at a time."""
    mass = np.zeros(len(edges) - 1)
    for value, weight in zip(values, weights, strict=True):
        place = np.searchsorted(edges, value, side="right") - 1
        if 0 <= place < len(mass):
            mass[place] += weight
    return mass / mass.sum() / np.diff(edges)


def test_densities_are_those_of_the_frames(row):
    frames = reference_frames(bundle(), bundle().stationary)
    assert isinstance(frames, DrawnFrames)
    shown = row.display.marginals["bond"]
    bonds = geometry.bond_lengths(frames.coordinates)
    weights = np.repeat(frames.weights, bonds.shape[1])
    expected = plain_density(bonds.ravel(), weights, shown.edges)
    # Weights of the comparison's own resample-free estimate are the stationary ones.
    np.testing.assert_allclose(shown.reference, expected, atol=0.02 * expected.max())
    for name in (
        "bond",
        "angle",
        "pair_distance",
        "dihedral1",
        f"dihedral{len(bundle().native) - 3}",
    ):
        marginal = row.display.marginals[name]
        for density in (marginal.reference, marginal.model):
            assert (density * np.diff(marginal.edges)).sum() == pytest.approx(1.0)


def test_contacts_are_shares_of_the_frames(row):
    contacts = row.display.contacts
    for side in (contacts.reference, contacts.model):
        np.testing.assert_array_equal(side, side.T)
        np.testing.assert_array_equal(np.diag(side), 1.0)
        assert side.min() >= 0.0
        assert side.max() <= 1.0 + 1e-12
    frames = reference_frames(bundle(), bundle().stationary)
    ends = np.linalg.norm(frames.coordinates[:, 0] - frames.coordinates[:, -1], axis=1)
    share = frames.weights @ (ends < 10.0) / frames.weights.sum()
    assert contacts.reference[0, -1] == pytest.approx(share, abs=0.02)


def test_structures_lie_in_their_macrostate_and_the_first_is_the_nearest(row):
    structures = row.display.structures
    n_macrostates = bundle().metadata.n_macrostates
    assert structures.shape == (n_macrostates, 4, *bundle().native.shape)
    for index, target in enumerate(bundle().macrostate_structures):
        shown = structures[index]
        present = np.isfinite(shown).all(axis=(1, 2))
        assert present[0]
        distances = geometry.rmsd(shown[present], target)
        assert distances.argmin() == 0
        # Superposed as they are: no rotation makes them nearer.
        still = np.sqrt(((shown[present] - target) ** 2).sum(axis=-1).mean(axis=-1))
        np.testing.assert_allclose(still, distances, atol=1e-3)


def test_a_macrostate_that_is_never_visited_has_no_structure():
    shown = scored(samples(1.0)).display
    populations = [state.model_population for state in shown.macrostates]
    for population, structures in zip(populations, shown.structures, strict=True):
        assert np.isfinite(structures).any() == (population > 0.0)
    assert min(populations) == 0.0


def test_profiles_have_least_value_zero_and_hold_their_interval(row):
    for name in ("tic1", "tic2"):
        profile = row.display.profiles[name]
        assert len(profile.x) <= 200
        for side in ("reference", "model"):
            energy = getattr(profile, side)
            assert energy[np.isfinite(energy)].min() == pytest.approx(0.0)
            lo, hi = getattr(profile, f"{side}_lo"), getattr(profile, f"{side}_hi")
            low = energy < 2.0
            assert np.mean((lo <= energy + 1e-9)[low] & (energy <= hi + 1e-9)[low]) > 0.7


def test_files_keep_everything(row, tmp_path):
    for name, wanted in (
        ("whole", row.display),
        ("bare", replace(row.display, contacts=None, structures=None)),
    ):
        path = tmp_path / f"{name}.npz"
        write_scored(path, replace(row, display=wanted))
        found = read_scored(path).display
        assert list(found.marginals) == list(wanted.marginals)
        assert list(found.profiles) == ["tic1", "tic2"]
        np.testing.assert_array_equal(
            found.profiles["tic1"].model_lo, wanted.profiles["tic1"].model_lo
        )
        if wanted.contacts is None:
            assert found.contacts is None
            assert found.structures is None
        else:
            np.testing.assert_array_equal(found.contacts.model, wanted.contacts.model)
            np.testing.assert_array_equal(found.structures, wanted.structures)


def test_rows_of_an_older_version_say_what_to_do(row, tmp_path, monkeypatch):
    path = tmp_path / "old.npz"
    monkeypatch.setattr(scored_module, "_VERSION", 1)
    write_scored(path, row)
    monkeypatch.undo()
    with pytest.raises(IntegrityError, match="cgbench evaluate"):
        read_scored(path)
