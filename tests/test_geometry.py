"""Distances, angles, contacts and bad frames against peers and hand-made cases."""

from pathlib import Path
from typing import Any

import mdtraj
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import pdist

from cgbench import registry
from cgbench.errors import ValidationError
from cgbench.evaluate import geometry
from cgbench.testing.strategies import (
    broken_values,
    chain_from_internal,
    chains,
    random_chains,
    rotations,
    translations,
)
from cgbench.units import ANGSTROM_PER_NANOMETRE

Array = NDArray[Any]

CUBE_CORNERS = np.array(
    [[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)], dtype=np.float64
)
FRAME_FUNCTIONS = {
    "pair_distances": geometry.pair_distances,
    "bond_lengths": geometry.bond_lengths,
    "radius_of_gyration": geometry.radius_of_gyration,
    "end_to_end": geometry.end_to_end,
    "bond_angles": geometry.bond_angles,
    "dihedrals": geometry.dihedrals,
}


def as_trajectory(coords: Array) -> mdtraj.Trajectory:
    topology = mdtraj.Topology()
    chain = topology.add_chain()
    for _ in range(coords.shape[1]):
        residue = topology.add_residue("ALA", chain)
        topology.add_atom("CA", mdtraj.element.carbon, residue)
    return mdtraj.Trajectory(coords.astype(np.float64) / ANGSTROM_PER_NANOMETRE, topology)


def read_native(path: Path) -> Array:
    lines = [line for line in path.read_text().splitlines() if line.startswith("ATOM")]
    return np.array([[float(line[k : k + 8]) for k in (30, 38, 46)] for line in lines])


# Distances, angles, sizes


@given(chains(min_beads=2, max_beads=30, dtype=np.float64))
def test_pair_distances_are_those_of_scipy(coords: Array) -> None:
    expected = np.stack([pdist(frame) for frame in coords])
    result = geometry.pair_distances(coords.astype(np.float32))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, rtol=3e-6, atol=1e-5)
    pairs = geometry.pair_indices(coords.shape[1])
    assert pairs.tolist() == [
        [i, j] for i in range(coords.shape[1]) for j in range(i + 1, coords.shape[1])
    ]


def test_chosen_pairs_and_separations() -> None:
    coords = random_chains(3, 12, seed=1)
    pairs = geometry.pair_indices(12, 4)
    assert (pairs[:, 1] - pairs[:, 0]).min() == 4
    assert len(pairs) == 8 * 9 // 2
    chosen = geometry.pair_distances(coords, pairs)
    everything = geometry.pair_distances(coords)
    order = {tuple(pair): k for k, pair in enumerate(geometry.pair_indices(12).tolist())}
    columns = [order[tuple(pair)] for pair in pairs.tolist()]
    np.testing.assert_array_equal(chosen, everything[:, columns])


def test_angles_dihedrals_and_size_are_those_of_mdtraj() -> None:
    coords = random_chains(300, 15, seed=2)
    trajectory = as_trajectory(coords)
    triples = np.arange(13)[:, None] + np.arange(3)
    quadruples = np.arange(12)[:, None] + np.arange(4)
    np.testing.assert_allclose(
        geometry.bond_angles(coords), mdtraj.compute_angles(trajectory, triples), atol=2e-5
    )
    difference = geometry.dihedrals(coords) - mdtraj.compute_dihedrals(trajectory, quadruples)
    np.testing.assert_allclose(np.sin(difference / 2), 0.0, atol=2e-5)
    np.testing.assert_allclose(
        geometry.radius_of_gyration(coords),
        mdtraj.compute_rg(trajectory) * ANGSTROM_PER_NANOMETRE,
        rtol=1e-5,
    )


@given(st.integers(4, 25), st.integers(0, 2**32 - 1))
def test_internal_coordinates_go_round(n_beads: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    bonds = generator.uniform(3.6, 4.0, (2, n_beads - 1))
    angles = generator.uniform(0.5, 2.8, (2, n_beads - 2))
    dihedrals = generator.uniform(-3.14, 3.14, (2, n_beads - 3))
    coords = chain_from_internal(bonds, angles, dihedrals)
    np.testing.assert_allclose(geometry.bond_lengths(coords), bonds, rtol=1e-5)
    np.testing.assert_allclose(geometry.bond_angles(coords), angles, atol=1e-9)
    turned = geometry.dihedrals(coords) - dihedrals
    np.testing.assert_allclose(np.sin(turned / 2), 0.0, atol=1e-8)


def test_dihedral_signs_by_hand() -> None:
    # Looking from the second bead to the third, along +z, +x turns clockwise to +y.
    near, second, third = [1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]
    ends = {0.0: [1, 0, 1], 90.0: [0, 1, 1], -90.0: [0, -1, 1], 180.0: [-1, 0, 1]}
    coords = np.array([[near, second, third, end] for end in ends.values()], dtype=np.float64)
    found = np.degrees(geometry.dihedrals(coords))[:, 0]
    np.testing.assert_allclose(np.abs(found[3]), 180.0)
    np.testing.assert_allclose(found[:3], list(ends)[:3], atol=1e-12)


def test_a_right_handed_helix_has_the_dihedral_of_alpha_helices() -> None:
    # 100° and 1.5 Å for each residue at radius 2.3 Å: Cα dihedrals of about +50°.
    turn = np.radians(100.0) * np.arange(12)
    helix = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(12)], axis=1)
    found = np.degrees(geometry.dihedrals(helix[None]))
    assert np.ptp(found) < 1e-9
    assert 45.0 < found.mean() < 55.0


def test_sizes_by_hand() -> None:
    rod = np.array([[[0.0, 0, 0], [3.0, 0, 0], [6.0, 0, 0], [6.0, 4.0, 0]]])
    np.testing.assert_allclose(geometry.end_to_end(rod), [np.sqrt(52.0)])
    np.testing.assert_allclose(geometry.bond_lengths(rod), [[3.0, 3.0, 4.0]])
    np.testing.assert_allclose(geometry.bond_angles(rod), [[np.pi, np.pi / 2]])
    np.testing.assert_allclose(geometry.radius_of_gyration(CUBE_CORNERS[None]), [np.sqrt(3.0)])
    # Three beads on a line have no dihedral; it is 0 by definition.
    np.testing.assert_array_equal(geometry.dihedrals(rod), [[0.0]])


@given(chains(dtype=np.float64), rotations(), translations())
def test_rigid_motion_changes_nothing_internal(
    coords: Array, rotation: Array, shift: Array
) -> None:
    moved = coords @ rotation.T + shift
    for name in ("pair_distances", "radius_of_gyration", "end_to_end", "bond_angles"):
        function = FRAME_FUNCTIONS[name]
        np.testing.assert_allclose(function(moved), function(coords), rtol=1e-4, atol=1e-4)
    turned = geometry.dihedrals(moved) - geometry.dihedrals(coords)
    np.testing.assert_allclose(np.sin(turned / 2), 0.0, atol=1e-7)


@given(chains(dtype=np.float64))
def test_a_mirror_image_has_the_distances_and_the_opposite_dihedrals(coords: Array) -> None:
    mirrored = coords * np.array([1.0, 1.0, -1.0])
    np.testing.assert_array_equal(
        geometry.pair_distances(mirrored), geometry.pair_distances(coords)
    )
    np.testing.assert_allclose(
        np.sin(geometry.dihedrals(mirrored)), -np.sin(geometry.dihedrals(coords)), atol=1e-12
    )


# Native contacts, bad frames


def test_native_contacts_by_loops() -> None:
    coords = random_chains(40, 14, seed=8)
    native = coords[0]
    total = np.zeros(40)
    count = 0
    for i in range(14):
        for j in range(i + 4, 14):
            native_distance = np.linalg.norm(native[i] - native[j])
            if native_distance < 10.0:
                count += 1
                distance = np.linalg.norm(coords[:, i] - coords[:, j], axis=1)
                total += 1.0 / (1.0 + np.exp(5.0 * (distance - 1.2 * native_distance)))
    pairs, distances = geometry.native_contacts(native)
    assert len(pairs) == len(distances) == count > 3
    np.testing.assert_allclose(geometry.q_native(coords, native), total / count, rtol=1e-9)


def test_native_contacts_agree_with_the_peers_distances() -> None:
    coords = random_chains(50, 16, seed=9).astype(np.float32)
    pairs, native_distances = geometry.native_contacts(coords[0])
    trajectory = as_trajectory(coords)
    distances = mdtraj.compute_distances(trajectory, pairs, periodic=False) * ANGSTROM_PER_NANOMETRE
    expected = np.mean(1 / (1 + np.exp(5.0 * (distances - 1.2 * native_distances))), axis=1)
    np.testing.assert_allclose(geometry.q_native(coords, coords[0]), expected, atol=1e-5)


@given(chains(min_beads=8, dtype=np.float64), rotations(), translations())
def test_native_contacts_lie_between_zero_and_one(
    coords: Array, rotation: Array, shift: Array
) -> None:
    native = chain_from_internal(
        np.full((1, coords.shape[1] - 1), 3.8),
        np.full((1, coords.shape[1] - 2), np.radians(91.0)),
        np.full((1, coords.shape[1] - 3), np.radians(50.0)),
    )
    values = geometry.q_native(coords, native[0])
    assert ((values >= 0) & (values <= 1)).all()
    np.testing.assert_allclose(
        geometry.q_native(coords @ rotation.T + shift, native[0]), values, atol=1e-6
    )
    assert geometry.q_native(native, native[0])[0] > 0.99
    assert geometry.q_native(native * 1000.0, native[0])[0] == 0.0


def test_a_structure_without_contacts_is_refused() -> None:
    rod = np.zeros((10, 3))
    rod[:, 0] = 3.8 * np.arange(10)
    with pytest.raises(ValidationError, match="no contact"):
        geometry.q_native(rod[None], rod)


@pytest.mark.data
def test_folded_and_unfolded_frames_of_the_sample_are_apart(chignolin_dir: Path) -> None:
    coords = np.load(chignolin_dir / "chignolin_ca_coords.npy", mmap_mode="r")[::25]
    native = read_native(chignolin_dir / "native_ca.pdb")
    fraction, deviation = geometry.q_native(coords, native), geometry.rmsd(coords, native)
    constants = registry.constants()
    folded, unfolded = fraction >= constants.folded_q, fraction < constants.unfolded_q
    assert folded.sum() > 100
    assert unfolded.sum() > 100
    assert np.median(deviation[folded]) < 1.0
    assert np.percentile(deviation[unfolded], 1) > 2.0
    # The threshold lies in the valley: fewer frames near it than in either basin.
    near = np.abs(fraction - constants.folded_q) < 0.1
    assert near.sum() < 0.2 * folded.sum()


@given(chains(min_frames=3, max_frames=6), broken_values(), st.data())
def test_a_broken_coordinate_spoils_its_own_frame_only(
    coords: Array, value: float, data: st.DataObject
) -> None:
    frame = data.draw(st.integers(0, len(coords) - 1))
    bead = data.draw(st.integers(0, coords.shape[1] - 1))
    broken = coords.copy()
    broken[frame, bead, data.draw(st.integers(0, 2))] = value
    others = np.arange(len(coords)) != frame
    reference = coords[0]
    for name, function in FRAME_FUNCTIONS.items():
        result = function(broken)
        np.testing.assert_allclose(result[others], function(coords)[others], err_msg=name)
        if name != "end_to_end" or bead in (0, coords.shape[1] - 1):
            assert not np.isfinite(result[frame]).all(), name
    assert np.isnan(geometry.rmsd(broken, reference)[frame])
    np.testing.assert_allclose(
        geometry.rmsd(broken, reference)[others], geometry.rmsd(coords, reference)[others]
    )
    superposed = geometry.superpose(broken, reference)
    assert np.isnan(superposed[frame]).all()
    assert np.isfinite(superposed[others]).all()
    np.testing.assert_array_equal(geometry.bad_frames(broken), ~others)
    native = CUBE_CORNERS[np.arange(coords.shape[1]) % 8] * 2.0
    if coords.shape[1] > 4:
        fraction = geometry.q_native(broken, native)
        assert np.isnan(fraction[frame])
        assert np.isfinite(fraction[others]).all()


def test_frames_that_are_large_but_finite_give_no_exception() -> None:
    coords = random_chains(4, 10, seed=0).astype(np.float32)
    coords[1] *= 1e25
    coords[2] = 3e38
    np.testing.assert_array_equal(geometry.bad_frames(coords), [False, True, True, False])
    with np.errstate(all="raise"):
        for function in FRAME_FUNCTIONS.values():
            function(coords)
        finite = np.isfinite(geometry.rmsd(coords, coords[0]))
        geometry.clashes(coords)
    assert finite[[0, 3]].all()


def test_bad_frames_and_clashes_at_their_limits() -> None:
    rod = np.zeros((7, 8, 3))
    rod[:, :, 0] = 3.8 * np.arange(8)
    for frame, length in enumerate([3.8, 2.49, 2.51, 5.49, 5.51]):
        rod[frame, 7, 0] = rod[frame, 6, 0] + length
    rod[5, 4:] = rod[5, :4] + [0.0, 3.4, 0.0]
    rod[5, 4:] = rod[5, 4:][::-1]
    rod[6, 4:] = rod[6, :4] + [0.0, 3.6, 0.0]
    rod[6, 4:] = rod[6, 4:][::-1]
    np.testing.assert_array_equal(
        geometry.bad_frames(rod), [False, True, False, False, True, False, False]
    )
    # A hairpin with strands 3.4 Å apart: three pairs face each other, three or more bonds apart.
    np.testing.assert_array_equal(geometry.clashes(rod), [0, 0, 0, 0, 0, 3, 0])


# Shapes


@pytest.mark.parametrize("n_beads", [10, 80])
def test_the_length_of_a_piece_does_not_matter(
    n_beads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    coords = random_chains(100, n_beads, seed=4).astype(np.float32)
    native = coords[0]

    def everything() -> list[Array]:
        results = [function(coords) for function in FRAME_FUNCTIONS.values()]
        results += [geometry.clashes(coords), geometry.bad_frames(coords)]
        results += [function(coords, native) for function in (geometry.rmsd, geometry.q_native)]
        return [*results, geometry.superpose(coords, native)]

    whole = everything()
    monkeypatch.setattr("cgbench.evaluate.superposition._PIECE_BYTES", 20_000)
    for one, other in zip(whole, everything(), strict=True):
        assert len(one) == 100
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-5)


def test_no_frames_give_no_rows() -> None:
    empty = np.zeros((0, 10, 3), dtype=np.float32)
    native = random_chains(1, 10, seed=0)[0]
    for function in (*FRAME_FUNCTIONS.values(), geometry.bad_frames, geometry.clashes):
        assert len(function(empty)) == 0
    assert geometry.rmsd(empty, native).shape == (0,)
    assert geometry.q_native(empty, native).shape == (0,)
    assert geometry.superpose(empty, native).shape == (0, 10, 3)


@pytest.mark.parametrize(
    "coords", [np.zeros((10, 3)), np.zeros((2, 10, 2)), np.zeros((2, 3, 3))], ids=str
)
def test_wrong_shapes_are_refused(coords: Array) -> None:
    with pytest.raises(ValidationError, match="wrong shape"):
        geometry.dihedrals(coords)


@pytest.mark.parametrize("function", [geometry.rmsd, geometry.superpose, geometry.q_native])
def test_unusable_references_are_refused(function: Any) -> None:
    coords = random_chains(2, 10, seed=0)
    with pytest.raises(ValidationError, match="numbers of beads"):
        function(coords, coords[0, :9])
    broken = coords[0].copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValidationError, match="not usable"):
        function(coords, broken)
    with pytest.raises(ValidationError, match="not usable"):
        function(coords, coords)
